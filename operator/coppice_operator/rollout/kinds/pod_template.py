"""Kinds of apps/v1: the model reference is an environment variable of a container of their pod template.

Server-side apply merges containers and env by name, so naming one of each owns exactly one field.
"""

from __future__ import annotations

from dataclasses import dataclass

from coppice_api.modelrollout import RolloutModel, Target
from coppice_operator.plan import ApplyObject, JsonObject, JsonPatchObject
from coppice_operator.rollout.kinds.workload import FieldUnreadableError, Where, Workload

DEFAULT_ENV = "MODEL_URI"


@dataclass(frozen=True)
class EnvField:
    """One environment variable of one container."""

    container_index: int
    env_index: int | None
    """None: the variable is not set."""
    value: str | None
    """None: the variable is not set."""


class PodTemplateWorkload(Workload):
    """A workload with a pod template."""

    def where(self, target: Target) -> Where:
        """Return the container that is named, or the only one, and the variable."""
        names = self._names()
        if target.container is None and len(names) != 1:
            raise FieldUnreadableError(
                f"{self.key} has several containers ({', '.join(names)}): name one in targets[].container"
            )
        return Where(target.container or names[0], target.inject.env or DEFAULT_ENV)

    def held(self, where: Where) -> str | None:
        """Return the variable's value.

        Raises:
            FieldUnreadableError: If there is no such container, or the variable is set twice, comes from somewhere
                else (valueFrom), or is too long to be remembered.
        """
        return self.env_field(where).value

    @staticmethod
    def reference(model: RolloutModel) -> str:
        """Return the URI, and the digest by which the server verifies it."""
        return f"{model.uri.removesuffix(f'#sha256={model.sha256}')}#sha256={model.sha256}"

    def giving(self, where: Where, value: str) -> ApplyObject:
        """Return the apply of one variable, which holds only while nobody has changed the target since."""
        # Without a version somebody's edit between our look and our write would be lost, also for the way back.
        versioned = {key: value for key, value in self.body["metadata"].items() if key == "resourceVersion"}
        container = {"name": where.container, "env": [{"name": where.env, "value": value}]}
        return ApplyObject(
            {
                "apiVersion": self.api_version,
                "kind": str(self.key.kind),
                "metadata": {"name": self.key.name, "namespace": self.namespace, **versioned},
                "spec": {"template": {"spec": {"containers": [container]}}},
            },
            self.key.cluster,
        )

    def removing(self, where: Where, value: str) -> JsonPatchObject:
        """Return the patch that removes a variable which did not exist before.

        Indices come from a cache that may be old: the tests make the API server refuse the patch when they no longer
        point at our container, our variable and our value.
        """
        field = self.env_field(where)
        at = f"/spec/template/spec/containers/{field.container_index}"
        return JsonPatchObject(
            api_version=self.api_version,
            kind=str(self.key.kind),
            namespace=self.namespace,
            name=self.key.name,
            patch=(
                {"op": "test", "path": f"{at}/name", "value": where.container},
                {"op": "test", "path": f"{at}/env/{field.env_index}/name", "value": where.env},
                {"op": "test", "path": f"{at}/env/{field.env_index}/value", "value": value},
                {"op": "remove", "path": f"{at}/env/{field.env_index}"},
            ),
            cluster=self.key.cluster,
        )

    def env_field(self, where: Where) -> EnvField:
        """Find the variable; raises as `held`."""
        container, env = where.container or "", where.env or ""
        names = self._names()
        if container not in names:
            raise FieldUnreadableError(f"{self.key} has no container {container}; it has: {', '.join(names) or 'none'}")
        container_index = names.index(container)
        entries = self._containers()[container_index].get("env") or []
        found = [(index, entry) for index, entry in enumerate(entries) if entry.get("name") == env]
        if not found:
            return EnvField(container_index, None, None)
        if len(found) > 1:
            raise FieldUnreadableError(f"{self.key} sets {env} {len(found)} times in container {container}: leave one")
        env_index, entry = found[0]
        if entry.get("valueFrom"):
            raise FieldUnreadableError(
                f"{self.key} takes {env} from valueFrom in container {container}: give it a plain value"
            )
        return EnvField(container_index, env_index, self.bounded(entry.get("value", ""), env))

    @property
    def update_strategy(self) -> JsonObject:
        """Its spec.updateStrategy."""
        found: JsonObject = self.spec.get("updateStrategy") or {}
        return found

    def waits_for_deletions(self) -> str | None:
        """Return that it replaces no pod by itself, as a sentence, or None."""
        if self.update_strategy.get("type") != "OnDelete":
            return None
        return f"{self.key} replaces a pod only when somebody deletes it (updateStrategy OnDelete): set RollingUpdate"

    def unseen(self) -> str | None:
        """Return that its last change is still to be acted on, as a sentence, or None."""
        return None if self.observed() else f"{self.key} has a change that its controller has not seen yet"

    def _names(self) -> list[str]:
        return [container["name"] for container in self._containers()]

    def _containers(self) -> list[JsonObject]:
        """Return the pod's ordinary containers."""
        return self.spec.get("template", {}).get("spec", {}).get("containers") or []
