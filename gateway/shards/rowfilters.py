"""Which rows of a batch pass a row filter (domain/rowfilter.py gives the meaning).

Evaluated by Kleene logic over original values; a row passes only when the tree is TRUE, so
UNKNOWN (NULL, NaN) withholds it under any negation. Never handed to pyarrow as a scan filter:
that would touch statistics of columns without keys.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from gateway.domain.rowfilter import Filter, Literal
from gateway.errors import InvalidInput

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DECIMAL_DIGITS = 76


def passing(tree: Filter, batch: Any) -> Any:
    """Return a boolean array without NULL: the rows for which the tree is TRUE.

    Raises:
        InvalidInput: the filter does not fit the batch; no value is quoted.
    """
    try:
        result = _evaluate(tree, batch)
        return pc.fill_null(result, False)
    except (pa.ArrowException, KeyError, ValueError, OverflowError, InvalidOperation) as cause:
        raise InvalidInput("the row filter cannot be applied to these columns") from cause


def _evaluate(tree: Filter, batch: Any) -> Any:
    kind = tree[0]
    if kind in ("and", "or"):
        join = pc.and_kleene if kind == "and" else pc.or_kleene
        result = _evaluate(tree[1], batch)
        for part in tree[2:]:
            result = join(result, _evaluate(part, batch))
        return result
    if kind == "not":
        return pc.invert(_evaluate(tree[1], batch))
    if kind == "null":
        return pc.is_null(batch.column(tree[1]))
    if kind == "cmp":
        return _compare(batch.column(tree[2]), tree[1], tree[3])
    if kind == "in":
        return _among(batch.column(tree[1]), tree[2])
    raise InvalidInput("this is not a row filter")


def _among(column: Any, literals: Sequence[Literal]) -> Any:
    if not literals:
        return pa.repeat(pa.scalar(False), len(column))
    if all(literal[0] == "str" for literal in literals) and pa.types.is_string(column.type):
        words = pa.array([literal[1] for literal in literals], column.type)
        return pc.if_else(pc.is_valid(column), pc.is_in(column, words), pa.scalar(None, pa.bool_()))
    result = _compare(column, "==", literals[0])
    for literal in literals[1:]:
        result = pc.or_kleene(result, _compare(column, "==", literal))
    return result


def _compare(column: Any, op: str, literal: Literal) -> Any:
    kind, value = literal
    if pa.types.is_floating(column.type):
        return _compare_double(column, op, float(Decimal(str(value))))
    if pa.types.is_integer(column.type) and kind == "int":
        return _compare_whole(column, op, Fraction(value))
    if pa.types.is_decimal(column.type):
        return _compare_decimal(column, op, Decimal(str(value)))
    if kind == "ts":
        return _compare_time(column, op, value)
    if (kind, pa.types.is_string(column.type)) == ("str", True) or (
        kind == "bool" and pa.types.is_boolean(column.type)
    ):
        return _COMPARE[op](column, pa.scalar(value, column.type))
    raise InvalidInput("the row filter compares a column with another type")


def _compare_double(column: Any, op: str, value: float) -> Any:
    doubles = column.cast(pa.float64())
    known = pc.if_else(pc.is_nan(doubles), pa.scalar(None, pa.float64()), doubles)
    return _COMPARE[op](known, pa.scalar(value, pa.float64()))


def _compare_whole(column: Any, op: str, value: Fraction) -> Any:
    """Compare integers with a number that may lie between or beyond what they can hold."""
    floor = value.numerator // value.denominator
    if value.denominator != 1:
        if op in ("==", "!="):
            return _constant(column, op == "!=")
        op = "<=" if op in ("<", "<=") else ">"
    bits, signed = column.type.bit_width, pa.types.is_signed_integer(column.type)
    least = -(1 << (bits - 1)) if signed else 0
    most = (1 << (bits - 1 if signed else bits)) - 1
    if floor > most:
        return _constant(column, op in ("<", "<=", "!="))
    if floor < least:
        return _constant(column, op in (">", ">=", "!="))
    return _COMPARE[op](column, pa.scalar(floor, column.type))


def _constant(column: Any, value: bool) -> Any:  # noqa: FBT001 - the value itself
    return pc.if_else(pc.is_valid(column), pa.scalar(value), pa.scalar(None, pa.bool_()))


def _compare_decimal(column: Any, op: str, value: Decimal) -> Any:
    exponent = value.as_tuple().exponent
    scale = max(column.type.scale, -exponent if isinstance(exponent, int) else 0, 0)
    kind = pa.decimal256(_DECIMAL_DIGITS, scale)
    return _COMPARE[op](column.cast(kind), pa.scalar(value, kind))


def _compare_time(column: Any, op: str, text: str) -> Any:
    kind = column.type
    if pa.types.is_date(kind):
        days = date.fromisoformat(text).toordinal() - _EPOCH.toordinal()
        ticks = column.view(pa.int32() if pa.types.is_date32(kind) else pa.int64())
        return _compare_whole(
            ticks, op, Fraction(days * (1 if pa.types.is_date32(kind) else 86_400_000))
        )
    if not pa.types.is_timestamp(kind):
        raise InvalidInput("the row filter compares a column with another type")
    moment = datetime.fromisoformat(text)
    if (moment.tzinfo is None) != (kind.tz is None):
        raise InvalidInput("the row filter mixes times with and without a zone")
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    microseconds = (since.days * 86_400 + since.seconds) * 10**6 + since.microseconds
    ticks = Fraction(microseconds * _PER_SECOND[kind.unit], 10**6)
    return _compare_whole(column.view(pa.int64()), op, ticks)
