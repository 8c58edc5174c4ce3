"""The rows of an auditor's SQL as they leave the sandbox: capped, named, JSON or Arrow.

Runs in the sandbox child. What either form cannot say exactly is refused and never rounded: a
reader would take the nearest value for the true one.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from gateway.errors import InvalidInput
from gateway.lineage import answers

_BATCH_ROWS = 2048
_TOO_WIDE = re.compile(r"\bUHUGEINT\b")  # DuckDB hands it to Arrow as a signed decimal


class TooMuch(Exception):
    """The result is over its byte limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """Who is behind the tags in an Arrow answer, as far as its reader may know."""

    columns: Mapping[str, str]  # a column that holds tags -> what it is called with names in it
    names: Mapping[str, str]  # tag -> name

    @classmethod
    def read(cls, payload: bytes) -> Shown:
        """From the JSON that control sends along; nothing = nobody is named."""
        given = json.loads(payload) if payload else {}
        return cls(columns=given.get("columns", {}), names=given.get("names", {}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """At most so many rows of a result."""

    schema: pa.Schema
    batches: list[pa.RecordBatch]
    is_truncated: bool

    @property
    def count(self) -> int:
        """How many rows."""
        return sum(batch.num_rows for batch in self.batches)


def take(relation: duckdb.DuckDBPyRelation, *, rows_max: int, bytes_max: int) -> Rows:
    """Run it, as far as the caps reach; every column has a name of its own.

    Raises:
        InvalidInput: a type or value that Arrow cannot hold.
        TooMuch: the rows are over `bytes_max`.
    """
    for name, kind in zip(relation.columns, relation.types, strict=True):
        if _TOO_WIDE.search(str(kind)):
            raise InvalidInput(f"column `{name[:80]}` is a UHUGEINT, which Arrow does not have")
    reader: Any = relation.to_arrow_reader(_BATCH_ROWS)
    names = distinct(reader.schema.names)
    schema = pa.schema([f.with_name(n) for f, n in zip(reader.schema, names, strict=True)])
    batches: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in reader:
        size += batch.nbytes
        if size > bytes_max:
            raise TooMuch
        kept = batch.slice(0, rows_max - rows).rename_columns(names)
        _require_exact(kept)
        batches.append(kept)
        rows += batch.num_rows
        if rows > rows_max:
            return Rows(schema=schema, batches=batches, is_truncated=True)
    return Rows(schema=schema, batches=batches, is_truncated=False)


def distinct(names: Sequence[str]) -> list[str]:
    """Each name once: `time`, `time_1`; a reader of named fields would keep one of the two."""
    taken, found = set(names), []
    for place, name in enumerate(names):
        if name not in names[:place]:
            found.append(name)
            continue
        other = next(o for n in range(1, len(names) + 1) if (o := f"{name}_{n}") not in taken)
        taken.add(other)
        found.append(other)
    return found


def _require_exact(batch: pa.RecordBatch) -> None:
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid as cause:  # a HUGEINT of 39 digits in a decimal of 38
        raise InvalidInput("a number of the result has more than 38 digits") from cause


def to_arrow(rows: Rows, shown: Shown) -> bytes:
    """One Arrow IPC stream, with names for tags."""
    taken = set(rows.schema.names)
    names = [_title(name, shown.columns, taken) for name in rows.schema.names]
    schema = pa.schema([f.with_name(n) for f, n in zip(rows.schema, names, strict=True)])
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in rows.batches:
            columns = [
                _named(column, shown.names) if name in shown.columns else column
                for name, column in zip(rows.schema.names, batch.columns, strict=True)
            ]
            writer.write_batch(pa.record_batch(columns, schema=schema))
    return sink.getvalue()


def _title(name: str, columns: Mapping[str, str], taken: set[str]) -> str:
    title = columns.get(name, name)
    return name if title in taken else title


def _named(column: pa.Array, names: Mapping[str, str]) -> pa.Array:
    """Text, and lists of text, with names where tags stand; anything else as it is."""
    kind = column.type
    if pa.types.is_string(kind):
        return pa.array([names.get(v, v) for v in column.to_pylist()], kind)
    if pa.types.is_list(kind) and pa.types.is_string(kind.value_type):
        values = column.to_pylist()
        return pa.array([v and [names.get(tag, tag) for tag in v] for v in values], kind)
    return column


def to_json(rows: Rows) -> bytes:
    """A JSON array of arrays; InvalidInput when a value has no exact JSON."""
    columns = [_values(rows, place) for place in range(len(rows.schema))] if rows.batches else []
    return answers.to_json(zip(*columns, strict=True), rows.schema.names)


def _values(rows: Rows, place: int) -> list[Any]:
    try:
        return [value for batch in rows.batches for value in batch.column(place).to_pylist()]
    except (ValueError, OverflowError) as cause:  # years beyond 9999, nanoseconds
        raise answers.no_json(rows.schema.names[place]) from cause
