"""The life of a server: listen, load, be ready, drain, leave.

Kubernetes takes a terminating pod out of its endpoints while the pod gets SIGTERM, and neither waits for
the other. So the server says "not ready" at once, goes on answering for DRAIN_SECONDS while clients find
out, finishes what is in flight, and leaves with 0: a rolling update costs no request.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from types import FrameType

import uvicorn

from coppice_api import ExitCode
from inference_server import probe, served_model
from inference_server.app import State, create_app
from inference_server.errors import RefusedError
from inference_server.location import parse_uri
from inference_server.metrics import Metrics
from inference_server.served_model import Worker
from inference_server.settings import Settings

LOGGER = logging.getLogger(__name__)
IN_FLIGHT_SECONDS = 15
"""How long requests may take to finish after the drain; with the default drain within 30 s of grace."""
KEEP_ALIVE_SECONDS = 75
"""Idle connections stay open longer than clients keep them: we never close one under a request."""


class DrainingServer(uvicorn.Server):
    """A uvicorn server that leaves slowly on the first signal and at once on the second."""

    def __init__(self, config: uvicorn.Config, state: State) -> None:
        super().__init__(config)
        self._state = state
        self._loop = asyncio.get_running_loop()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain. Unlike in the base class the signal is not raised again: leaving is a success."""
        if self._state.draining:
            self.should_exit = True
            return
        drain_seconds = self._state.settings.drain_seconds if self._state.ready else 0.0
        self._state.draining = True
        LOGGER.info("%s: not ready, serving for %g s more", signal.Signals(sig).name, drain_seconds)
        self._loop.call_soon_threadsafe(self._loop.call_later, drain_seconds, self._leave)

    def _leave(self) -> None:
        self.should_exit = True


async def serve(settings: Settings) -> int:
    """Serve until told to stop.

    Returns:
        The exit code: 0 after a signal, 4 when the model was refused.

    Raises:
        RefusedError: If the model or the address cannot be used.
    """
    where = parse_uri(settings.model_uri)
    metrics = Metrics(digest=where.label, uri=where.uri)
    worker = Worker(settings.max_waiting)
    state = State(settings, metrics, worker)
    listener = _listen(settings.pod_ip, settings.port)
    config = uvicorn.Config(
        create_app(state),
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=IN_FLIGHT_SECONDS,
    )
    server = DrainingServer(config, state)
    LOGGER.info("listening on http://%s:%d", *listener.getsockname()[:2])
    life = asyncio.create_task(_live(state, server), name="model")
    try:
        await server.serve(sockets=[listener])
    finally:
        if not life.done():
            life.cancel()
        # The worker first: a load that is still running cannot be interrupted, only waited for.
        await asyncio.to_thread(worker.close)
        outcome = (await asyncio.gather(life, return_exceptions=True))[0]
    if isinstance(outcome, Exception):
        raise outcome
    return ExitCode.ANSWERED


async def _live(state: State, server: DrainingServer) -> None:
    """Load the model, say that it is ready, and probe it."""
    try:
        state.model = await state.worker.run(lambda: served_model.load(state.settings, state.metrics))
    except Exception:
        server.should_exit = True
        raise
    LOGGER.info("ready: %s, sha256 %s", state.model.uri, state.model.sha256)
    try:
        await probe.run(state.settings, state.model, state.worker, state.metrics)
    # The outermost loop of the probe: whatever it meets, requests are still answered, and the missing
    # accuracy holds a rollout.
    except Exception:
        LOGGER.exception("the probe ended; no accuracy will be reported any more")


def _listen(address: str, port: int) -> socket.socket:
    try:
        return socket.create_server((address, port), backlog=2048, reuse_port=False)
    except OSError as error:
        raise RefusedError(f"cannot listen on POD_IP {address}, PORT {port}: {error.strerror}") from error
