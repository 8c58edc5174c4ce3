"""What a Plan shows of rows written as text: filter and masks as a decoder applies them.

For suites of rules (docs/formats/policy-v1.md §8): the same functions that make a view, over
rows that the author of a rule made up. No key of a tenant comes here: pseudonyms are made with
a key of the suite's own, so they are like real ones and never equal to them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from gateway.domain.access import Plan
from gateway.domain.dataset import Column
from gateway.domain.layout import TIMED
from gateway.domain.masks import DROP
from gateway.domain.rowfilter import columns_of
from gateway.errors import InvalidInput
from gateway.shards.masks import MaskKeys, masked
from gateway.shards.rowfilters import passing

_DECIMAL = re.compile(r"decimal(?:128|256)\(([0-9]{1,2}), ([0-9]{1,2})\)\Z")
_KEYS = MaskKeys.of(bytes(32), "")


def visible(
    columns: Sequence[Column], rows: Sequence[Mapping[str, str]], plan: Plan
) -> tuple[dict[str, str | None], ...]:
    """The rows that pass, with the Plan's columns as they would be released, as text.

    Args:
        columns: of the dataset.
        rows: column -> value as text; a column that a row leaves out is NULL.
        plan: what is released.

    Raises:
        InvalidInput: a value is none of its column's type, or that type has no text.
    """
    released = [column for column in plan.columns if column.mask != DROP]
    read = columns_of(plan.row_filter) if plan.row_filter is not None else ()
    wanted = {*(column.name for column in released), *read}
    known = [column for column in columns if column.name in wanted]
    batch = pa.RecordBatch.from_arrays(
        [_values(column, [row.get(column.name) for row in rows]) for column in known],
        names=[column.name for column in known],
    )
    if plan.row_filter is not None:
        batch = batch.filter(passing(plan.row_filter, batch))
    texts = {
        column.name: _texts(masked(batch.column(column.name), column.mask, _KEYS))
        for column in released
    }
    return tuple({name: texts[name][n] for name in texts} for n in range(len(batch)))


def _values(column: Column, texts: Iterable[str | None]) -> Any:
    try:
        return pa.array(list(texts), pa.string()).cast(_kind(column.type))
    except (pa.ArrowException, ValueError, TypeError) as cause:
        raise InvalidInput(
            f"a value of `{column.name[:80]}` is no `{column.type[:80]}`",
            advice="write numbers, texts, `true`, `2026-01-31` or `2026-01-31T12:00:00Z`, as the "
            "column's type demands; lists and structs have no text",
        ) from cause


def _texts(array: Any) -> list[str | None]:
    try:
        return list(array.cast(pa.string()).to_pylist())
    except (pa.ArrowException, ValueError) as cause:
        raise InvalidInput("values of this type have no text") from cause


def _kind(text: str) -> Any:
    if timed := TIMED.match(text):
        of = pa.timestamp if timed[1] == "timestamp" else pa.duration
        return of(timed[2], timed[3]) if timed[3] else of(timed[2])
    if digits := _DECIMAL.match(text):
        return pa.decimal256(int(digits[1]), int(digits[2]))
    return pa.type_for_alias(text)
