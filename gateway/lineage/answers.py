"""Rows for people and programs: JSON values of what DuckDB returns, and rows by name.

Times are ISO 8601 UTC with `Z`; whole numbers stay whole numbers, however large; NaN and the
infinities are text, since JSON has no number for them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any


def plain(value: Any) -> Any:
    """`value` as something JSON has."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    for kinds, convert in _CONVERSIONS:
        if isinstance(value, kinds):
            return convert(value)
    return str(value)


def to_json(rows: Iterable[Sequence[Any]]) -> bytes:
    """Rows as a UTF-8 JSON array of arrays."""
    return json.dumps(
        [[plain(value) for value in row] for row in rows], separators=(",", ":"), allow_nan=False
    ).encode()


def _float(value: float) -> Any:
    return value if math.isfinite(value) else str(value)


def _decimal(value: Decimal) -> Any:
    return int(value) if value == value.to_integral_value() else str(value)


def _moment(value: datetime) -> str:
    naive = value.replace(tzinfo=None) - (value.utcoffset() or timedelta())
    return naive.isoformat() + "Z"


def _mapping(value: dict[Any, Any]) -> dict[str, Any]:
    return {str(plain(key)): plain(item) for key, item in value.items()}


_CONVERSIONS: tuple[tuple[Any, Any], ...] = (
    (float, _float),
    (Decimal, _decimal),
    (datetime, _moment),
    ((date, time), lambda value: value.isoformat()),
    (timedelta, str),
    ((bytes, bytearray), lambda value: bytes(value).hex()),
    (dict, _mapping),
    ((list, tuple), lambda value: [plain(item) for item in value]),
)
