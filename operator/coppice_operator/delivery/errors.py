"""What can go wrong on the way into a repository. Messages are for the user and name what to do.

DeliveryError
├── FileRefusedError     the file at strategy.git.path cannot be used as it is
├── CredentialsError     the Secret lacks something, or may not be read
└── RemoteError          the server cannot be reached, or refuses
"""

from __future__ import annotations


class DeliveryError(Exception):
    """A change did not get into the repository; it is tried again."""


class FileRefusedError(DeliveryError):
    """The file at strategy.git.path, or the way to it, is not what its format says."""


class CredentialsError(DeliveryError):
    """The Secret named in strategy.git.credentialsSecretName cannot be used."""


class RemoteError(DeliveryError):
    """The server did not answer, or refused."""
