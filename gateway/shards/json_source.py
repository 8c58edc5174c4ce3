"""Read JSON lines: one object a line, nested objects as structs, arrays as lists. Parser only.

pyarrow infers types from one block and fails at the first later surprise. Here a first pass
infers each block (whole lines, about 2 MiB) and merges the types, so that the second pass,
whose rows are kept, holds. A line that fits no merged type is found by halving its block.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.json as pj

from gateway.errors import SourceRefused
from gateway.shards.exact import has_large, inexact, is_exact
from gateway.shards.sources import Working, bounded, logical
from gateway.shards.types import COLUMNS_MAX, DEPTH_MAX, normal_schema

_BLOCK_BYTES = 2 << 20
_INT64_CHARS = 20  # a sign and 19 digits
LINE_BYTES_MAX = 16 << 20
_CHANGED = re.compile(r"Column\(/(.*?)\) changed from (\w+) to (\w+)", re.DOTALL)
_LONG = re.compile(rb"\d{16}")
_LONG_INTEGER = re.compile(rb'"(?:[^"\\]|\\.)*"|(-?\d{19,})(?![\d.eE])')
_INT64 = range(-(1 << 63), 1 << 63)
_BOM = b"\xef\xbb\xbf"


class JsonSource:
    """A file of JSON lines in UTF-8."""

    format = "jsonl"

    def __init__(self, file: Any, working: Working, *, types: dict[str, Any] | None = None) -> None:
        """Find the types by reading the whole file once.

        Args:
            file: seekable binary file with `size`.
            working: told the fraction read.
            types: at least as wide as these (name -> type), from files read before.
        """
        self._file = file
        self.types: dict[str, Any] = dict(types or {})
        self._rows = 0
        self._present: dict[str, int] = {}  # values that are there, by column
        for line, block in self._blocks():
            self._infer(line, block)
            working(file.tell() / max(file.size, 1))
        fields = [pa.field(name, kind) for name, kind in self.types.items()]
        if not fields:
            raise SourceRefused("the file has no fields", advice="write one JSON object a line")
        self.schema = normal_schema(pa.schema(fields))

    def rows(self) -> int:
        """Counted."""
        return self._rows

    def whole(self, working: Working, profile: str | None = None) -> set[int]:
        """Counted: a field that a line leaves out is a missing value."""
        del working, profile
        names = enumerate(self.schema.names)
        return {n for n, name in names if self._present.get(name) == self._rows}

    def batches(self) -> Iterator[Any]:
        """The rows."""
        for line, block in self._blocks():
            table = _told(line, block, self._parsed)
            batches = table.to_batches()
            if any(has_large(c) for batch in batches for c in batch.columns):
                _require_exact(line, block, self.schema)
            for batch in batches:
                yield from bounded(logical(batch, self.schema))

    def _parsed(self, block: bytes) -> Any:
        return _parse(block, explicit_schema=self.schema, unexpected_field_behavior="error")

    def _infer(self, line: int, block: bytes) -> None:
        _told(line, block, bytes.decode)  # pyarrow takes any bytes for text
        table = _told(line, block, _parse)
        _require_int64(line, block)
        for name, column in zip(table.schema.names, table.columns, strict=True):
            known = self.types.get(name, pa.null())
            try:
                self.types[name] = _merged(known, column.type, name)
            except _Conflict as conflict:
                raise self._refusal(conflict, line, block, name) from conflict
            present = len(column) - column.null_count
            self._present[name] = self._present.get(name, 0) + present
        self._rows += len(table)
        if len(self.types) > COLUMNS_MAX:
            raise SourceRefused("the lines have too many fields", advice=f"at most {COLUMNS_MAX}")

    def _refusal(self, conflict: _Conflict, line: int, block: bytes, name: str) -> SourceRefused:
        known = self.types[name]

        def clashes(lines: bytes) -> None:
            schema = _parse(lines).schema
            if name in schema.names:
                _merged(known, schema.field(name).type, name)

        at = line + _first_bad(block, clashes)
        return _changed(at, conflict.path, str(conflict.known), str(conflict.other))

    def _blocks(self) -> Iterator[tuple[int, bytes]]:
        """Whole lines, with the number of the first one (from 1)."""
        self._file.seek(0)
        line, rest = 1, b""
        while data := bytes(self._file.read(_BLOCK_BYTES)):
            data = (rest + data).removeprefix(_BOM) if line == 1 else rest + data
            end = data.rfind(b"\n") + 1
            if not end and len(data) > LINE_BYTES_MAX:
                raise SourceRefused(
                    f"line {line} is longer than 16 MiB", advice="convert the file to Parquet"
                )
            block, rest = data[:end], data[end:]
            if block.strip():
                yield line, block
            line += block.count(b"\n")
        if rest.strip():
            yield line, rest


def _parse(block: bytes, **options: Any) -> Any:
    return pj.read_json(
        pa.BufferReader(block),
        read_options=pj.ReadOptions(use_threads=False, block_size=len(block) + 1),
        parse_options=pj.ParseOptions(**options),
    )


def _require_int64(line: int, block: bytes) -> None:
    """Refuse whole numbers that pyarrow would make fractions without a word (sound JSON only)."""
    if not _LONG.search(block):
        return
    for found in _LONG_INTEGER.finditer(block):
        if found[1] and (len(found[1]) > _INT64_CHARS or int(found[1]) not in _INT64):
            at = line + block.count(b"\n", 0, found.start())
            raise SourceRefused(
                f"line {at} has a whole number of more than 64 bits",
                advice="write it as text, or convert the file to Parquet with a decimal column",
            )


def _require_exact(line: int, block: bytes, schema: Any) -> None:
    """Refuse whole numbers that stand in a place of fractions and would be rounded there."""
    kind = pa.struct(schema)
    for at, text in enumerate(block.split(b"\n"), line):
        if not _LONG.search(text):
            continue
        try:
            value = json.loads(text.decode().removeprefix("\ufeff"))
        except ValueError as error:  # pyarrow lets two objects stand in a line
            raise SourceRefused(
                f"line {at} is not a JSON object", advice="write one JSON object a line"
            ) from error
        if _is_rounded(value, kind):
            raise inexact(f"line {at}")


def _is_rounded(value: Any, kind: Any) -> bool:
    if isinstance(value, dict) and pa.types.is_struct(kind):
        members = ((f.name, f.type) for f in kind)
        return any(_is_rounded(value.get(name), member) for name, member in members)
    if isinstance(value, list) and pa.types.is_list(kind):
        return any(_is_rounded(item, kind.value_type) for item in value)
    return isinstance(value, int) and pa.types.is_floating(kind) and not is_exact(str(value))


def _told(line: int, block: bytes, read: Callable[[bytes], Any]) -> Any:
    """Read a block; SourceRefused names the line that cannot be read, and no value of it."""
    try:
        return read(block)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        at = line + _first_bad(block, read)
        if isinstance(error, UnicodeDecodeError):
            raise SourceRefused(
                f"line {at} is not UTF-8", advice="convert the file to UTF-8 first"
            ) from error
        changed = _CHANGED.search(str(error))
        if changed and changed[1]:
            raise _changed(at, changed[1].replace("/", "."), changed[2], changed[3]) from error
        twice = "specified twice" in str(error)
        raise SourceRefused(
            f"line {at} has a field twice" if twice else f"line {at} is not a JSON object",
            advice="write one JSON object a line",
        ) from error


def _first_bad(block: bytes, read: Callable[[bytes], Any]) -> int:
    """How many lines stand before the first one with which reading fails, by halving."""
    lines = block.split(b"\n")
    low, high = 0, len(lines)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            text = b"\n".join(lines[:middle])
            if text.strip():
                read(text)
            low = middle
        except (pa.ArrowException, UnicodeDecodeError, _Conflict):
            high = middle
    return low


def _changed(line: int, path: str, one: str, other: str) -> SourceRefused:
    return SourceRefused(
        f"line {line}: `{path[:80]}` is {other[:80]}, in earlier lines {one[:80]}",
        advice="give the field one type in all lines, for instance text",
    )


class _Conflict(Exception):
    """Two types of one field that no wider type holds."""

    def __init__(self, path: str, known: Any, other: Any) -> None:
        super().__init__(path)
        self.path, self.known, self.other = path, known, other


def _merged(one: Any, other: Any, path: str) -> Any:
    """The least type that holds both; raises _Conflict."""
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if {one, other} == {pa.int64(), pa.float64()}:
        return pa.float64()
    texts = [pa.types.is_string(kind) or pa.types.is_timestamp(kind) for kind in (one, other)]
    if all(texts):
        return pa.string()  # text of which some looks like times
    return _merged_nested(one, other, path)


def _merged_nested(one: Any, other: Any, path: str) -> Any:
    if path.count(".") > DEPTH_MAX:
        raise SourceRefused("a field is nested too deep", advice=f"at most {DEPTH_MAX} levels")
    if pa.types.is_list(one) and pa.types.is_list(other):
        return pa.list_(_merged(one.value_type, other.value_type, f"{path}.[]"))
    if not (pa.types.is_struct(one) and pa.types.is_struct(other)):
        raise _Conflict(path, one, other)
    members = {f.name: f.type for f in one}
    for f in other:
        known = members.get(f.name, pa.null())
        members[f.name] = _merged(known, f.type, f"{path}.{f.name}")
    return pa.struct(list(members.items()))
