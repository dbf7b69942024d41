"""JSON as text and back: orjson's, and the standard library's for what orjson refuses.

That is half a character, and an integer beyond 64 bits: not ours to judge but the API server's.
"""

from __future__ import annotations

import json
from typing import Any

import orjson


def dumps(value: Any) -> bytes:
    """Return a value as JSON.

    Raises:
        TypeError: If it is none.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value).encode()


def loads(text: bytes | str) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: If it is none.
    """
    try:
        return orjson.loads(text)
    except ValueError:
        return json.loads(text)
