"""The Secret: its keys are Flux's for a GitRepository, so that one Secret serves both.

Its annotation names the hosts that may be given it. Without that, whoever may create a rollout could have any Secret of
the namespace sent to a server of their choice.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from coppice_api.constants import ANNOTATION_GIT_HOST
from coppice_operator.delivery.errors import CredentialsError

MIN_REDACTED = 4
"""Shorter values would redact parts of ordinary words."""


@dataclass(frozen=True)
class Credentials:
    """What a repository's servers are given; never shown."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    """A token for https, or the passphrase of `identity`."""
    ca_certificate: str | None = None
    identity: str | None = field(default=None, repr=False)
    """Private key for ssh."""
    known_hosts: str | None = None
    signing_key: str | None = field(default=None, repr=False)

    def redact(self, text: str) -> str:
        """Return a text without anything of these credentials, whatever a library put into it."""
        for secret in (self.password, self.identity, self.signing_key):
            for part in {secret or "", *(secret or "").splitlines()}:
                if len(part) >= MIN_REDACTED:
                    text = text.replace(part, "***").replace(base64.b64encode(part.encode()).decode(), "***")
        if self.username and self.password:
            pair = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
            text = text.replace(pair, "***")
        return re.sub(r"(://)[^/@\s]+@", r"\1***@", text)


NOBODY = Credentials()


def read_secret(secret: Mapping[str, Any], hosts: set[str]) -> Credentials:
    """Return the credentials of a Secret.

    Args:
        secret: As the API server gives it.
        hosts: Whom they will be given to.

    Raises:
        CredentialsError: If the Secret does not allow that, or is no text.
    """
    name = secret.get("metadata", {}).get("name", "")
    annotations = secret.get("metadata", {}).get("annotations") or {}
    allowed = {host.strip().lower() for host in annotations.get(ANNOTATION_GIT_HOST, "").split(",")}
    if missing := sorted(hosts - allowed):
        raise CredentialsError(
            f"Secret {name} may not be given to {missing[0]}: annotate it with {ANNOTATION_GIT_HOST}: {missing[0]} "
            "(several are divided by commas)"
        )

    def value(*keys: str) -> str | None:
        for key in keys:
            if key in (secret.get("data") or {}):
                try:
                    return base64.b64decode(secret["data"][key], validate=True).decode()
                except (binascii.Error, UnicodeDecodeError, TypeError) as error:
                    raise CredentialsError(f"Secret {name}: {key} is not text") from error
        return None

    password = value("password", "token")
    return Credentials(
        username=(value("username") or "git").strip() if password is not None else None,
        password=password.strip() if password is not None else None,
        ca_certificate=value("ca.crt", "caFile"),
        identity=value("identity", "ssh-privatekey"),
        known_hosts=value("known_hosts"),
        signing_key=value("signingKey"),
    )


def host_of(repository: str) -> str:
    """Return the host name of a clone URL, in lower case."""
    if "://" in repository:
        return (urlsplit(repository).hostname or "").lower()
    return repository.partition("@")[2].partition(":")[0].lower()
