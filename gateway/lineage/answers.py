"""Rows for people and programs: JSON values of what DuckDB returns, and rows by name.

Times are ISO 8601 UTC with `Z`; NaN and the infinities are text, since JSON has no number for
them. A whole number beyond ±(2^53 − 1) is refused: most readers of JSON would round it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from gateway.domain.facts import INTEGER_MAX
from gateway.errors import InvalidInput

AS_TEXT = "cast it to VARCHAR, or take the answer as Arrow (`--out FILE`)"


def plain(value: Any) -> Any:
    """`value` as something JSON has; ValueError when a reader would take it for another."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return _whole(value)
    for kinds, convert in _CONVERSIONS:
        if isinstance(value, kinds):
            return convert(value)
    return str(value)


def to_json(rows: Iterable[Sequence[Any]], names: Sequence[str] = ()) -> bytes:
    """Rows as a UTF-8 JSON array of arrays; `names` are those of the columns.

    Raises:
        InvalidInput: a value has no exact JSON.
    """
    found = [[_cell(value, place, names) for place, value in enumerate(row)] for row in rows]
    return json.dumps(found, separators=(",", ":"), allow_nan=False).encode()


def no_json(name: str) -> InvalidInput:
    """The refusal of a column with such a value."""
    return InvalidInput(f"column `{name[:80]}` holds a value without exact JSON", advice=AS_TEXT)


def _cell(value: Any, place: int, names: Sequence[str]) -> Any:
    try:
        return plain(value)
    except ValueError as cause:
        raise no_json(names[place] if place < len(names) else str(place + 1)) from cause


def _whole(value: int) -> int:
    if abs(value) > INTEGER_MAX:
        raise ValueError("beyond what JSON readers keep exactly")
    return value


def _float(value: float) -> Any:
    return value if math.isfinite(value) else str(value)


def _decimal(value: Decimal) -> Any:
    return _whole(int(value)) if value == value.to_integral_value() else str(value)


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
