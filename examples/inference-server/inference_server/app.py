"""The HTTP surface: the Open Inference Protocol v2 over REST, and /metrics.

Handlers are thin: read the request, give it to the worker, put the answer on the wire. Whatever fails
comes back as the protocol says, {"error": "<sentence>"}.
"""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inference_server import protocol
from inference_server.errors import RequestError
from inference_server.metrics import Metrics
from inference_server.served_model import ServedModel, Worker
from inference_server.settings import Settings

LOGGER = logging.getLogger(__name__)
SERVER_VERSION = "0.1.0"


class State:
    """What the handlers and the server's life share."""

    def __init__(self, settings: Settings, metrics: Metrics, worker: Worker) -> None:
        self.settings = settings
        self.metrics = metrics
        self.worker = worker
        self.model: ServedModel | None = None
        self.draining = False

    @property
    def ready(self) -> bool:
        """Whether new clients should come here."""
        return self.model is not None and not self.draining


def create_app(state: State) -> Starlette:
    """Return the application."""
    handlers = _Handlers(state)
    model = "/v2/models/{name}"
    version = model + "/versions/{version}"
    return Starlette(
        routes=[
            Route("/v2", handlers.server),
            Route("/v2/health/live", handlers.live),
            Route("/v2/health/ready", handlers.ready),
            *(
                route
                for prefix in (model, version)
                for route in (
                    Route(prefix, handlers.metadata),
                    Route(f"{prefix}/ready", handlers.model_ready),
                    Route(f"{prefix}/infer", handlers.infer, methods=["POST"]),
                )
            ),
            Route("/metrics", handlers.metrics),
        ],
        middleware=[Middleware(CloseWhileDraining, state=state)],
        exception_handlers={HTTPException: _http_error, RequestError: _request_error},
    )


class CloseWhileDraining:
    """Asks clients to let go of their connection once the server is leaving.

    A client that keeps its connection would find it closed at the very moment of its next request; told
    with an answer, it opens the next one elsewhere and loses nothing.
    """

    def __init__(self, app: ASGIApp, state: State) -> None:
        self._app = app
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_closing(message: Message) -> None:
            if message["type"] == "http.response.start" and self._state.draining:
                message["headers"] = [*message.get("headers", []), (b"connection", b"close")]
            await send(message)

        await self._app(scope, receive, send_closing)


class _Handlers:
    def __init__(self, state: State) -> None:
        self._state = state

    async def server(self, request: Request) -> Response:
        return JSONResponse({"name": "coppice-inference-server", "version": SERVER_VERSION, "extensions": []})

    async def live(self, request: Request) -> Response:
        return JSONResponse({"live": True})

    async def ready(self, request: Request) -> Response:
        return JSONResponse({"ready": self._state.ready}, 200 if self._state.ready else 503)

    async def metadata(self, request: Request) -> Response:
        model = self._model(request)
        return JSONResponse(
            protocol.model_metadata(
                self._state.settings.model_name,
                version=model.sha256,
                spec=model.input,
                classes=model.classes,
                parameters=model.parameters(),
            )
        )

    async def model_ready(self, request: Request) -> Response:
        self._check_name(request)
        document = {"name": self._state.settings.model_name, "ready": self._state.ready}
        return JSONResponse(document, 200 if self._state.ready else 503)

    async def infer(self, request: Request) -> Response:
        try:
            body = await _read(request, self._state.settings.max_body_bytes)
        except ClientDisconnect:
            # Nobody is there to read an answer, and no request was answered: it counts nowhere.
            return Response(status_code=400)
        except RequestError as error:
            self._state.metrics.answered(code=error.status, duration_seconds=0.0)
            raise
        # The clock starts with the whole request here: how slowly a client sends is not our latency.
        begin_seconds = time.monotonic()
        try:
            model = self._model(request)
            response = await self._state.worker.run(lambda: self._infer(model, body))
        except RequestError as error:
            response = _error(error.status, error.message)
        except Exception:
            LOGGER.exception("inference failed")
            response = _error(500, "the model failed on this request; the server's log says why")
        self._state.metrics.answered(code=response.status_code, duration_seconds=time.monotonic() - begin_seconds)
        return response

    async def metrics(self, request: Request) -> Response:
        return Response(self._state.metrics.exposition(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    def _infer(self, model: ServedModel, body: bytes) -> Response:
        # On the worker thread, JSON included: a large body must not hold up health checks either.
        request = protocol.parse_request(body, model.input)
        logits = model.infer(request.batch)
        document = protocol.answer(
            request, logits, model_name=self._state.settings.model_name, model_version=model.sha256
        )
        # NaN is not JSON: a model that computes it is broken, and its client gets a 500.
        text = json.dumps(document, allow_nan=False, separators=(",", ":"))
        return Response(text, media_type="application/json")

    def _check_name(self, request: Request) -> None:
        name = request.path_params["name"]
        if name != self._state.settings.model_name:
            raise RequestError(404, f"model {name!r} is not here: {self._state.settings.model_name!r} is")

    def _model(self, request: Request) -> ServedModel:
        self._check_name(request)
        model = self._state.model
        if model is None:
            raise RequestError(503, "the model is being loaded")
        version = request.path_params.get("version", model.sha256)
        if version != model.sha256:
            raise RequestError(404, f"version {version!r} is not here: {model.sha256!r} is")
        return model


async def _read(request: Request, max_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise RequestError(413, f"the body is larger than {max_bytes} bytes: send smaller batches")
    return bytes(body)


def _error(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": message}, status)


async def _request_error(request: Request, error: Any) -> Response:
    return _error(error.status, error.message)


async def _http_error(request: Request, error: Any) -> Response:
    return _error(error.status_code, str(error.detail))
