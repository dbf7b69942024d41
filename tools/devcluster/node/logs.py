"""Serves `kubectl logs`: GET /containerLogs/NAMESPACE/POD/CONTAINER over HTTPS on the loopback interface."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

_POLL_SECONDS = 0.2
_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True)
class Log:
    """What a container wrote."""

    path: Path
    grows: bool
    """False once the container has ended for good: whoever follows the log has it all."""


Find = Callable[[str, str, str], Log | None]
"""Returns the log of (namespace, pod, container)."""


@contextlib.asynccontextmanager
async def serving(find: Find, directory: Path) -> AsyncIterator[int]:
    """Serve while entered.

    Yields:
        The port.
    """
    application = web.Application()
    application.router.add_get("/containerLogs/{namespace}/{pod}/{container}", lambda request: _answer(find, request))
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=await asyncio.to_thread(_context, directory))
        await site.start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


async def _answer(find: Find, request: web.Request) -> web.StreamResponse:
    log = find(request.match_info["namespace"], request.match_info["pod"], request.match_info["container"])
    if log is None:
        raise web.HTTPNotFound(text="no such container on this node")
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await response.prepare(request)
    content = log.path.read_bytes() if log.path.exists() else b""
    position = len(content)
    if "tailLines" in request.query:
        count = int(request.query["tailLines"])
        content = b"".join(content.splitlines(keepends=True)[-count:]) if count else b""
    await response.write(content)
    while request.query.get("follow") == "true" and (log.grows or content):
        await asyncio.sleep(_POLL_SECONDS)
        # Asked before the read: what was written before the end is read after it.
        log = find(*request.match_info.values()) or Log(log.path, grows=False)
        content = b""
        if log.path.exists():
            with log.path.open("rb") as stream:
                stream.seek(position)
                content = stream.read(_CHUNK_BYTES)
        position += len(content)
        if content:
            await response.write(content)
    return response


def _context(directory: Path) -> ssl.SSLContext:
    """Return a context with a certificate of its own; openssl is needed for the cluster anyway."""
    directory.mkdir(parents=True, exist_ok=True)
    key, certificate = directory / "node.key", directory / "node.crt"
    if not certificate.exists():
        subprocess.run(
            [
                "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                "-keyout", str(key), "-out", str(certificate), "-days", "30", "-subj", "/CN=devcluster-node",
                "-addext", "subjectAltName=IP:127.0.0.1",
            ],
            check=True, capture_output=True,
        )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context
