"""The Secret: its keys are Flux's for a GitRepository, so that one Secret serves both.

Its annotation names the hosts that may be given it. Without that, whoever may create a rollout could have any Secret of
the namespace sent to a server of their choice.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from coppice_api.constants import ANNOTATION_GIT_HOST
from coppice_operator.delivery.errors import CredentialsError
from coppice_operator.plan import JsonObject
from coppice_operator.secret import SecretError, listed, name_of, redacted, text_of


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
        text = redacted(text, self.password, self.identity, self.signing_key)
        if self.username and self.password:
            pair = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
            text = text.replace(pair, "***")
        return re.sub(r"(://)[^/@\s]+@", r"\1***@", text)


NOBODY = Credentials()


def read_secret(secret: JsonObject, hosts: set[str]) -> Credentials:
    """Return the credentials of a Secret.

    Args:
        secret: As the API server gives it.
        hosts: Whom they will be given to.

    Raises:
        CredentialsError: If the Secret does not allow that, or is no text.
    """
    allowed = {host.lower() for host in listed(secret, ANNOTATION_GIT_HOST)}
    if missing := sorted(hosts - allowed):
        raise CredentialsError(
            f"Secret {name_of(secret)} may not be given to {missing[0]}: annotate it with {ANNOTATION_GIT_HOST}: "
            f"{missing[0]} (several are divided by commas)"
        )

    def value(*keys: str) -> str | None:
        try:
            return text_of(secret, *keys)
        except SecretError as error:
            raise CredentialsError(str(error)) from error

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
