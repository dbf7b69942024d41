"""Reading a Secret that a spec names: what it says, and one sentence when it cannot be had.

A Secret says itself, in an annotation, whom it may be given to: whoever may write a spec could otherwise have any
Secret of the namespace sent to a server of their choice.
"""

from __future__ import annotations

import base64

from coppice_operator.kube import Kube, KubeError, object_path
from coppice_operator.plan import JsonObject

MIN_REDACTED = 4
"""Shorter values would redact parts of ordinary words."""


class SecretError(Exception):
    """The Secret cannot be used; the message is a sentence for the user and holds nothing of it."""


async def fetch(kube: Kube, namespace: str, name: str, field: str) -> JsonObject:
    """Return a Secret.

    Args:
        kube: Where it is.
        namespace: The namespace of the object that names it.
        name: Its name.
        field: What names it, for the message.

    Raises:
        SecretError: If there is none, or it may not be read.
    """
    try:
        return await kube.get(object_path("v1", "Secret", namespace, name))
    except KubeError as error:
        if error.status == 404:
            raise SecretError(f"{field}: there is no Secret {name} in the rollout's namespace") from error
        if error.status == 403:
            raise SecretError(
                f"the operator may not read Secret {name}: give its service account `get` on it "
                "(chart value rbac.readSecrets)"
            ) from error
        raise SecretError(f"Secret {name} cannot be read now: {error.status or 'no answer'}") from error


def name_of(secret: JsonObject) -> str:
    """Return the name of a Secret."""
    return str(secret.get("metadata", {}).get("name", ""))


def listed(secret: JsonObject, annotation: str) -> set[str]:
    """Return what an annotation lists, divided by commas."""
    annotations = secret.get("metadata", {}).get("annotations") or {}
    return {entry.strip() for entry in annotations.get(annotation, "").split(",")} - {""}


def text_of(secret: JsonObject, *keys: str) -> str | None:
    """Return the value of the first key that the Secret has, or None.

    Raises:
        SecretError: If it is no text.
    """
    data = secret.get("data") or {}
    key = next((key for key in keys if key in data), None)
    if key is None:
        return None
    try:
        return base64.b64decode(data[key], validate=True).decode()
    except (ValueError, TypeError) as error:
        raise SecretError(f"Secret {name_of(secret)}: {key} is not text") from error


def redacted(text: str, *secrets: str | None) -> str:
    """Return a text without any of these values, whatever a library or a server put into it."""
    for part in {part for secret in secrets for part in (secret or "", *(secret or "").splitlines())}:
        if len(part) >= MIN_REDACTED:
            text = text.replace(part, "***").replace(base64.b64encode(part.encode()).decode(), "***")
    return text
