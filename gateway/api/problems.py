"""Errors at the door: RFC 9457 documents that say what to do and never what broke inside."""

from __future__ import annotations

import json
from typing import Any

import orjson
from starlette.responses import Response

from gateway.crypto.tokens import USE_NONCE
from gateway.errors import AccessDenied, GatewayError, InvalidInput, NotAuthenticated, NotFound
from gateway.wire.problems import document_of

# Whether a thing is absent or hidden must not be seen: every 404 has this one body.
UNSEEN = NotFound("there is no such thing, or none that you may see")
_INTERNAL = "the gateway could not do this; nothing was released"


def problem_of(error: GatewayError, request_id: str) -> dict[str, Any]:
    """Return the problem document of `error`.

    A 404 is always the same but for the request id; a 500 never says more than its class.
    """
    if isinstance(error, NotFound):
        error = UNSEEN
    document = document_of(error)
    if error.status == 500:  # noqa: PLR2004 - the one status whose cause stays inside
        kept = {k: v for k, v in document.items() if k in ("type", "title", "status", "decision")}
        document = {**kept, "detail": _INTERNAL, "advice": error.advice_default}
    return {**document, "request_id": request_id}


def problem_response(error: GatewayError, request_id: str) -> Response:
    """Return the HTTP answer for `error`."""
    document = problem_of(error, request_id)
    return Response(
        dump(document),
        status_code=error.status,
        media_type="application/problem+json",
        headers=headers_of(error, error.status),
    )


def oauth_response(error: GatewayError, request_id: str) -> Response:
    """Return the answer of an OAuth endpoint: RFC 6749 §5.2 members beside the problem's."""
    document = problem_of(error, request_id)
    code, status = _oauth(error)
    document |= {"error": code, "error_description": document["detail"], "status": status}
    return Response(
        dump(document),
        status_code=status,
        media_type="application/json",
        headers=headers_of(error, status),
    )


def _oauth(error: GatewayError) -> tuple[str, int]:
    if isinstance(error, NotAuthenticated):
        wants_nonce = error.facts.get("oauth") == USE_NONCE
        return (USE_NONCE, 400) if wants_nonce else ("invalid_client", 401)
    if isinstance(error, AccessDenied):
        return "access_denied", 400
    if isinstance(error, NotFound):
        return "invalid_target", 400
    if isinstance(error, InvalidInput):
        return str(error.facts.get("oauth", "invalid_request")), 400
    return ("server_error" if error.status == 500 else "temporarily_unavailable"), error.status  # noqa: PLR2004


def headers_of(error: GatewayError, status: int) -> dict[str, str]:
    """The headers that belong to an error: how to authenticate, when to come back."""
    headers = {}
    if nonce := error.facts.get("nonce"):
        headers["DPoP-Nonce"] = str(nonce)
    if status == 401:  # noqa: PLR2004 - known by number
        wanted = f' error="{USE_NONCE}"' if nonce else ""
        headers["WWW-Authenticate"] = f'DPoP{wanted} algs="EdDSA Ed25519"'
    at_once = 1 if status == 503 else None  # noqa: PLR2004 - known by number
    seconds = error.facts.get("retry_after_seconds", at_once)
    if status in (429, 503) and seconds is not None:  # a budget that time does not heal: none
        headers["Retry-After"] = str(int(seconds))
    return headers


def dump(value: Any) -> bytes:
    """JSON bytes; what is not JSON becomes its text rather than a second error."""
    try:
        return orjson.dumps(value, default=str)
    except orjson.JSONEncodeError:  # lone surrogates, integers over 64 bits
        return json.dumps(value, default=str).encode()
