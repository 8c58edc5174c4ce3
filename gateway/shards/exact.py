"""Whole numbers that a fraction of 64 bits would round: never without a word. Parser only.

Text formats have one kind of number. A column with whole numbers and fractions becomes
fractions, and those hold whole numbers exactly up to 2^53 only: an id beyond it would come
back as another one.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from gateway.errors import SourceRefused

_EXACT = float(1 << 53)
_DIGITS_MAX = 309  # more than any fraction of 64 bits has


def has_large(column: Any) -> bool:
    """Whether a column of fractions, or one within, has values that may have been rounded."""
    if pa.types.is_list(column.type):
        return has_large(column.flatten())
    if pa.types.is_struct(column.type):
        return any(has_large(member) for member in column.flatten())
    if not pa.types.is_floating(column.type):
        return False
    return bool(pc.any(pc.greater_equal(pc.abs(column), _EXACT)).as_py())


def is_exact(digits: str) -> bool:
    """Whether a whole number (sign and digits) is one of the fractions of 64 bits."""
    return len(digits) <= _DIGITS_MAX and int(float(digits)) == int(digits)


def inexact(place: str) -> SourceRefused:
    """The refusal."""
    return SourceRefused(
        f"{place} has a whole number that a column of fractions would round",
        advice="write its column as text, or convert the file to Parquet with a decimal column",
    )
