"""Reading a kubeconfig that somebody put into a Secret: of what kubectl would do with it, only what is safe here.

A kubeconfig may name programs to run, files to read and proxies to go through. In the operator's pod those would be the
operator's own programs, files and network, so that everything but a server, certificates and a token is refused. Only
what the current context uses is looked at.
"""

from __future__ import annotations

import base64
import ssl
from typing import Any
from urllib.parse import urlsplit

import kopf
import yaml

from coppice_api.constants import ANNOTATION_CLUSTER
from coppice_operator.plan import JsonObject
from coppice_operator.secret import SecretError, listed, name_of, text_of
from coppice_operator.tls import AuthorityError, PairError, context

KEYS = ("kubeconfig", "value")
"""Of the Secret: the first that it has. Cluster API and what follows it write `value`."""
ALLOWED = "rollouts"
INSECURE = "insecure-skip-tls-verify"
"""Words of the annotation."""
MAX_BYTES = 64 << 10
_CLUSTER_FIELDS = {"server", "certificate-authority-data", INSECURE, "disable-compression", "extensions"}
_USER_FIELDS = {"client-certificate-data", "client-key-data", "token", "extensions"}
_REFUSED = {
    "exec": "would run a program in the operator's pod",
    "auth-provider": "would run a plug-in in the operator's pod",
    "tokenFile": "is a file of the operator's pod",
    "client-certificate": "is a file of the operator's pod",
    "client-key": "is a file of the operator's pod",
    "certificate-authority": "is a file of the operator's pod",
    "proxy-url": "would send the operator's requests elsewhere",
    "username": "is no longer known to any API server",
    "password": "is no longer known to any API server",
    "as": "would act as somebody else",
}
_INSTEAD = "use token or client-certificate-data, and certificate-authority-data"


class Connection(kopf.ConnectionInfo):
    """Where a cluster is and who we are there, all of it in memory; shown without its secrets."""

    def as_ssl_context(self) -> ssl.SSLContext:
        """Return it without writing a key to a disk, as Kopf's own would.

        Raises:
            AuthorityError: If the cluster's certificates cannot be read.
            PairError: If ours cannot.
        """
        authority, certificate, key = self.ca_data, self.certificate_data, self.private_key_data
        # `read` puts PEM there; Kopf's type also has bytes.
        assert not isinstance(authority, bytes) and not isinstance(certificate, bytes) and not isinstance(key, bytes)
        return context(authority, certificate, key, verified=not self.insecure)

    def __repr__(self) -> str:
        """Say nothing that is secret."""
        return f"Connection({self.server!r})"


def read_secret(secret: JsonObject) -> Connection:
    """Return the connection that a Secret holds.

    Args:
        secret: As the API server gives it.

    Raises:
        SecretError: If it does not say that it is for this, holds no kubeconfig, or one that asks for more than is
            safe; the message names the field, and has nothing of the Secret in it.
    """
    name = name_of(secret)
    words = listed(secret, ANNOTATION_CLUSTER)
    if ALLOWED not in words:
        raise SecretError(
            f"Secret {name} does not say that rollouts may use its cluster: annotate it with "
            f"{ANNOTATION_CLUSTER}: {ALLOWED}"
        )
    text = text_of(secret, *KEYS)
    if text is None:
        raise SecretError(f"Secret {name} has no key {' or '.join(KEYS)} with a kubeconfig")
    try:
        return read(text, insecure_allowed=INSECURE in words)
    except SecretError as error:
        raise SecretError(f"Secret {name}: {error}") from None


