"""Errors as documents, and between control and workers: by code, message and advice.

The document is that of RFC 9457; the last part of its `type` is the code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gateway import errors
from gateway.errors import GatewayError

PROBLEM_TYPE = "application/problem+json"
TYPE_BASE = "/docs/reference/errors.md#"
_RESERVED = {"type", "title", "status", "detail", "advice", "decision", "request_id", "error"}

_NO_FACTS = _RESERVED | {"code", "message", "position"}


def _by_code(kind: type[GatewayError]) -> dict[str, type[GatewayError]]:
    found = {kind.code: kind}
    for child in kind.__subclasses__():
        found |= _by_code(child)
    return found


BY_CODE = _by_code(errors.GatewayError)


def fault_of(error: GatewayError) -> dict[str, Any]:
    """JSON values from which `error_of` makes the same error."""
    fault = {"code": error.code, "message": error.message, "advice": error.advice}
    return {**fault, "facts": error.facts} if error.facts else fault


def error_of(fault: Mapping[str, Any]) -> GatewayError:
    """Return the error that a fault names; an unknown code is the root of the tree."""
    kind = BY_CODE.get(str(fault.get("code")), GatewayError)
    advice = fault.get("advice")
    error = kind(str(fault.get("message")), advice=str(advice) if advice else None)
    error.facts.update(fault.get("facts") or {})
    return error


def error_of_problem(document: Mapping[str, Any]) -> GatewayError:
    """Return the error that a problem document names."""
    code = str(document.get("type", "")).rpartition("#")[2]
    fault = {"code": code, "message": document.get("detail"), "advice": document.get("advice")}
    facts = {name: value for name, value in document.items() if name not in _NO_FACTS}
    return error_of({**fault, "facts": facts})


def title_of(kind: type[GatewayError]) -> str:
    """The first sentence of the class, as a title."""
    return (kind.__doc__ or kind.code).strip().splitlines()[0].rstrip(".")


def document_of(error: GatewayError) -> dict[str, Any]:
    """The whole problem document of `error`."""
    document: dict[str, Any] = {
        "type": TYPE_BASE + error.code,
        "title": title_of(type(error)),
        "status": error.status,
        "detail": error.message,
        "advice": error.advice,
    }
    if error.decision:
        document["decision"] = error.decision
    return document | {k: v for k, v in error.facts.items() if k not in _RESERVED and v is not None}


def problem(error: GatewayError) -> tuple[int, bytes]:
    """Return status and body of the problem document on the data port."""
    return error.status, json.dumps({**document_of(error), "code": error.code}).encode()
