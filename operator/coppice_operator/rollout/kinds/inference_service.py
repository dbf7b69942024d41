"""A KServe InferenceService: the model reference is spec.predictor.model.storageUri.

Its status does not say whether it speaks of the present spec: observedGeneration is copied from the Deployment or the
Knative Service that KServe makes (kserve/kserve#6081), and Ready stays True while a Deployment of it rolls (#4626). The
Deployments of its predictor do: KServe writes the storageUri that their pods load into an annotation of the template.
So it is judged by them, and by its own conditions and generations only where it has none.

The value is the bare URI: KServe's storage initializer takes a fragment for a part of the path, so the digest cannot
travel with it.
"""

from __future__ import annotations

from datetime import datetime

from coppice_api.modelrollout import RolloutModel, Target, TargetKey, TargetKind
from coppice_operator.plan import JsonObject, JsonPatchObject
from coppice_operator.rollout.kinds.deployment import Deployment
from coppice_operator.rollout.kinds.workload import FieldUnreadableError, Where, Workload

API_VERSION = "serving.kserve.io/v1beta1"
LABEL_SERVICE = "serving.kserve.io/inferenceservice"
LABEL_COMPONENT = "component"
LABEL_REVISION = "serving.knative.dev/revision"
ANNOTATION_SOURCE = "internal.serving.kserve.io/storage-initializer-sourceuri"
ANNOTATION_STOP = "serving.kserve.io/stop"
ANNOTATION_MODE = "serving.kserve.io/deploymentMode"
_AT = "/spec/predictor/model/storageUri"
_STUCK = ("BlockedByFailedLoad", "InvalidSpec")


def service_of(deployment: JsonObject) -> str | None:
    """Return the InferenceService whose predictor a Deployment is, or None."""
    labels = deployment["metadata"].get("labels") or {}
    return labels.get(LABEL_SERVICE) if labels.get(LABEL_COMPONENT) == "predictor" else None


