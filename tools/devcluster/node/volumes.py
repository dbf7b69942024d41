"""A pod's volumes as directories, and its environment. What is missing is named, as a kubelet names it."""

from __future__ import annotations

import base64
import json
import math
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from devcluster.node.api import Api, ApiError, Json
from devcluster.node.rewriting import expand

SERVICE_ACCOUNT_SECONDS = 3607
SERVICE_ACCOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
_DEFAULT_MODE = 0o644


class ConfigMissingError(Exception):
    """A ConfigMap, Secret or claim is not there yet; the pod waits."""


class Volumes:
    """Makes the directories of one pod's volumes.

    Args:
        api: To look things up.
        pod: The pod.
        directory: Of the pod.
        pod_ip: Its address.
    """

    def __init__(self, api: Api, pod: Json, directory: Path, pod_ip: str) -> None:
        self._api, self._pod, self._directory, self._pod_ip = api, pod, directory, pod_ip
        self._namespace = str(pod["metadata"]["namespace"])

    async def prepare(self) -> dict[str, Path]:
        """Return the directory of every volume.

        Raises:
            ConfigMissingError: Naming what is missing.
        """
        return {volume["name"]: await self._volume(volume) for volume in self._pod["spec"].get("volumes") or ()}

    async def environment(self, container: Json) -> dict[str, str]:
        """Return a container's variables, before expansion.

        Raises:
            ConfigMissingError: Naming what is missing.
        """
        found: dict[str, str] = {}
        for source in container.get("envFrom") or ():
            kind = "configMapRef" if "configMapRef" in source else "secretRef"
            data = await self._data(kind.removesuffix("Ref"), source[kind]["name"], source[kind].get("optional", False))
            found |= {source.get("prefix", "") + key: value.decode(errors="replace") for key, value in data.items()}
        for item in container.get("env") or ():
            value = await self._value(item, container)
            if value is not None:
                found[item["name"]] = value
        return found

    async def _value(self, item: Json, container: Json) -> str | None:
        source = item.get("valueFrom")
        if source is None:
            return str(item.get("value", ""))
        if "fieldRef" in source:
            return self._field(source["fieldRef"]["fieldPath"])
        if "resourceFieldRef" in source:
            return self._resource(source["resourceFieldRef"], container)
        for kind, key in (("configMap", "configMapKeyRef"), ("secret", "secretKeyRef")):
            if key in source:
                reference = source[key]
                data = await self._data(kind, reference["name"], reference.get("optional", False))
                if reference["key"] in data:
                    return data[reference["key"]].decode(errors="replace")
                if reference.get("optional"):
                    return None
                raise ConfigMissingError(
                    f"couldn't find key {reference['key']} in {kind} {self._namespace}/{reference['name']}"
                )
        raise ConfigMissingError(f"the process node does not know valueFrom {', '.join(source)}")

    def _field(self, path: str) -> str:
        metadata, spec = self._pod["metadata"], self._pod["spec"]
        for prefix in ("labels", "annotations"):
            if path.startswith(f"metadata.{prefix}['"):
                return str((metadata.get(prefix) or {}).get(path.split("'")[1], ""))
        known = {
            "metadata.name": metadata["name"],
            "metadata.namespace": metadata["namespace"],
            "metadata.uid": metadata["uid"],
            "spec.nodeName": spec.get("nodeName", ""),
            "spec.serviceAccountName": spec.get("serviceAccountName", ""),
            "status.podIP": self._pod_ip,
            "status.podIPs": self._pod_ip,
            "status.hostIP": "127.0.0.1",
            "status.hostIPs": "127.0.0.1",
        }
        if path not in known:
            raise ConfigMissingError(f"the process node does not know fieldPath {path}")
        return str(known[path])

    def _resource(self, reference: Json, container: Json) -> str:
        owner = container
        if name := reference.get("containerName"):
            owner = next(item for item in self._pod["spec"]["containers"] if item["name"] == name)
        kind, _, resource = reference["resource"].partition(".")
        declared = (owner.get("resources") or {}).get(kind) or {}
        divisor = quantity(str(reference.get("divisor") or 1)) or 1.0
        return str(math.ceil(quantity(str(declared.get(resource, 0))) / divisor))

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
                _write(directory, data, source.get("items"), source.get("defaultMode", _DEFAULT_MODE))
                return directory
        if "downwardAPI" in volume:
            self._write_fields(directory, volume["downwardAPI"].get("items") or ())
            return directory
        if "projected" in volume:
            for source in volume["projected"].get("sources") or ():
                await self._project(directory, source)
            return directory
        raise ConfigMissingError(f"the process node does not know volumes like {volume['name']}: {sorted(volume)}")

    async def _project(self, directory: Path, source: Json) -> None:
        if "serviceAccountToken" in source:
            account = self._pod["spec"].get("serviceAccountName") or "default"
            requested = source["serviceAccountToken"]
            answer = await self._api.create(
                f"/api/v1/namespaces/{self._namespace}/serviceaccounts/{account}/token",
                {
                    "apiVersion": "authentication.k8s.io/v1",
                    "kind": "TokenRequest",
                    "spec": {
                        "expirationSeconds": requested.get("expirationSeconds", SERVICE_ACCOUNT_SECONDS),
                        "boundObjectRef": {
                            "apiVersion": "v1",
                            "kind": "Pod",
                            "name": self._pod["metadata"]["name"],
                            "uid": self._pod["metadata"]["uid"],
                        },
                    }
                    | ({"audiences": [requested["audience"]]} if requested.get("audience") else {}),
                },
            )
            token = directory / requested["path"]
            token.touch(mode=0o600)
            token.write_text(answer["status"]["token"])
        for kind in ("configMap", "secret"):
            if kind in source:
                part = source[kind]
                data = await self._data(kind, part["name"], part.get("optional", False))
                _write(directory, data, part.get("items"), _DEFAULT_MODE)
        self._write_fields(directory, source.get("downwardAPI", {}).get("items") or ())

    def _write_fields(self, directory: Path, items: Iterable[Json]) -> None:
        for item in items:
            if "fieldRef" not in item:
                raise ConfigMissingError(f"the process node knows fieldRef only in downwardAPI volumes: {item}")
            target = directory / item["path"]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(self._downward_file(item["fieldRef"]["fieldPath"]))

    def _downward_file(self, path: str) -> str:
        if path not in ("metadata.labels", "metadata.annotations"):
            return self._field(path)
        found = self._pod["metadata"].get(path.removeprefix("metadata.")) or {}
        return "".join(f"{key}={json.dumps(value)}\n" for key, value in sorted(found.items()))

    async def _claim(self, name: str) -> Path:
        try:
            claim = await self._api.get(f"/api/v1/namespaces/{self._namespace}/persistentvolumeclaims/{name}")
            volume_name = claim["spec"].get("volumeName")
            if claim.get("status", {}).get("phase") != "Bound" or not volume_name:
                raise ConfigMissingError(f"persistentvolumeclaim {name} is not bound yet")
            volume = await self._api.get(f"/api/v1/persistentvolumes/{volume_name}")
        except ApiError as error:
            if error.status != 404:
                raise
            raise ConfigMissingError(f'persistentvolumeclaim "{name}" not found') from error
        if "hostPath" not in volume["spec"]:
            raise ConfigMissingError(f"persistentvolumeclaim {name}: the process node mounts hostPath volumes only")
        return _made(Path(volume["spec"]["hostPath"]["path"]))

    async def _data(self, kind: str, name: str, optional: bool) -> dict[str, bytes]:
        plural = "configmaps" if kind == "configMap" else "secrets"
        try:
            found: dict[str, Any] = await self._api.get(f"/api/v1/namespaces/{self._namespace}/{plural}/{name}")
        except ApiError as error:
            if error.status != 404:
                raise
            if optional:
                return {}
            raise ConfigMissingError(f'{kind.lower()} "{name}" not found') from error
        if kind == "secret":
            return {key: base64.b64decode(value) for key, value in (found.get("data") or {}).items()}
        binary = {key: base64.b64decode(value) for key, value in (found.get("binaryData") or {}).items()}
        return {key: str(value).encode() for key, value in (found.get("data") or {}).items()} | binary


