"""Git over ssh without a program: a paramiko channel where dulwich expects a connection.

A host key that the Secret's known_hosts does not hold is refused, always.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from dulwich.client import SSHVendor
from paramiko.hostkeys import HostKeyEntry

from coppice_operator.delivery.credentials import Credentials
from coppice_operator.delivery.errors import CredentialsError, RemoteError

PORT = 22


def load_key(text: str, field: str, passphrase: str | None = None) -> paramiko.PKey:
    """Return a private key.

    Raises:
        CredentialsError: If it cannot be read.
    """
    for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
        try:
            return kind.from_private_key(io.StringIO(text), password=passphrase)
        except (paramiko.SSHException, ValueError, IndexError, UnsupportedAlgorithm):
            # The next kind may read it; what the library says of it could hold parts of it.
            continue
    raise CredentialsError(
        f"{field} of the Secret is not a private key of kind Ed25519, ECDSA or RSA, or its passphrase is wrong"
    )


class ParamikoVendor(SSHVendor):
    """Connects as dulwich asks.

    Args:
        credentials: With identity and known_hosts.
        timeout_seconds: Of each step, and of each read.
    """

    def __init__(self, credentials: Credentials, timeout_seconds: float) -> None:
        self._credentials, self._timeout_seconds = credentials, timeout_seconds

    def run_command(  # type: ignore[override]
        self,
        host: str,
        command: bytes,
        username: str | None = None,
        port: int | None = None,
        **_ignored: object,
    ) -> Channel:
        """Run a command on a host.

        Raises:
            CredentialsError: If identity or known_hosts is missing or unreadable.
            RemoteError: If the host cannot be reached, is not the known one, or lets nobody in.
        """
        credentials = self._credentials
        if not credentials.identity or not credentials.known_hosts:
            missing = "known_hosts" if credentials.identity else "identity"
            raise CredentialsError(
                f"a repository over ssh needs {missing} in the Secret of strategy.git.credentialsSecretName"
            )
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(paramiko.RejectPolicy())
        _learn(client.get_host_keys(), credentials.known_hosts)
        try:
            client.connect(
                host,
                port or PORT,
                username=username or "git",
                pkey=load_key(credentials.identity, "identity", credentials.password),
                allow_agent=False,
                look_for_keys=False,
                timeout=self._timeout_seconds,
                banner_timeout=self._timeout_seconds,
                auth_timeout=self._timeout_seconds,
            )
            transport = client.get_transport()
            assert transport is not None
            channel = transport.open_session(timeout=self._timeout_seconds)
            channel.settimeout(self._timeout_seconds)
            channel.exec_command(command)
        except paramiko.BadHostKeyException as error:
            client.close()
            raise RemoteError(f"{host} shows another host key than known_hosts has: nothing was sent") from error
        except paramiko.AuthenticationException as error:
            client.close()
            raise RemoteError(f"{host} does not accept the key in identity") from error
        except (paramiko.SSHException, OSError) as error:
            client.close()
            if "not found in known_hosts" in str(error):
                raise RemoteError(f"known_hosts of the Secret has no key of {host}: nothing was sent") from error
            raise RemoteError(f"cannot reach {host}: {type(error).__name__}: {error}") from error
        return Channel(client, channel)


class Channel:
    """What dulwich reads and writes."""

    def __init__(self, client: paramiko.SSHClient, channel: paramiko.Channel) -> None:
        self._client, self._channel = client, channel
        self.can_read: Callable[[], bool] = channel.recv_ready
        self.stderr = channel.makefile_stderr("rb")

    def read(self, size: int) -> bytes:
        """Return exactly so many bytes, fewer only at the end."""
        data = b""
        while len(data) < size:
            chunk = self._channel.recv(size - len(data))
            if not chunk:
                break
            data += chunk
        return data

    def write(self, data: bytes) -> int:
        """Send all of it."""
        self._channel.sendall(data)
        return len(data)

    def close(self) -> None:
        """End the connection."""
        self._channel.close()
        self._client.close()


def _learn(keys: paramiko.HostKeys, text: str) -> None:
    for line in text.splitlines():
        line = line.strip()
        if not line or line.startswith(("#", "@")):
            continue
        try:
            entry = HostKeyEntry.from_line(line)
        except Exception as error:
            raise CredentialsError("known_hosts of the Secret has a line that is no host key") from error
        if entry is None or entry.key is None:
            continue
        for name in entry.hostnames:
            keys.add(name, entry.key.get_name(), entry.key)