class InferenceService(Workload):
    """serving.kserve.io/v1beta1 InferenceService."""

    api_version = API_VERSION
    made_of = (TargetKind.DEPLOYMENT,)

    def where(self, target: Target) -> Where:
        """Return the only place there is."""
        self._model()
        return Where()

    def held(self, where: Where) -> str | None:
        """Return spec.predictor.model.storageUri.

        Raises:
            FieldUnreadableError: If the model comes from elsewhere.
        """
        value = self._model().get("storageUri")
        return None if value is None else self.bounded(value, "storageUri")

    @staticmethod
    def reference(model: RolloutModel) -> str:
        """Return the bare URI."""
        return model.uri.partition("#")[0]

    def giving(self, where: Where, value: str) -> JsonPatchObject:
        """Return a patch that holds only while the field is what it was.

        No server-side apply: with KServe's minimal CRD spec is one value, and it would take the rest away.
        """
        before = self.held(where)
        if before is None:
            return self._patch({"op": "add", "path": _AT, "value": value})
        test: JsonObject = {"op": "test", "path": _AT, "value": before}
        return self._patch(test, {"op": "replace", "path": _AT, "value": value})

    def removing(self, where: Where, value: str) -> JsonPatchObject:
        """Return the patch that removes a storageUri which did not exist before."""
        return self._patch({"op": "test", "path": _AT, "value": value}, {"op": "remove", "path": _AT})

    def unhealthy(self) -> str | None:
        """It must run, be ready, serve all traffic from one revision, and have acted on its last change."""
        metadata, predictor = self.body["metadata"], self.spec.get("predictor") or {}
        annotations = metadata.get("annotations") or {}
        if annotations.get(ANNOTATION_STOP) == "true":
            return f"{self.key} is stopped (annotation {ANNOTATION_STOP})"
        if "ModelMesh" in (annotations.get(ANNOTATION_MODE), self.status.get("deploymentMode")):
            return f"{self.key} is served by ModelMesh, whose pods are not its own: a rollout cannot judge them"
        if (share := predictor.get("canaryTrafficPercent")) not in (None, 100):
            return f"{self.key} divides its traffic itself (canaryTrafficPercent {share}): finish that first"
        ready = self.condition("Ready") or {}
        if ready.get("status") != "True":
            said = self.hint() or ready.get("message") or ready.get("reason")
            return f"{self.key} is not ready" + (f": {said}" if said else "")
        if not self.complete(self.held(Where())):
            return f"{self.key} has a change that is not in all of its pods yet"
        return None

    def complete(self, value: str | None) -> bool:
        """It is ready, and so are the Deployments of its newest revision, which load the value."""
        ready = self.condition("Ready") or {}
        if ready.get("status") != "True" or self._transition() in _STUCK or not self._settled():
            return False
        if parts := self._current():
            return all(_source(part.body) == value and part.complete(None) for part in parts)
        return self.observed() and self._transition() != "InProgress"

    def available_pods(self) -> int:
        """Return how many pods of its newest revision are available."""
        return sum(part.available_pods() for part in self._current())

    def down(self) -> bool:
        """Return whether it says that it is not ready."""
        return (self.condition("Ready") or {}).get("status") == "False"

    def down_since(self) -> datetime | None:
        """Return since when it says so."""
        return self.since("Ready", "False")

    def failed(self) -> bool:
        """Return whether KServe cannot use the spec, or a Deployment of its newest revision has given up."""
        return self._transition() == "InvalidSpec" or any(part.failed() for part in self._current())

    def hint(self) -> str | None:
        """Return what KServe says of a model that does not load."""
        failure = (self.status.get("modelStatus") or {}).get("lastFailureInfo") or {}
        words = ": ".join(filter(None, (failure.get("reason"), failure.get("message"))))
        return f"KServe says {words}"[:400] if words else None

    @staticmethod
    def pods(names: str) -> str:
        """Return the names of a predictor's pods: a Deployment's, or those of a Knative revision."""
        return f"{names}-predictor(-default)?(-[0-9]+-deployment)?-[a-z0-9]+-[a-z0-9]+"

    def _model(self) -> JsonObject:
        predictor = self.spec.get("predictor") or {}
        model: JsonObject | None = predictor.get("model")
        if not model:
            raise FieldUnreadableError(
                f"{self.key} has no spec.predictor.model: give it one with storageUri, in place of its own containers "
                "or of a field named after a framework"
            )
        others = [
            name
            for name, value in (
                ("predictor.model.storage", model.get("storage")),
                ("predictor.storageUris", predictor.get("storageUris")),
            )
            if value
        ]
        if others:
            raise FieldUnreadableError(f"{self.key} takes its model from spec.{others[0]}: use storageUri")
        return model

    def _settled(self) -> bool:
        """Return whether the newest revision, where there are revisions, has all the traffic."""
        component = (self.status.get("components") or {}).get("predictor") or {}
        newest = component.get("latestCreatedRevision")
        rolled = (component.get("latestReadyRevision"), component.get("latestRolledoutRevision"))
        return not newest or set(rolled) - {None} == {newest}

    def _current(self) -> list[Deployment]:
        """Return the Deployments of its newest ready revision; all of them where there are no revisions."""
        component = (self.status.get("components") or {}).get("predictor") or {}
        revision = component.get("latestReadyRevision")
        return [
            Deployment(TargetKey(part["metadata"]["name"], TargetKind.DEPLOYMENT), part)
            for part in self.parts
            if not revision or (part["metadata"].get("labels") or {}).get(LABEL_REVISION) == revision
        ]

    def _transition(self) -> str | None:
        return (self.status.get("modelStatus") or {}).get("transitionStatus")

    def _patch(self, *operations: JsonObject) -> JsonPatchObject:
        return JsonPatchObject(
            api_version=self.api_version,
            kind=str(self.key.kind),
            namespace=self.namespace,
            name=self.key.name,
            patch=operations,
            cluster=self.key.cluster,
        )


def _source(deployment: JsonObject) -> str | None:
    template = (deployment.get("spec") or {}).get("template") or {}
    return ((template.get("metadata") or {}).get("annotations") or {}).get(ANNOTATION_SOURCE)
