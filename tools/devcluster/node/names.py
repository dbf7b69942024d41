"""Host names of pods, where there is no cluster DNS: `<hostname>.<subdomain>` is told as that pod's address."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from devcluster.node.api import Api, Json

_OVER = ("Succeeded", "Failed")


class NoSuchHostError(Exception):
    """A pod that is named has no address yet; whoever asks again may get one."""


@dataclass(frozen=True)
class Names:
    """The addresses of the pods that a container's texts name."""

    pattern: re.Pattern[str] | None = None
    addresses: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    async def of(cls, api: Api, pod: Json, ip: str, texts: Iterable[str]) -> Names:
        """Look up what a container of a pod is told.

        Args:
            api: To look up the other pods.
            pod: With or without a subdomain.
            ip: Its own address.
            texts: Variables, command and arguments.

        Raises:
            NoSuchHostError: If a pod that is named has no address yet.
        """
        spec, namespace = pod["spec"], str(pod["metadata"]["namespace"])
        subdomain = spec.get("subdomain")
        if not subdomain:
            return cls()
        domain = rf"\.{re.escape(subdomain)}(?:\.{re.escape(namespace)}(?:\.svc(?:\.cluster\.local)?)?)?"
        pattern = re.compile(rf"(?<![\w.-])([a-z0-9-]+){domain}(?![\w.-])")
        wanted = {name for text in texts for name in pattern.findall(text)}
        known = {str(spec.get("hostname")): ip}
        if wanted - set(known):
            found = await api.get(f"/api/v1/namespaces/{namespace}/pods")
            known = {**_addresses(found["items"], subdomain), **known}
        for name in sorted(wanted - set(known)):
            raise NoSuchHostError(f"{name}.{subdomain}: no such host yet")
        return cls(pattern, known)

    def told(self, text: str) -> str:
        """Return a text with every name replaced."""
        if self.pattern is None:
            return text
        return self.pattern.sub(lambda match: self.addresses.get(match[1], match[0]), text)


def _addresses(pods: Iterable[Json], subdomain: str) -> dict[str, str]:
    return {
        str(pod["spec"]["hostname"]): str(pod["status"]["podIP"])
        for pod in pods
        if pod["spec"].get("subdomain") == subdomain
        and pod["spec"].get("hostname")
        and pod.get("status", {}).get("podIP")
        and pod["status"].get("phase") not in _OVER
        and "deletionTimestamp" not in pod["metadata"]
    }
