"""JSON that has one reading only: what is signed, sealed or put into a token.

Not the parser of request bodies. Written: sorted keys, no spaces, ASCII, finite numbers.
Read: UTF-8, an object at the top, no duplicate keys, no NaN, no lone surrogate, bounded.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, NoReturn


class NotStrictJson(ValueError):
    """The bytes have no reading or more than one; callers turn it into their own error."""


def encode(value: Mapping[str, Any]) -> bytes:
    """Canonical bytes of `value`; ValueError or TypeError when it has none (NaN, a set)."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )
    return text.encode("ascii")


def b64(data: bytes) -> str:
    """Bytes as the text of a member."""
    return base64.b64encode(data).decode("ascii")


def unb64(text: object) -> bytes:
    """Undo `b64`; TypeError when it is no text, ValueError when it is not base64."""
    if not isinstance(text, str):
        raise TypeError("base64 is text")
    return base64.b64decode(text, validate=True)


def decode(data: bytes, *, bytes_max: int) -> dict[str, Any]:
    """Read one JSON object.

    Raises:
        NotStrictJson: too long, too deep, not UTF-8, not an object, ambiguous, or not JSON.
    """
    if len(data) > bytes_max:
        raise NotStrictJson(f"{len(data)} bytes of JSON, at most {bytes_max} are read")
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
        if b"\\u" in data:  # only an escape can smuggle in a lone surrogate
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except NotStrictJson:
        raise
    except (ValueError, TypeError, RecursionError) as cause:
        raise NotStrictJson("not JSON") from cause
    if not isinstance(value, dict):
        raise NotStrictJson("not a JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise NotStrictJson("a JSON member appears twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise NotStrictJson(f"`{name}` is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise NotStrictJson("a JSON number is out of range")
    return value
