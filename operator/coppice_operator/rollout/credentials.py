"""The Secret for Prometheus: who the operator is to it, and whom the operator trusts."""

from __future__ import annotations

import base64
import ssl
from dataclasses import dataclass, field

from coppice_api.constants import ANNOTATION_PROMETHEUS_ADDRESS
from coppice_operator.plan import JsonObject
from coppice_operator.secret import SecretError, listed, name_of, redacted, text_of
from coppice_operator.tls import AuthorityError, PairError, context


@dataclass(frozen=True)
class Credentials:
    """What one Prometheus is given; never shown."""

    token: str | None = field(default=None, repr=False)
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_certificate: str | None = None
    """Whom to trust; None trusts whom the system trusts."""
    certificate: str | None = None
    key: str | None = field(default=None, repr=False)

    def headers(self) -> dict[str, str]:
        """Return what every request carries."""
        if self.token is not None:
            return {"Authorization": f"Bearer {self.token}"}
        if self.username is not None:
            pair = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
            return {"Authorization": f"Basic {pair}"}
        return {}

    def redact(self, text: str) -> str:
        """Return a text without anything of these credentials."""
        return redacted(text, self.token, self.password, self.key, f"{self.username}:{self.password}")


def read_secret(secret: JsonObject, address: str) -> Credentials:
    """Return the credentials of a Secret.

    Args:
        secret: As the API server gives it.
        address: Whom they will be given to, without a slash at its end.

    Raises:
        SecretError: If the Secret does not allow that, or what it has does not fit together.
    """
    name = name_of(secret)
    if address not in {entry.rstrip("/") for entry in listed(secret, ANNOTATION_PROMETHEUS_ADDRESS)}:
        raise SecretError(
            f"Secret {name} may not be given to {address}: annotate it with {ANNOTATION_PROMETHEUS_ADDRESS}: {address} "
            "(several are divided by commas)"
        )
    credentials = Credentials(
        token=_line(secret, "token"),
        username=_line(secret, "username"),
        password=_line(secret, "password"),
        ca_certificate=text_of(secret, "ca.crt"),
        certificate=text_of(secret, "tls.crt"),
        key=text_of(secret, "tls.key"),
    )
    if (credentials.username is None) != (credentials.password is None):
        raise SecretError(f"Secret {name} needs username and password, or neither")
    if credentials.token is not None and credentials.username is not None:
        raise SecretError(f"Secret {name} has a token and a username: leave one of them")
    if (credentials.certificate is None) != (credentials.key is None):
        raise SecretError(f"Secret {name} needs tls.crt and tls.key, or neither")
    return credentials


def tls_context(credentials: Credentials, secret: str) -> ssl.SSLContext:
    """Return whom to trust, and the client's certificate.

    Args:
        credentials: What to put into it.
        secret: Name of the Secret, for the message.

    Raises:
        SecretError: If they cannot be read.
    """
    try:
        return context(credentials.ca_certificate, credentials.certificate, credentials.key)
    except AuthorityError as error:
        raise SecretError(f"Secret {secret}: ca.crt is not a certificate in PEM") from error
    except PairError as error:
        raise SecretError(
            f"Secret {secret}: tls.crt and tls.key are not a certificate and its key in PEM, without a passphrase"
        ) from error


def _line(secret: JsonObject, key: str) -> str | None:
    text = text_of(secret, key)
    if text is None:
        return None
    line = text.strip()
    if not line.isprintable():
        raise SecretError(f"Secret {name_of(secret)}: {key} has more than one line, or characters that do not print")
    return line
