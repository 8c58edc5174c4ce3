"""Errors on the data port and between control and workers: by code, message and advice.

The document is that of RFC 9457; the last part of its `type` is the code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gateway import errors
from gateway.errors import GatewayError

PROBLEM_TYPE = "application/problem+json"


def _by_code(kind: type[GatewayError]) -> dict[str, type[GatewayError]]:
    found = {kind.code: kind}
    for child in kind.__subclasses__():
        found |= _by_code(child)
    return found


BY_CODE = _by_code(errors.GatewayError)


def fault_of(error: GatewayError) -> dict[str, Any]:
    """JSON values from which `error_of` makes the same error."""
    return {"code": error.code, "message": error.message, "advice": error.advice}


def error_of(fault: Mapping[str, Any]) -> GatewayError:
    """Return the error that a fault names; an unknown code is the root of the tree."""
    kind = BY_CODE.get(str(fault.get("code")), GatewayError)
    advice = fault.get("advice")
    return kind(str(fault.get("message")), advice=str(advice) if advice else None)


def error_of_problem(document: Mapping[str, Any]) -> GatewayError:
    """Return the error that a problem document names."""
    code = str(document.get("type", "")).rpartition("#")[2]
    return error_of(
        {"code": code, "message": document.get("detail"), "advice": document.get("advice")}
    )


def problem(error: GatewayError) -> tuple[int, bytes]:
    """Return status and body of the problem document."""
    body = {
        "type": f"docs/reference/errors.md#{error.code}",
        "title": error.code.replace("-", " "),
        "status": error.status,
        "code": error.code,
        "detail": error.message,
        "advice": error.advice,
        **error.facts,
    }
    return error.status, json.dumps(body).encode()