def mounts(container: Json, volumes: Mapping[str, Path], environment: Mapping[str, str]) -> dict[str, str]:
    """Return the real directory of each mount path of a container; subPaths are made when missing."""
    found: dict[str, str] = {}
    for mount in container.get("volumeMounts") or ():
        path = volumes[mount["name"]]
        below = mount.get("subPath") or expand(mount.get("subPathExpr", ""), environment)
        if below:
            path = path / below
            if not path.exists():
                path.mkdir(parents=True)
        found[mount["mountPath"]] = str(path)
    return found


def kubeconfig(server: str, ca_file: Path, token_file: Path, namespace: str) -> str:
    """Return a kubeconfig for a container: client libraries have the path of the token built in."""
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "in", "cluster": {"server": server, "certificate-authority": str(ca_file)}}],
            "users": [{"name": "pod", "user": {"token": token_file.read_text()}}],
            "contexts": [{"name": "in", "context": {"cluster": "in", "user": "pod", "namespace": namespace}}],
            "current-context": "in",
        }
    )


def quantity(text: str) -> float:
    """Return a resource quantity as a number: 500m is 0.5, 1Ki is 1024."""
    suffixes = {"m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
    suffixes |= {f"{letter}i": 1024.0 ** (power + 1) for power, letter in enumerate("KMGT")}
    for suffix in sorted(suffixes, key=len, reverse=True):
        if text.endswith(suffix):
            return float(text.removesuffix(suffix)) * suffixes[suffix]
    return float(text)


def remove(directory: Path) -> None:
    """Remove a pod's directory."""
    shutil.rmtree(directory, ignore_errors=True)


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _write(directory: Path, data: dict[str, bytes], items: list[Json] | None, mode: int) -> None:
    chosen = items or [{"key": key, "path": key} for key in data]
    for item in chosen:
        if item["key"] not in data:
            raise ConfigMissingError(f"references non-existent config key: {item['key']}")
        target = directory / item["path"]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.write_bytes(data[item["key"]])
        target.chmod(item.get("mode") or mode)
