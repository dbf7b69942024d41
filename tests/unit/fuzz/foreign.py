"""What others may write: JSON of any shape, and what should be there with something else in places."""

from __future__ import annotations

import copy
import json
import os
from typing import Any

from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "160"))
"""Of each parser; a night of them finds more."""
NUMBERS = st.one_of(
    st.integers(-10, 10), st.integers(), st.sampled_from([2**31, 2**63, 2**64, -(2**63), 10**400, 1e308, -1e-308]),
    st.floats(),
)  # fmt: skip
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=20), st.just("x" * 3000))
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
DEEP = st.sampled_from([b"[" * 5000, b'{"a":' * 5000, b"[" * 5000 + b"]" * 5000])
BYTES = st.one_of(st.binary(max_size=200), JSON.map(lambda value: json.dumps(value).encode()), DEEP)


@st.composite
def damaged(draw: st.DrawFn, document: Any, *values: Any) -> Any:
    """A document with up to three places taken out, or something else put there.

    Args:
        draw: Of hypothesis.
        document: As it should be.
        values: Further things to put in places: what an attacker would.
    """
    result = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        node, key = draw(st.sampled_from(list(_places(result)) or [(None, None)]))
        if node is None:
            return draw(JSON)
        if draw(st.booleans()) and isinstance(node, dict):
            del node[key]
        else:
            # A copy: what is put there may be the place of the next damage.
            node[key] = copy.deepcopy(draw(st.one_of(JSON, *([st.sampled_from(values)] if values else []))))
    return result


def _places(node: Any) -> Any:
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in children:
        yield node, key
        yield from _places(value)
