"""A stand-in for sshd, made with paramiko: one key may come in, and git's own programs are run for it."""

from __future__ import annotations

import contextlib
import io
import shlex
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import paramiko

from tests.git_servers.repository import ENVIRONMENT


def private_key(key: paramiko.PKey) -> str:
    """Return a key as text."""
    text = io.StringIO()
    key.write_private_key(text)
    return text.getvalue()


def known_hosts(port: int, key: paramiko.PKey) -> str:
    """Return the line by which a client knows the server."""
    return f"[127.0.0.1]:{port} {key.get_name()} {key.get_base64()}\n"


class _Gate(paramiko.ServerInterface):
    def __init__(self, allowed: paramiko.PKey) -> None:
        self._allowed = allowed
        self.command = ""
        self.asked = threading.Event()

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        good = username == "git" and key.asbytes() == self._allowed.asbytes()
        return paramiko.AUTH_SUCCESSFUL if good else paramiko.AUTH_FAILED

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self.command = command.decode()
        self.asked.set()
        return True

    def check_channel_env_request(self, channel: paramiko.Channel, name: bytes, value: bytes) -> bool:
        return False


@contextlib.contextmanager
def git_ssh(root: Path, allowed: paramiko.PKey, host_key: paramiko.PKey) -> Iterator[int]:
    """Serve the repositories under a folder; yields the port on 127.0.0.1."""
    listener = socket.create_server(("127.0.0.1", 0))
    transports: list[paramiko.Transport] = []

    def serve(connection: socket.socket) -> None:
        transport = paramiko.Transport(connection)
        transports.append(transport)
        transport.add_server_key(host_key)
        gate = _Gate(allowed)
        try:
            transport.start_server(server=gate)
        except (paramiko.SSHException, EOFError, OSError):
            # Who does not like our key hangs up, and how that is seen here depends on how far we had come.
            return
        channel = transport.accept(20)
        if channel is None or not gate.asked.wait(20):
            return
        program, path = shlex.split(gate.command)
        assert program in ("git-upload-pack", "git-receive-pack")
        process = subprocess.Popen(
            ["git", program.removeprefix("git-"), str(root / path.lstrip("/"))],
            env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin is not None and process.stdout is not None

        def upward() -> None:
            assert process.stdin is not None
            # Either side may end first.
            with contextlib.suppress(OSError):
                while data := channel.recv(65536):
                    process.stdin.write(data)
                    process.stdin.flush()
            with contextlib.suppress(OSError):
                process.stdin.close()

        up = threading.Thread(target=upward, name="ssh-up", daemon=True)
        up.start()
        with contextlib.suppress(OSError):
            while data := process.stdout.read1(65536):  # type: ignore[attr-defined]
                channel.sendall(data)
        process.stdout.close()
        code = process.wait()
        with contextlib.suppress(OSError):
            channel.send_exit_status(code)
        channel.close()
        up.join(20)
        # The client hangs up first: closing on what it has still to say resets the connection, and it would
        # lose what it has still to read.
        transport.join(20)
        transport.close()

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=(connection,), name="ssh", daemon=True).start()

    thread = threading.Thread(target=accept, name="ssh-accept", daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        # Closing alone does not wake a thread that waits in accept.
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for transport in transports:
            transport.close()
        thread.join(5)
