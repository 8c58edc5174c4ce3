"""The HTTP door: mounts the Acts, and sends every request down one path.

Pure ASGI all the way (BaseHTTPMiddleware halves throughput). Runs under the guarded HTTP
protocol class of `gateway.delivery.guard`; sizes and deadlines of bodies are checked here.
"""

from __future__ import annotations

import base64
import logging
import re
import secrets
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.api import (
    access,
    asking,
    consents,
    copies,
    datasets,
    health,
    identity,
    keys,
    leases,
    lineage,
    obligations,
    openapi,
)
from gateway.api.acts import Act, answer, ask_of
from gateway.api.facade import Gateway
from gateway.api.idempotency import Replies, digest_of, key_of, scope_of
from gateway.api.problems import UNSEEN, problem_response
from gateway.config import Settings
from gateway.errors import GatewayError, MethodNotAllowed

ACTS: tuple[Act, ...] = (  # the router tries them in this order: what comes most often first
    *identity.ACTS,
    *leases.ACTS,
    *datasets.ACTS,
    *copies.ACTS,
    *asking.ACTS,
    *access.ACTS,
    *obligations.ACTS,
    *consents.ACTS,
    *keys.ACTS,
    *lineage.ACTS,
    *health.ACTS,
)
_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
_PLAIN = re.compile(rb"[!-~]{1,255}\Z")
log = logging.getLogger("gateway.api")


def create_app(gateway: Gateway, settings: Settings | None = None) -> FastAPI:
    """Build the ASGI application over the facade; no documentation pages, no CORS."""
    app = FastAPI(
        title="Dataset Gateway",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={HTTPException: _unrouted},
    )
    door = Door(gateway, settings or Settings())
    for act in ACTS:
        app.add_api_route(
            act.path,
            door.endpoint(act),
            methods=[act.method],
            include_in_schema=False,
            response_model=None,
        )
    document = openapi.document(ACTS)
    app.openapi = lambda: document  # type: ignore[method-assign]
    app.add_middleware(Doorframe)
    return app


class Door:
    """The one path of every request."""

    def __init__(self, gateway: Gateway, settings: Settings) -> None:
        """Serve `gateway` within the limits of `settings`."""
        self._gateway = gateway
        self._settings = settings
        self._replies = Replies()

    def endpoint(self, act: Act) -> Callable[[Request], Awaitable[Response]]:
        """The endpoint of one Act."""

        async def endpoint(request: Request) -> Response:
            request_id = request.scope["state"]["request_id"]
            request.scope["state"]["act"] = f"{act.method} {act.path}"
            try:
                return await self._serve(act, request)
            except GatewayError as error:
                request.scope["state"]["decision"] = error.decision
                if error.status >= 500:  # noqa: PLR2004 - the server's own
                    _log_failure(request_id, act, error)
                return (act.error_response or problem_response)(error, request_id)
            except Exception as error:  # noqa: BLE001 - the last line before the caller
                _log_failure(request_id, act, error)
                failed = GatewayError("internal")
                return (act.error_response or problem_response)(failed, request_id)

        return endpoint

    async def _serve(self, act: Act, request: Request) -> Response:
        # (1) Who is it? Before a byte of the body is read.
        caller = None if act.is_public else await self._authenticate(act, request)
        # (2) What exactly is asked? Anything that is not understood is refused.
        asked = await ask_of(act, request, caller, self._settings)

        # (3) Judge, record, act: the facade. It returns when the record is durable.
        async def run() -> Response:
            reply = await act.call(self._gateway, asked)
            request.scope["state"]["decision"] = getattr(reply, "decision", None)
            return answer(act, asked, reply)

        # (4) A retry under the same key gets the same answer.
        key = key_of(request) if act.takes_idempotency_key else None
        if key is None:
            return await run()
        scope = scope_of(request, caller, key)
        is_arrow = act.is_also_arrow and asked.wants_arrow
        return await self._replies.once(scope, digest_of([asked.body, is_arrow]), run)

    async def _authenticate(self, act: Act, request: Request) -> Any:
        return await self._gateway.authenticate(
            act.method,
            identity.url_of(request),
            identity.single_header(request, "authorization"),
            identity.single_header(request, "dpop"),
        )


class Doorframe:
    """Outermost ASGI layer: request id, headers that every answer has, the access log line."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap `app`."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = base64.b32encode(secrets.token_bytes(10)).decode().lower()
        scope.setdefault("state", {})["request_id"] = request_id
        begun, status = time.monotonic(), 0
        more = ((b"request-id", request_id.encode()), *_given_id(scope))

        async def framed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], *_HEADERS, *more]}
            await send(message)

        await self._app(scope, receive, framed)
        milliseconds = round((time.monotonic() - begun) * 1000, 1)
        decision = scope["state"].get("decision")
        log.info(
            "request",
            extra={
                "request_id": request_id,
                "act": scope["state"].get("act"),
                "status": status,
                "milliseconds": milliseconds,
                **({"decision": decision} if isinstance(decision, str) else {}),
            },
        )


def _given_id(scope: Scope) -> list[tuple[bytes, bytes]]:
    """AuthZEN 1.0: who sends one `X-Request-ID` gets it back, whatever the answer is."""
    if not scope["path"].startswith("/access/v1/"):
        return []
    given = [value for name, value in scope["headers"] if name == b"x-request-id"]
    return [(b"x-request-id", given[0])] if len(given) == 1 and _PLAIN.match(given[0]) else []


async def _unrouted(request: Request, error: Exception) -> Response:
    request_id = request.scope["state"]["request_id"]
    allowed = allowed_methods(request.url.path)
    if not allowed or getattr(error, "status_code", 404) != 405:  # noqa: PLR2004
        return problem_response(UNSEEN, request_id)
    refused = MethodNotAllowed(f"`{request.method[:20]}` is not served here")
    response = problem_response(refused, request_id)
    response.headers["Allow"] = ", ".join(allowed)
    return response


_PATTERNS = tuple((compile_path(act.path)[0], act.method) for act in ACTS)


def allowed_methods(path: str) -> list[str]:
    """The methods that some Act serves on `path` (Starlette names only the first route's)."""
    return sorted({method for pattern, method in _PATTERNS if pattern.match(path)})


def _log_failure(request_id: str, act: Act, error: Exception) -> None:
    # Types and places only: messages of foreign exceptions may quote cell values.
    places = [f"{f.filename}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)[-5:]]
    cause = type(error.__cause__).__name__ if error.__cause__ else None
    log.error(
        "failed",
        extra={
            "request_id": request_id,
            "act": f"{act.method} {act.path}",
            "error": type(error).__name__,
            "cause": cause,
            "places": places,
        },
    )
