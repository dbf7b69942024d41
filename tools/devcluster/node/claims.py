"""Makes a directory for each claim of the class `standard`, as a volume provisioner would."""

from __future__ import annotations

import asyncio
import logging
import shutil
from pathlib import Path

from devcluster.node.api import TRANSIENT, Api, Json

STORAGE_CLASS = "standard"
PROVISIONER = "coppice.dev/devcluster"
_PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
_VOLUMES = "/api/v1/persistentvolumes"
_ATTEMPTS, _RETRY_SECONDS = 10, 1.0
_log = logging.getLogger(__name__)


def storage_class() -> Json:
    """Return the default StorageClass."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": STORAGE_CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": PROVISIONER,
        "volumeBindingMode": "Immediate",
        "reclaimPolicy": "Delete",
    }


def volume_for(claim: Json, directory: Path) -> Json:
    """Return the PersistentVolume of a claim; the real controller binds the two."""
    metadata, spec = claim["metadata"], claim["spec"]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"pvc-{metadata['uid']}", "annotations": {_PROVISIONED_BY: PROVISIONER}},
        "spec": {
            "capacity": spec["resources"]["requests"],
            "accessModes": spec["accessModes"],
            "storageClassName": STORAGE_CLASS,
            "persistentVolumeReclaimPolicy": "Delete",
            "hostPath": {"path": str(directory), "type": "DirectoryOrCreate"},
            "claimRef": {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "uid": metadata["uid"],
                "namespace": metadata["namespace"], "name": metadata["name"],
            },
        },
    }  # fmt: skip


class Provisioner:
    """Serves every claim of the cluster; several nodes may, since each step can be done twice.

    Args:
        api: To watch and write.
        directory: `<namespace>-<claim>-<uid's end>` goes there.
    """

    def __init__(self, api: Api, directory: Path) -> None:
        self._api, self._directory = api, directory

    async def run(self) -> None:
        """Until cancelled."""
        await asyncio.gather(self._make(), self._reclaim())

    async def _make(self) -> None:
        async for event, item in self._api.watch("/api/v1/persistentvolumeclaims", ""):
            if event == "DELETED":
                continue
            for claim in item["items"] if event == "SYNC" else [item]:
                if claim["spec"].get("storageClassName") == STORAGE_CLASS and not claim["spec"].get("volumeName"):
                    await self._provision(claim)

    async def _provision(self, claim: Json) -> None:
        metadata = claim["metadata"]
        name = f"{metadata['namespace']}-{metadata['name']}-{metadata['uid'][-8:]}"
        directory = self._directory / name
        directory.mkdir(parents=True, exist_ok=True)
        for _ in range(_ATTEMPTS):
            try:
                await self._api.ensure(_VOLUMES, volume_for(claim, directory))
            except TRANSIENT as error:
                _log.warning("no volume for claim %s yet: %s", name, error)
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return

    async def _reclaim(self) -> None:
        async for event, item in self._api.watch(_VOLUMES, ""):
            for volume in item["items"] if event == "SYNC" else [item]:
                annotations = volume["metadata"].get("annotations") or {}
                ours = annotations.get(_PROVISIONED_BY) == PROVISIONER
                released = volume.get("status", {}).get("phase") in ("Released", "Failed")
                if ours and released and volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete":
                    await self._remove(volume)

    async def _remove(self, volume: Json) -> None:
        path = Path(volume["spec"].get("hostPath", {}).get("path", ""))
        # The object is anybody's to write; only what lies in our directory is ours to remove.
        if path.parent == self._directory:
            shutil.rmtree(path, ignore_errors=True)
        try:
            await self._api.delete(f"{_VOLUMES}/{volume['metadata']['name']}")
        except TRANSIENT as error:
            _log.warning("volume %s stays for now: %s", volume["metadata"]["name"], error)
