"""A pod's volumes as directories, and its environment. What is missing is named, as a kubelet names it."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path
from typing import Any

from devcluster.processnode.api import Api, ApiError, Json

SERVICE_ACCOUNT_SECONDS = 3607


class ConfigMissingError(Exception):
    """A ConfigMap, Secret or claim is not there yet; the pod waits."""


class Volumes:
    """Makes the directories of one pod's volumes.

    Args:
        api: To look things up.
        pod: The pod.
        directory: Of the pod.
    """

    def __init__(self, api: Api, pod: Json, directory: Path) -> None:
        self._api, self._pod, self._directory = api, pod, directory
        self._namespace = str(pod["metadata"]["namespace"])

    async def prepare(self) -> dict[str, Path]:
        """Return the directory of every volume.

        Raises:
            ConfigMissingError: Naming what is missing.
        """
        return {volume["name"]: await self._volume(volume) for volume in self._pod["spec"].get("volumes") or ()}

    async def environment(self, container: Json, pod_ip: str) -> dict[str, str]:
        """Return a container's variables, before expansion.

        Raises:
            ConfigMissingError: Naming what is missing.
        """
        found: dict[str, str] = {}
        for source in container.get("envFrom") or ():
            kind = "configMapRef" if "configMapRef" in source else "secretRef"
            data = await self._data(kind.removesuffix("Ref"), source[kind]["name"], source[kind].get("optional", False))
            found |= {source.get("prefix", "") + key: value.decode() for key, value in data.items()}
        for item in container.get("env") or ():
            value = await self._value(item, pod_ip)
            if value is not None:
                found[item["name"]] = value
        return found

    async def _value(self, item: Json, pod_ip: str) -> str | None:
        source = item.get("valueFrom")
        if source is None:
            return str(item.get("value", ""))
        if "fieldRef" in source:
            return self._field(source["fieldRef"]["fieldPath"], pod_ip)
        for kind, key in (("configMap", "configMapKeyRef"), ("secret", "secretKeyRef")):
            if key in source:
                reference = source[key]
                data = await self._data(kind, reference["name"], reference.get("optional", False))
                if reference["key"] in data:
                    return data[reference["key"]].decode()
                if reference.get("optional"):
                    return None
                raise ConfigMissingError(
                    f"couldn't find key {reference['key']} in {kind} {self._namespace}/{reference['name']}"
                )
        raise ConfigMissingError(f"the process node does not know valueFrom {', '.join(source)}")

    def _field(self, path: str, pod_ip: str) -> str:
        metadata, spec = self._pod["metadata"], self._pod["spec"]
        for prefix in ("labels", "annotations"):
            if path.startswith(f"metadata.{prefix}['"):
                return str(metadata.get(prefix, {}).get(path.split("'")[1], ""))
        known = {
            "metadata.name": metadata["name"],
            "metadata.namespace": metadata["namespace"],
            "metadata.uid": metadata["uid"],
            "spec.nodeName": spec.get("nodeName", ""),
            "spec.serviceAccountName": spec.get("serviceAccountName", ""),
            "status.podIP": pod_ip,
            "status.podIPs": pod_ip,
            "status.hostIP": "127.0.0.1",
        }
        if path not in known:
            raise ConfigMissingError(f"the process node does not know fieldPath {path}")
        return str(known[path])

    async def _volume(self, volume: Json) -> Path:
        directory = self._directory / "volumes" / str(volume["name"])
        if "hostPath" in volume:
            return Path(volume["hostPath"]["path"])
        if "persistentVolumeClaim" in volume:
            return await self._claim(volume["persistentVolumeClaim"]["claimName"])
        directory.mkdir(parents=True, exist_ok=True)
        if "emptyDir" in volume:
            return directory
        for kind, name in (("configMap", "name"), ("secret", "secretName")):
            if kind in volume:
                source = volume[kind]
                data = await self._data(kind, source[name], source.get("optional", False))
                _write(directory, data, source.get("items"))
                return directory
        if "projected" in volume:
            for source in volume["projected"].get("sources") or ():
                await self._project(directory, source)
            return directory
        raise ConfigMissingError(f"the process node does not know volumes like {volume['name']}: {sorted(volume)}")

    async def _project(self, directory: Path, source: Json) -> None:
        if "serviceAccountToken" in source:
            account = self._pod["spec"].get("serviceAccountName", "default")
            answer = await self._api.create(
                f"/api/v1/namespaces/{self._namespace}/serviceaccounts/{account}/token",
                {
                    "apiVersion": "authentication.k8s.io/v1",
                    "kind": "TokenRequest",
                    "spec": {"expirationSeconds": SERVICE_ACCOUNT_SECONDS},
                },
            )
            (directory / source["serviceAccountToken"]["path"]).write_text(answer["status"]["token"])
        for kind in ("configMap", "secret"):
            if kind in source:
                part = source[kind]
                _write(directory, await self._data(kind, part["name"], part.get("optional", False)), part.get("items"))
        for item in source.get("downwardAPI", {}).get("items") or ():
            (directory / item["path"]).write_text(self._field(item["fieldRef"]["fieldPath"], ""))

    async def _claim(self, name: str) -> Path:
        try:
            claim = await self._api.get(f"/api/v1/namespaces/{self._namespace}/persistentvolumeclaims/{name}")
            volume_name = claim["spec"].get("volumeName")
            if claim.get("status", {}).get("phase") != "Bound" or not volume_name:
                raise ConfigMissingError(f"persistentvolumeclaim {name} is not bound yet")
            volume = await self._api.get(f"/api/v1/persistentvolumes/{volume_name}")
        except ApiError as error:
            raise ConfigMissingError(f"persistentvolumeclaim {name}: {error}") from error
        return _made(Path(volume["spec"]["hostPath"]["path"]))

    async def _data(self, kind: str, name: str, optional: bool) -> dict[str, bytes]:
        plural = "configmaps" if kind == "configMap" else "secrets"
        try:
            found: dict[str, Any] = await self._api.get(f"/api/v1/namespaces/{self._namespace}/{plural}/{name}")
        except ApiError as error:
            if error.status == 404 and optional:
                return {}
            if error.status == 404:
                raise ConfigMissingError(f"{kind.lower()} {self._namespace}/{name} not found") from error
            raise ConfigMissingError(str(error)) from error
        if kind == "secret":
            return {key: base64.b64decode(value) for key, value in (found.get("data") or {}).items()}
        binary = {key: base64.b64decode(value) for key, value in (found.get("binaryData") or {}).items()}
        return {key: str(value).encode() for key, value in (found.get("data") or {}).items()} | binary


def mounts(container: Json, volumes: dict[str, Path]) -> dict[str, str]:
    """Return the real directory of each mount path of a container."""
    return {
        mount["mountPath"]: str(volumes[mount["name"]] / mount.get("subPath", ""))
        for mount in container.get("volumeMounts") or ()
    }


def remove(directory: Path) -> None:
    """Remove a pod's directory."""
    shutil.rmtree(directory, ignore_errors=True)


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _write(directory: Path, data: dict[str, bytes], items: list[Json] | None) -> None:
    chosen = {item["key"]: item["path"] for item in items} if items else {key: key for key in data}
    for key, path in chosen.items():
        if key not in data:
            raise ConfigMissingError(f"references non-existent key: {key}")
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data[key])
