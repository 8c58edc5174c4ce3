"""Read CSV: separator and types are found in the data, over the whole file. Parser only.

pyarrow infers types from the first block alone and fails at the first later surprise
(a whole number that turns out to have fractions). Here a first pass over the whole file
widens such a column and starts again, so that the second pass, whose rows are kept, holds.
A whole number that the widened column would round is refused.
An empty cell, quoted or not, is a missing value; in columns that are no text, so are `NA`,
`NULL`, `nan` and their like (pyarrow's list), which text columns keep as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pac
import pyarrow.csv as pc

from gateway.errors import SourceRefused
from gateway.shards.exact import has_large, inexact, is_exact
from gateway.shards.sources import Working, bounded, logical
from gateway.shards.types import COLUMNS_MAX, normal_schema

_BLOCK_BYTES = 2 << 20  # pyarrow reads up to 32 blocks ahead: 64 MiB, within the parser's limit
_SEPARATORS = ",;\t|"
_COLUMN = re.compile(r"In CSV column #(\d+): .*?CSV conversion error to ([a-z0-9]+)", re.DOTALL)
_SHAPE = re.compile(r"CSV parse error: (?:Row #(\d+): )?Expected (\d+) columns, got (\d+)")
_LONG_WHOLE = r"^[+-]?\d{16,}$"
_NO_COLUMN = "column_"  # the name of a column whose header is empty, with its number
_NOT_UTF8, _TO_UTF8 = "the file is not UTF-8", "convert it to UTF-8 first"
_FEWER_COLUMNS = f"register 1 to {COLUMNS_MAX} columns"
_BOM = b"\xef\xbb\xbf"


class CsvSource:
    """A CSV file in UTF-8 with a header line."""

    format = "csv"

    def __init__(self, file: Any, working: Working, *, types: dict[str, Any] | None = None) -> None:
        """Find separator, header and types by reading the whole file once.

        Args:
            file: seekable binary file with `size`.
            working: told the fraction read.
            types: at least as wide as these (name -> type), from files read before.
        """
        self._file, self._working = file, working
        self._separator, self._names = _header(file)
        self.types: dict[str, Any] = dict(types or {})
        self._large: set[str] = set()  # columns of fractions with values beyond 2^53
        self._rows, self._with_nulls = self._settle()
        self._require_exact()
        for name in self._names:
            self.types.setdefault(name, pa.null())  # of a file without rows
        self.schema = normal_schema(pa.schema([(n, self.types[n]) for n in self._names]))

    def rows(self) -> int:
        """Counted."""
        return self._rows

    def whole(self, working: Working, profile: str | None = None) -> set[int]:
        """Counted."""
        del working, profile
        return set(range(len(self._names))) - self._with_nulls

    def batches(self) -> Iterator[Any]:
        """The rows."""
        for batch in self._read():
            yield from bounded(logical(_emptied(batch), self.schema))

    def _settle(self) -> tuple[int, set[int]]:
        for _ in range(3 * len(self._names) + 1):
            try:
                return self._first_pass()
            except pa.ArrowInvalid as error:
                self._widen(error)
        raise SourceRefused("the file's columns have no types", advice="convert it to Parquet")

    def _first_pass(self) -> tuple[int, set[int]]:
        rows, with_nulls = 0, set[int]()
        for batch in self._read():
            for n, f in enumerate(batch.schema):
                if pa.types.is_binary(f.type):  # pyarrow's word for text that is not UTF-8
                    raise SourceRefused(_NOT_UTF8, advice=_TO_UTF8)
                known = self.types.setdefault(f.name, f.type)
                if known != f.type:
                    self.types[f.name] = _wider(known, f.type)
                column = batch.column(n)
                if f.name not in self._large and has_large(column):
                    self._large.add(f.name)
                is_text = pa.types.is_string(f.type)
                if column.null_count or (is_text and n not in with_nulls and _has_empty(column)):
                    with_nulls.add(n)
            rows += len(batch)
            self._working(self._file.tell() / max(self._file.size, 1))
        return rows, with_nulls

    def _require_exact(self) -> None:
        """Refuse whole numbers that a column of fractions would round without a word."""
        large = {n: pa.string() for n in self._names if n in self._large and self._is_double(n)}
        row = 0
        for batch in self._read(large) if large else ():
            for name in large:
                text = pac.utf8_trim_whitespace(batch.column(name))
                whole = pac.match_substring_regex(text, _LONG_WHOLE)
                for at, value in enumerate(text.filter(whole).to_pylist()):
                    if not is_exact(value):
                        place = row + pac.indices_nonzero(whole)[at].as_py() + 1
                        raise inexact(f"row {place}")
            row += len(batch)

    def _is_double(self, name: str) -> bool:
        return bool(pa.types.is_floating(self.types[name]))

    def _read(self, types: Mapping[str, Any] | None = None) -> Iterator[Any]:
        """The rows, or the columns of these types alone."""
        self._file.seek(0)
        chosen = list(types or ())
        known = self.types if types is None else types
        types = {name: kind for name, kind in known.items() if not pa.types.is_null(kind)}
        try:
            yield from pc.open_csv(
                self._file,
                read_options=pc.ReadOptions(
                    use_threads=False,
                    block_size=_BLOCK_BYTES,
                    column_names=self._names,
                    skip_rows=1,
                ),
                parse_options=pc.ParseOptions(delimiter=self._separator, newlines_in_values=True),
                convert_options=pc.ConvertOptions(
                    column_types=types, include_columns=chosen, strings_can_be_null=False
                ),
            )
        except pa.ArrowInvalid as error:
            raise _refusal(error) or error from error

    def _widen(self, error: pa.ArrowInvalid) -> None:
        found = _COLUMN.search(str(error))
        if not found or int(found[1]) >= len(self._names):
            raise SourceRefused(
                "the file is not a sound CSV file", advice="convert it to Parquet"
            ) from error
        whole_number = found[2].startswith(("int", "uint"))
        self.types[self._names[int(found[1])]] = pa.float64() if whole_number else pa.string()


def _has_empty(text: Any) -> bool:
    return bool(pac.any(pac.equal(text, "")).as_py())


def _emptied(batch: Any) -> Any:
    """The batch with missing values for the empty cells of its text columns."""
    columns = [
        pac.replace_with_mask(column, pac.equal(column, ""), pa.scalar(None, column.type))
        if pa.types.is_string(column.type) and _has_empty(column)
        else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _wider(one: Any, other: Any) -> Any:
    numbers = {pa.int64(), pa.float64()}
    if pa.types.is_null(one):
        return other
    if pa.types.is_null(other):
        return one
    return pa.float64() if {one, other} == numbers else pa.string()


def _refusal(error: pa.ArrowInvalid) -> SourceRefused | None:
    """What can be said of a parse error without quoting the row."""
    text = str(error)
    shape = _SHAPE.search(text)
    if shape:
        place = f"line {int(shape[1])}" if shape[1] else "a line"
        return SourceRefused(
            f"{place} has {shape[3]} values where the header has {shape[2]}",
            advice="every line needs as many values as the header; quote values with separators",
        )
    if "invalid UTF8" in text or "invalid UTF-8" in text:
        return SourceRefused(_NOT_UTF8, advice=_TO_UTF8)
    if "straddling object" in text:
        return SourceRefused("a line is longer than 4 MiB", advice="convert the file to Parquet")
    return None


def _header(file: Any) -> tuple[str, list[str]]:
    file.seek(0)
    head = bytes(file.read(1 << 20)).removeprefix(_BOM)
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise SourceRefused("the file is UTF-16", advice="convert it to UTF-8 first")
    line = head.splitlines()[0] if head.strip() else b""
    if not line or len(line) > len(head) - 1 > 1 << 19:
        raise SourceRefused("the file has no header line", advice="name the columns in line 1")
    outside = re.sub(rb'"(?:[^"]|"")*"', b"", line).decode("utf-8", "replace")
    separator = max(_SEPARATORS, key=outside.count)
    if outside.count(separator) >= COLUMNS_MAX:
        raise SourceRefused(
            f"the file has {outside.count(separator) + 1} columns", advice=_FEWER_COLUMNS
        )
    try:
        table = pc.read_csv(
            pa.BufferReader(line + b"\n" + b"\n"),
            read_options=pc.ReadOptions(use_threads=False, autogenerate_column_names=True),
            parse_options=pc.ParseOptions(delimiter=separator),
            convert_options=pc.ConvertOptions(null_values=[], column_types=None),
        ).slice(0, 1)
        names = [str(column[0].as_py()) for column in table.columns]
    except (pa.ArrowException, IndexError, UnicodeDecodeError) as error:
        raise SourceRefused("the header line cannot be read", advice="check line 1") from error
    return separator, [name or f"{_NO_COLUMN}{n + 1}" for n, name in enumerate(names)]
