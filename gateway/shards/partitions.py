"""Columns whose value a file's place says: `region=eu/part-0.parquet` has `region` = `eu`.

The client reads places (gateway/client/sources.py); types are found here, from the values of
all files: whole numbers (without leading zeros) are int64, dates `YYYY-MM-DD` are date32,
everything else is text; `__HIVE_DEFAULT_PARTITION__` is a missing value. Parser only.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from gateway.errors import SourceRefused
from gateway.shards.sources import Source, Working

MISSING = "__HIVE_DEFAULT_PARTITION__"
_WHOLE = re.compile(r"(?:0|-?[1-9][0-9]{0,17})\Z")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")


def with_partitions(sources: list[Source], partitions: Sequence[dict[str, str]]) -> list[Source]:
    """The sources with their partition columns, if they have any; raises SourceRefused."""
    names = list(partitions[0])
    if any(list(partition) != names for partition in partitions):
        raise SourceRefused(
            "some files lie in other partitions than the first",
            advice="give every file the same `name=value` directories, in one order",
        )
    if not names:
        return sources
    kinds = {name: _kind([partition[name] for partition in partitions]) for name in names}
    return [
        _Partitioned(source, [(name, _value(partition[name], kinds[name])) for name in names])
        for source, partition in zip(sources, partitions, strict=True)
    ]


def _kind(values: list[str]) -> Any:
    given = [value for value in values if value != MISSING]
    if given and all(_WHOLE.match(value) for value in given):
        return pa.int64()
    if given and all(_DATE.match(value) and _is_date(value) for value in given):
        return pa.date32()
    return pa.string()


def _is_date(text: str) -> bool:
    try:
        dt.date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _value(text: str, kind: Any) -> Any:
    if text == MISSING:
        return pa.scalar(None, kind)
    return pa.scalar(text).cast(kind)


class _Partitioned:
    """A source with further columns of one value each."""

    def __init__(self, source: Source, values: list[tuple[str, Any]]) -> None:
        self._source, self._values = source, values
        self.format = source.format
        fields = list(source.schema)
        for name, value in values:
            if name in source.schema.names:
                raise SourceRefused(
                    f"the column `{name[:80]}` is in the file and in its directory's name",
                    advice="rename the directories or leave the column out of the files",
                )
            fields.append(pa.field(name, value.type))
        self.schema = pa.schema(fields)

    def rows(self) -> int:
        return self._source.rows()

    def whole(self, working: Working, profile: str | None = None) -> set[int]:
        own = len(self._source.schema)
        given = {own + n for n, (_, value) in enumerate(self._values) if value.is_valid}
        return self._source.whole(working, profile) | given

    def batches(self) -> Iterator[Any]:
        for batch in self._source.batches():
            further = [pa.repeat(value, len(batch)) for _, value in self._values]
            yield pa.RecordBatch.from_arrays([*batch.columns, *further], names=self.schema.names)
