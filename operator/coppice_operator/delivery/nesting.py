"""YAML that somebody else wrote: what a parser may raise, and how deep it may be before one looks at it."""

from __future__ import annotations

from itertools import accumulate

from ruamel.yaml.error import YAMLError

from coppice_operator.delivery.errors import FileRefusedError

MAX_DEPTH = 200
"""Of brackets. ruamel.yaml's time grows with the square of it: 20,000 of them keep a thread busy for minutes."""
YAML_ERRORS = (YAMLError, ValueError, RecursionError, TypeError, AttributeError, KeyError, IndexError, AssertionError)
"""What ruamel.yaml's pure loader raises for text that is no YAML: not only its own errors."""
_STEPS = {"{": 1, "[": 1, "}": -1, "]": -1}


def shallow(text: str) -> str:
    """Return the text.

    Raises:
        FileRefusedError: If its brackets are nested deeper than anybody nests them; those in quotes count too.
    """
    steps = (_STEPS[letter] for letter in text if letter in _STEPS)
    if max(accumulate(steps), default=0) > MAX_DEPTH:
        raise FileRefusedError(f"the file at strategy.git.path has brackets nested more than {MAX_DEPTH} deep")
    return text
