"""A stand-in for every kubelet: it says of each pod that it is ready, and nothing runs.

Everything else is real: API server, etcd, and the controllers that make pods of Deployments.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from coppice_cli.cluster import Cluster, ClusterError, collection

Json = dict[str, Any]
_READY: Json = {
    "phase": "Running",
    "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
}


def kubelet(ill: Callable[[Json], bool]) -> Callable[[Cluster, str, Json], None]:
    """Return what is called for each pod's events; pods that are `ill` never become ready."""

    def heard(client: Cluster, kind: str, pod: Json) -> None:
        metadata = pod["metadata"]
        if kind == "DELETED" or "deletionTimestamp" in metadata or pod["status"].get("phase") == "Running" or ill(pod):
            return
        path = f"{collection('pods', metadata['namespace'], 'api/v1')}/{metadata['name']}/status"
        # It may be gone, or changed by somebody, in between.
        with contextlib.suppress(ClusterError):
            client.merge(path, {"status": _READY})

    return heard
