"""Everything that can go wrong, by what the caller can do about it.

ServerError
├── RefusedError      the model or a setting cannot be used: exit, a retry with the same settings cannot help
└── RequestError      one request is answered with an HTTP error, the server goes on
"""

from __future__ import annotations


class ServerError(Exception):
    """Base class of this package's errors."""


class RefusedError(ServerError):
    """The model or a setting cannot be served; the message says what was expected, found, and what to do."""


class RequestError(ServerError):
    """One request cannot be answered.

    Args:
        status: HTTP status code of the answer.
        message: Sentence for the protocol's `error` field.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
