"""What is sent to a target: one environment variable and nothing else.

Server-side apply merges containers and env by name, so naming one of each owns exactly one field.
"""

from __future__ import annotations

from coppice_api.modelrollout import RolloutModel, TargetKey, TargetKind
from coppice_operator.plan import ApplyObject, JsonPatchObject
from coppice_operator.rollout.workload import EnvField

API_VERSION = "apps/v1"
_API_VERSIONS = {TargetKind.INFERENCE_SERVICE: "serving.kserve.io/v1beta1"}


def api_version(kind: TargetKind) -> str:
    """Return the apiVersion of a kind of targets."""
    return _API_VERSIONS.get(kind, API_VERSION)


def model_value(model: RolloutModel) -> str:
    """Return what the variable holds: the URI, and the digest by which the server verifies it."""
    return f"{model.uri.removesuffix(f'#sha256={model.sha256}')}#sha256={model.sha256}"


def set_env(target: TargetKey, *, namespace: str, container: str, env: str, value: str) -> ApplyObject:
    """Return the apply that gives the variable a value."""
    return ApplyObject(
        {
            "apiVersion": API_VERSION,
            "kind": str(target.kind),
            "metadata": {"name": target.name, "namespace": namespace},
            "spec": {
                "template": {"spec": {"containers": [{"name": container, "env": [{"name": env, "value": value}]}]}}
            },
        },
        target.cluster,
    )


def remove_env(
    target: TargetKey, *, namespace: str, container: str, env: str, value: str, field: EnvField
) -> JsonPatchObject:
    """Return the patch that removes a variable which did not exist before.

    Indices come from a cache that may be old: the tests make the API server refuse the patch when they no
    longer point at our container, our variable and our value.
    """
    at = f"/spec/template/spec/containers/{field.container_index}"
    return JsonPatchObject(
        api_version=API_VERSION,
        kind=str(target.kind),
        namespace=namespace,
        name=target.name,
        patch=(
            {"op": "test", "path": f"{at}/name", "value": container},
            {"op": "test", "path": f"{at}/env/{field.env_index}/name", "value": env},
            {"op": "test", "path": f"{at}/env/{field.env_index}/value", "value": value},
            {"op": "remove", "path": f"{at}/env/{field.env_index}"},
        ),
        cluster=target.cluster,
    )
