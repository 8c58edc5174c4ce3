"""While the key service is down at start: every request is refused with the reason.

Without its keys the gateway can open neither its journal nor its rules, so it can record
nothing and releases nothing. It starts by itself when the service answers.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.responses import JSONResponse, Response

from gateway.api.problems import problem_response
from gateway.config import Settings
from gateway.crypto.vault import SYSTEM_TENANT
from gateway.errors import GatewayError, KeyUnavailable
from gateway.ports import Kms
from gateway.services import plugs

_PAUSE_SECONDS = 2.0
_ADVICE = "wait: the gateway starts by itself when the key service answers"
App = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


def silent_kms(settings: Settings) -> Kms | None:
    """The key service if it is what does not answer; None if something else is wrong."""
    try:
        kms = plugs.kms_of(settings)
    except GatewayError:  # a secret or a library is missing: waiting would not help
        return None
    return None if _answers(kms) else kms


def _answers(kms: Kms) -> bool:
    try:
        kms.generations(SYSTEM_TENANT)
    except KeyUnavailable:
        return False
    return True


async def until_answering(kms: Kms, stopped: asyncio.Event) -> None:
    """Return when the service answers, or when told to stop."""
    while not stopped.is_set() and not await asyncio.to_thread(_answers, kms):
        waiting = asyncio.ensure_future(stopped.wait())
        await asyncio.wait((waiting,), timeout=_PAUSE_SECONDS)
        waiting.cancel()


def refusing(cause: KeyUnavailable) -> App:
    """Answers every request with the cause, and says that it is alive."""
    error = KeyUnavailable(cause.message, advice=_ADVICE)

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        answer: Response
        if scope["path"] == "/healthz":
            answer = JSONResponse({"alive": True})
        else:
            answer = problem_response(error, f"req_{secrets.token_hex(16)}")
        await answer(scope, receive, send)

    return app