def read(text: str, *, insecure_allowed: bool = False) -> Connection:
    """Return the connection of a kubeconfig's current context.

    Args:
        text: The file.
        insecure_allowed: Whether it may say that the server's certificate is not to be looked at.

    Raises:
        SecretError: As `read_secret` does.
    """
    document = _document(text)
    current = document.get("current-context")
    if not isinstance(current, str) or not current:
        raise SecretError("the kubeconfig has no current-context: set it")
    chosen = _entry(document, "contexts", "context", current)
    cluster = _entry(document, "clusters", "cluster", chosen.get("cluster"))
    user = _entry(document, "users", "user", chosen.get("user"))
    _refuse("cluster", cluster, _CLUSTER_FIELDS)
    _refuse("user", user, _USER_FIELDS)
    insecure = cluster.get(INSECURE) or False
    if insecure is not False and (insecure is not True or not insecure_allowed):
        raise SecretError(
            f"cluster.{INSECURE} would take anybody for the cluster: give certificate-authority-data instead, or add "
            f"{INSECURE} to the annotation {ANNOTATION_CLUSTER}"
        )
    token = _text(user, "user", "token")
    connection = Connection(
        server=_server(cluster.get("server")),
        ca_data=_pem(cluster, "cluster", "certificate-authority-data"),
        insecure=insecure or None,
        token=token.strip() if token is not None else None,
        certificate_data=_pem(user, "user", "client-certificate-data"),
        private_key_data=_pem(user, "user", "client-key-data"),
    )
    if connection.token is not None and (not connection.token.isascii() or not connection.token.isprintable()):
        raise SecretError("user.token has more than one line, or characters that no token has")
    if (connection.certificate_data is None) != (connection.private_key_data is None):
        raise SecretError("user needs client-certificate-data and client-key-data, or neither")
    if not connection.token and connection.certificate_data is None:
        raise SecretError("user has no credentials: give it token, or client-certificate-data and client-key-data")
    try:
        connection.as_ssl_context()
    except AuthorityError:
        raise SecretError("cluster.certificate-authority-data is not a certificate in PEM, in base64") from None
    except PairError:
        raise SecretError(
            "user.client-certificate-data and client-key-data are not a certificate and its key in PEM, in base64"
        ) from None
    return connection


def _document(text: str) -> JsonObject:
    if len(text) > MAX_BYTES:
        raise SecretError(f"the kubeconfig has more than {MAX_BYTES} characters: leave one context in it")
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        # What the library says quotes the text.
        raise SecretError("the kubeconfig is not YAML") from None
    if not isinstance(document, dict):
        raise SecretError("the kubeconfig is no mapping")
    return document


def _entry(document: JsonObject, list_name: str, field: str, name: Any) -> JsonObject:
    """Return what a list has under a name, as kubectl does: the first of several."""
    entries = document.get(list_name)
    if isinstance(name, str) and isinstance(entries, list):
        for entry in entries:
            if isinstance(entry, dict) and entry.get("name") == name:
                found = entry.get(field)
                if isinstance(found, dict):
                    return found
                break
    raise SecretError(f"the kubeconfig's current context has no usable entry in {list_name}")


def _refuse(title: str, entry: JsonObject, known: set[str]) -> None:
    for field, why in _REFUSED.items():
        if entry.get(field):
            raise SecretError(f"{title}.{field} {why} and is refused: {_INSTEAD}")
    more = sorted(str(field) for field, value in entry.items() if field not in known and value)
    if more:
        # Its name may be anything: only one that looks like a field is repeated.
        first = more[0] if more[0].replace("-", "").isascii() and more[0].replace("-", "").isalpha() else "a field"
        raise SecretError(f"{title}: {first[:40]} is not supported here: {_INSTEAD}")


def _server(server: Any) -> str:
    try:
        parts = urlsplit(server) if isinstance(server, str) and server.isprintable() else urlsplit("")
        port_is_one = parts.port is None or parts.port > 0
    except ValueError:
        parts, port_is_one = urlsplit(""), False
    if parts.scheme != "https" or not parts.hostname or not port_is_one or " " in str(server):
        raise SecretError("cluster.server is not an address of the form https://host:port")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise SecretError("cluster.server carries a user, ? or #: give https://host:port")
    return str(server).rstrip("/")


def _text(entry: JsonObject, title: str, field: str) -> str | None:
    value = entry.get(field)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise SecretError(f"{title}.{field} is no text")
    return value


def _pem(entry: JsonObject, title: str, field: str) -> str | None:
    text = _text(entry, title, field)
    if text is None:
        return None
    try:
        return base64.b64decode("".join(text.split()), validate=True).decode("ascii")
    except ValueError:
        raise SecretError(f"{title}.{field} is not PEM in base64") from None
