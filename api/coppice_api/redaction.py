"""Keeps what should not be shown out of what is said: user names and passwords in URIs."""

from __future__ import annotations

import logging
import re

# Up to the first slash or blank: an @ further on is part of a path, or of the next word.
_USERINFO = re.compile(r"""(?<=://)[^/@\s"']+@""")


def without_userinfo(text: str) -> str:
    """Return a text with `***@` for the user name and password of every URI in it."""
    return _USERINFO.sub("***@", text)


class RedactingFormatter(logging.Formatter):
    """Log lines without the user names and passwords of URIs, tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return without_userinfo(super().format(record))
