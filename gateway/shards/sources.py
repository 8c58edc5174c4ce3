"""Read uploaded files, told apart by their content: Parquet, Arrow IPC; CSV and JSON next door.

Parser only. Each source gives its logical schema, a guess of its rows, which columns certainly
hold no missing value, and batches of bounded size in logical types.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from gateway.errors import SourceRefused
from gateway.shards.footer import DECRYPT, check_footer, uneven
from gateway.shards.types import is_fixed_width, normal_schema, retyped, without_list_views

BATCH_BYTES = 4 << 20
_BATCH_ROWS_MAX = 65_536
_SAMPLE_ROWS = 512
_IPC_FILE, _IPC_STREAM, _PARQUET, _SEALED = b"ARROW1\0\0", b"\xff\xff\xff\xff", b"PAR1", b"PARE"
_PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2",
           b"\xfd7zXZ\x00": "xz", b"\x04\x22\x4d\x18": "lz4"}  # fmt: skip
_FOREIGN = {b"\x89HDF": "HDF5", b"SQLite format 3\0": "SQLite", b"ORC": "ORC", b"Obj\x01": "Avro",
            b"\xd0\xcf\x11\xe0": "Excel", b"\x80\x04": "pickle", b"\x93NUMPY": "NumPy"}  # fmt: skip
Working = Callable[[float], None]


class Source(Protocol):
    """One uploaded file."""

    format: str
    schema: Any  # logical

    def rows(self) -> int:
        """How many rows, about."""
        ...

    def whole(self, working: Working, profile: str | None = None) -> set[int]:
        """Columns (by position) without missing values; may read the whole file.

        Args:
            working: told the fraction read.
            profile: asked for by the owner; None: the data decides.
        """
        ...

    def batches(self) -> Iterator[Any]:
        """The rows, in logical types, in batches of bounded size."""
        ...


def kind_of(file: Any) -> str:
    """`parquet`, `arrow`, `jsonl` or `csv`; SourceRefused for what is known to be none of them."""
    file.seek(0)
    head = bytes(file.read(16))
    file.seek(max(0, file.size - 8))
    tail = bytes(file.read(8))
    if head.startswith(_PARQUET) and tail.endswith(_PARQUET):
        return "parquet"
    if head.startswith((_IPC_FILE, _IPC_STREAM)):
        return "arrow"
    if _PARQUET in (head[:4], tail[4:]):
        raise SourceRefused("the Parquet file is cut off", advice="upload the file again")
    _refuse_known(head)
    if b"\0" in head:
        raise SourceRefused(
            "the file is not Parquet, Arrow, CSV or JSON lines",
            advice="convert it to Parquet or UTF-8 CSV",
        )
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if re.match(rb"\[\s*\{", text):
        raise SourceRefused("the file is one JSON array", advice="write one JSON object a line")
    return "jsonl" if re.match(rb"\{\s*(?:[\"}]|\Z)", text) else "csv"


def _refuse_known(head: bytes) -> None:
    if head.startswith(_SEALED):
        raise SourceRefused("the Parquet file is encrypted", advice=DECRYPT)
    for table, advice in ((_PACKED, "unpack it first"), (_FOREIGN, "convert it to Parquet first")):
        for magic, name in table.items():
            if head.startswith(magic):
                raise SourceRefused(f"{name} files cannot be registered", advice=advice)


def bounded(batch: Any) -> Iterator[Any]:
    """Cut a batch into slices of about BATCH_BYTES."""
    if len(batch):
        rows = max(1, min(_BATCH_ROWS_MAX, len(batch) * BATCH_BYTES // max(batch.nbytes, 1)))
        for at in range(0, len(batch), rows):
            yield batch.slice(at, rows)


def logical(batch: Any, schema: Any) -> Any:
    """The batch with every column in its logical type; raises ArrowInvalid."""
    columns = [_as(column, f.type) for column, f in zip(batch.columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(columns, names=schema.names)


def _as(column: Any, kind: Any) -> Any:
    if column.type == kind:
        return column
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    column = without_list_views(column)
    if pa.types.is_run_end_encoded(column.type):
        column = pa.compute.run_end_decode(column)
    if column.type != kind and column.type.equals(kind, check_metadata=False):
        return retyped(column, kind)
    return column.cast(kind)


class ParquetSource:
    """A Parquet file."""

    format = "parquet"

    def __init__(self, file: Any) -> None:
        """Read the footer."""
        # Buffered and not pre-buffered: a column chunk is read page by page.
        self._file = pq.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False)
        check_footer(file, self._file)
        self.schema = normal_schema(self._file.schema_arrow)

    def rows(self) -> int:
        """As the footer says."""
        return int(self._file.metadata.num_rows)

    def whole(self, working: Working, profile: str | None = None) -> set[int]:
        """By the statistics, else by reading (only if it can change how the file is stored)."""
        certain = {n for n, f in enumerate(self.schema) if not f.nullable} | self._by_statistics()
        if _is_scan_worthwhile(self.schema, certain, profile):
            return scan_for_nulls(self, working)
        return certain

    def batches(self) -> Iterator[Any]:
        """Row group by row group, in batches sized by a sample of their rows."""
        for group in range(self._file.num_row_groups):
            left = self._file.metadata.row_group(group).num_rows
            for batch in self._of_group(group):
                left -= len(batch)
                yield from bounded(logical(batch, self.schema))
            if left:
                raise uneven(group)

    def _of_group(self, group: int) -> Iterator[Any]:
        about = self._file.metadata.row_group(group)
        stated = about.total_byte_size // max(about.num_rows, 1)
        # No more of wide rows than a batch holds: a sample of blobs would be the largest batch.
        few = max(16, min(_SAMPLE_ROWS, BATCH_BYTES // max(stated, 1)))
        reader = self._reader(group, few)
        sample = next(reader, None)
        if sample is None:
            return
        seen = sample.nbytes // max(len(sample), 1)
        rows = int(max(16, min(_BATCH_ROWS_MAX, BATCH_BYTES // max(stated, seen, 1))))
        if few // 2 <= rows <= few * 2:
            # The sample's size will do, and what may be one page of 32 MiB is not read again.
            yield sample
        else:
            del sample
            reader = self._reader(group, rows)
        yield from reader

    def _reader(self, group: int, rows: int) -> Any:
        return self._file.iter_batches(rows, row_groups=[group], use_threads=False)

    def _by_statistics(self) -> set[int]:
        metadata = self._file.metadata
        nulls: dict[str, int | None] = {}
        for group in range(metadata.num_row_groups):
            row_group = metadata.row_group(group)
            for n in range(metadata.num_columns):
                column = row_group.column(n)
                top = column.path_in_schema.partition(".")[0]
                known = column.is_stats_set and column.statistics.has_null_count
                count = column.statistics.null_count if known else None
                before = nulls.get(top, 0)
                nulls[top] = None if count is None or before is None else before + count
        return {n for n, name in enumerate(self.schema.names) if nulls.get(name) == 0}


class ArrowSource:
    """An Arrow IPC file or stream."""

    format = "arrow"

    def __init__(self, file: Any) -> None:
        """Read the schema."""
        self._file = file
        self.schema = normal_schema(self._open().schema)

    def rows(self) -> int:
        """Guessed from the first batch's bytes per row."""
        first = next(self._raw(), None)
        if first is None or not len(first):
            return 1
        return int(max(1, self._file.size * len(first) // max(first.nbytes, 1)))

    def whole(self, working: Working, profile: str | None = None) -> set[int]:
        """By reading, if it can change how the file is stored."""
        certain = {n for n, f in enumerate(self.schema) if not f.nullable}
        if _is_scan_worthwhile(self.schema, certain, profile):
            return scan_for_nulls(self, working)
        return certain

    def batches(self) -> Iterator[Any]:
        """As they come."""
        for batch in self._raw():
            for piece in bounded(batch):
                yield from bounded(logical(piece, self.schema))

    def _open(self) -> Any:
        self._file.seek(0)
        is_file = self._file.read(8) == _IPC_FILE
        self._file.seek(0)
        return pa.ipc.open_file(self._file) if is_file else pa.ipc.open_stream(self._file)

    def _raw(self) -> Iterator[Any]:
        reader = self._open()
        if hasattr(reader, "num_record_batches"):
            yield from (reader.get_batch(n) for n in range(reader.num_record_batches))
        else:
            yield from reader


def _is_scan_worthwhile(schema: Any, certain: set[int], profile: str | None) -> bool:
    """Whether knowing more would change how a column is stored."""
    fits = [is_fixed_width(f.type) for f in schema]
    uncertain = any(fit for n, fit in enumerate(fits) if n not in certain)
    return uncertain and (profile == "train" or (profile is None and all(fits)))


def scan_for_nulls(source: Source, working: Working) -> set[int]:
    """Read everything once and return the columns without missing values."""
    whole = set(range(len(source.schema)))
    seen, rows = 0, max(source.rows(), 1)
    for batch in source.batches():
        whole -= {n for n in whole if _has_nulls(batch.column(n))}
        if not whole:
            break
        seen += len(batch)
        working(min(1.0, seen / rows))
    return whole


def _has_nulls(array: Any) -> bool:
    while pa.types.is_fixed_size_list(array.type) and not array.null_count:
        array = array.flatten()
    return bool(array.null_count)
