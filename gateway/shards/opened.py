"""A sealed shard's row groups, opened: each a plaintext Parquet file in memory. Decoders only.

pyarrow could decrypt by itself, but would ask for every key again with every batch, put each
page into fresh memory, take a plaintext file for a sealed one, and end the process over a
column whose key it lacks. So it never sees the sealed file: every module of the wanted columns
is opened here, at its place in the file (file, row group, column, page are bound by the tag),
and pyarrow gets their pages under a footer that names these columns and no others. One row
group is in memory at a time; the sealed bytes pass through one window.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from gateway.crypto.pages import LENGTH_BYTES, OVERHEAD_BYTES, ModuleType, PageOpener
from gateway.domain import compact
from gateway.domain.manifest import Shard
from gateway.errors import IntegrityError
from gateway.shards.written import read_tail, structure

_WINDOW_BYTES = 1 << 20  # about one page
_MAGIC = b"PAR1"
_CHUNK_ROOM = 64  # what a footer says of a chunk besides its metadata, at most
_CONTINUED = 0x80
_I32_FIELD = 1 << 4 | compact.I32  # the next field, an int32
# Fields of parquet.thrift
_VERSION, _SCHEMA, _ROWS, _GROUPS, _TEXTS = 1, 2, 3, 4, 5  # of FileMetaData
_NAME, _CHILDREN = 4, 5  # of SchemaElement
_COLUMNS, _GROUP_ROWS = 1, 3  # of RowGroup
_OFFSET, _META, _SEALED_META = 2, 3, 9  # of ColumnChunk
_CHUNK_BYTES, _DATA_AT, _DICTIONARY_AT = 7, 9, 11  # of ColumnMetaData
_NEEDED = (1, 2, 3, 4, 5, 6, _CHUNK_BYTES, _DATA_AT, _DICTIONARY_AT)  # without statistics
_HEADERS = (ModuleType.DATA_PAGE_HEADER, ModuleType.DICTIONARY_PAGE_HEADER)


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of the file: its schema elements, and the ordinals of its leaves."""

    elements: list[compact.Struct]
    leaves: range


@dataclass(slots=True)
class _Chunk:
    """A leaf in one row group: where its sealed pages lie, and its metadata."""

    group: int
    leaf: int
    start: int
    stop: int
    metadata: compact.Struct
    metadata_bytes: int


class OpenedShard:
    """Opens the modules of one shard with the keys at hand."""

    def __init__(self, source: Any, shard: Shard, tail: bytes, keys: Mapping[str, bytes]) -> None:
        """Open the footer.

        Args:
            source: the sealed file, a pa.NativeFile.
            shard: the Manifest's entry.
            tail: the file's last bytes, whose digest is the Manifest's.
            keys: DEK id -> key; of the footer and some leaves, commitments checked.

        Raises:
            IntegrityError: the footer does not open.
        """
        self._window, unique = _Window(source), bytes.fromhex(shard.aad_file_unique)
        _, module = read_tail(tail)
        footer = PageOpener(keys[shard.footer.dek], unique).open_module(module, ModuleType.FOOTER)
        self._footer, _ = structure(footer)
        self._openers = {
            ordinal: PageOpener(keys[leaf.dek], unique)
            for ordinal, leaf in enumerate(shard.leaves[1:])
            if leaf.dek in keys
        }
        self._columns = _columns(compact.structs(self._footer, _SCHEMA))

    def without_rows(self) -> Any:
        """A file of all columns and no rows: what the sealed one says of its schema."""
        kept = {field: self._footer[field] for field in (_VERSION, _SCHEMA, _TEXTS)}
        empty = {_ROWS: compact.integer(0), _GROUPS: _list([])}
        return pa.py_buffer(_MAGIC + _ended(kept | empty))

    def forget(self) -> None:
        """Let go of the keys."""
        self._openers.clear()

    def groups(self, schema: Any) -> Iterator[Any]:
        """Each row group, of the columns of this physical schema, as a file: a pa.Buffer.

        Raises:
            IntegrityError: a module is not the one that was sealed at its place.
        """
        columns = [self._columns[name] for name in schema.names]
        text = base64.b64encode(schema.serialize().to_pybytes())
        arrow = {1: (compact.BINARY, b"ARROW:schema"), 2: (compact.BINARY, text)}
        root = dict(compact.structs(self._footer, _SCHEMA)[0])
        root[_CHILDREN] = compact.integer(len(columns), compact.I32)
        elements = [root, *(element for column in columns for element in column.elements)]
        footer = {
            _VERSION: self._footer[_VERSION],
            _SCHEMA: _list(elements),
            _TEXTS: _list([arrow]),
        }
        leaves = {leaf for column in columns for leaf in column.leaves}
        for number, group in enumerate(compact.structs(self._footer, _GROUPS)):
            chunks = [
                self._chunk(sealed, number, leaf)
                for leaf, sealed in enumerate(compact.structs(group, _COLUMNS))
                if leaf in leaves
            ]
            yield self._group(footer, group, chunks)

    def _group(self, footer: compact.Struct, group: compact.Struct, chunks: list[_Chunk]) -> Any:
        written = [
            {_OFFSET: compact.integer(0), _META: (compact.STRUCT, chunk.metadata)}
            for chunk in chunks
        ]
        room = len(compact.write(footer))
        footer = footer | {
            _ROWS: group[_GROUP_ROWS],
            _GROUPS: _list([{**group, _COLUMNS: _list(written)}]),
        }
        size = sum(chunk.stop - chunk.start + chunk.metadata_bytes for chunk in chunks)
        size += len(_MAGIC) + room + _CHUNK_ROOM * (len(chunks) + 1)
        buffer = pa.allocate_buffer(size)
        out = memoryview(buffer).cast("B")
        at = _put(out, 0, _MAGIC)
        for chunk in chunks:
            at = self._pages(chunk, out, at)
        return buffer.slice(0, _put(out, at, _ended(footer)))

    def _chunk(self, sealed: compact.Struct, group: int, leaf: int) -> _Chunk:
        module = compact.within(sealed, _SEALED_META, compact.BINARY) or b""
        opened = self._openers[leaf].open_module(
            memoryview(module), ModuleType.COLUMN_META, group, leaf
        )
        said, _ = structure(opened)
        metadata = {field: said[field] for field in _NEEDED if field in said}
        places = [compact.number(metadata, field) for field in (_DATA_AT, _DICTIONARY_AT)]
        start = min(place for place in places if place is not None)
        stop = start + (compact.number(metadata, _CHUNK_BYTES) or 0)
        return _Chunk(group, leaf, start, stop, metadata, len(opened))

    def _pages(self, chunk: _Chunk, out: memoryview, begin: int) -> int:
        """Put a chunk's pages at `begin` of `out`, say so in its metadata, return their end."""
        opener, place = self._openers[chunk.leaf], (chunk.group, chunk.leaf)
        at, here, page = begin, chunk.start, 0
        if _DICTIONARY_AT in chunk.metadata:
            chunk.metadata[_DICTIONARY_AT] = compact.integer(at)
            page = -1
        while here < chunk.stop:
            if page == 0:
                chunk.metadata[_DATA_AT] = compact.integer(at)
            ordinals = place if page < 0 else (*place, page)
            module = self._window.module(here, chunk.stop)
            here += len(module)
            header = opener.open_module(module, _HEADERS[page < 0], *ordinals)
            module = self._window.module(here, chunk.stop)
            here += len(module)
            at = _put(out, at, _resized(header, len(module) - OVERHEAD_BYTES))
            if page < 0:
                at += opener.dictionary_into(module, *place, out[at:])
            else:
                at += opener.open_into(module, *place, page, out[at:])
            page += 1
        chunk.metadata[_CHUNK_BYTES] = compact.integer(at - begin)
        return at


class _Window:
    """Modules of a file, read through one buffer that is used again and again."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._bytes = memoryview(pa.allocate_buffer(_WINDOW_BYTES)).cast("B")
        self._start = self._stop = 0  # what it holds, as places in the file

    def module(self, at: int, stop: int) -> memoryview:
        """The module at a place, which ends no later than `stop`; good until the next call."""
        here = at - self._start
        if here >= 0 and at + LENGTH_BYTES <= self._stop:  # the usual case, without a call
            head = self._bytes[here : here + LENGTH_BYTES]
        else:
            head = self._read(at, LENGTH_BYTES, stop)
        return self._read(at, LENGTH_BYTES + int.from_bytes(head, "little"), stop)

    def _read(self, at: int, length: int, stop: int) -> memoryview:
        if at + length > stop:
            raise IntegrityError("a module does not end in its column chunk")
        if at < self._start or at + length > self._stop:
            if length > len(self._bytes):
                self._bytes = memoryview(pa.allocate_buffer(length)).cast("B")
            self._source.seek(at)
            read = self._source.readinto(self._bytes[: stop - at])
            self._start, self._stop = at, at + read
            if read < length:
                raise IntegrityError("the file is cut off")
        return self._bytes[at - self._start : at - self._start + length]


def _columns(elements: list[compact.Struct]) -> dict[str, _Column]:
    """The columns of a schema by name; its elements stand depth first after the root."""
    found, at, leaf = {}, 1, 0
    while at < len(elements):
        start, first, open_ = at, leaf, 1
        while open_:
            children = compact.number(elements[at], _CHILDREN) or 0
            open_ += children - 1
            leaf += not children
            at += 1
        name = compact.within(elements[start], _NAME, compact.BINARY)
        found[bytes(name or b"").decode()] = _Column(elements[start:at], range(first, leaf))
    return found


def _resized(header: bytes, size: int) -> bytes:
    """A page's header that says this size in the file; ours counts what sealing adds.

    Type, size and size in the file are its first three fields: too many pages to parse whole.
    """
    third = _after(header, _after(header, 0))
    end = _after(header, third)
    return header[: third + 1] + compact.varint(size << 1) + header[end:]


def _after(header: bytes, at: int) -> int:
    """Where the int32 field that begins here ends."""
    if header[at] != _I32_FIELD:
        raise IntegrityError("a page header does not begin as ours do")
    at += 1
    while header[at] & _CONTINUED:
        at += 1
    return at + 1


def _list(structs: list[compact.Struct]) -> tuple[int, Any]:
    return compact.LIST, (compact.STRUCT, structs)


def _ended(footer: compact.Struct) -> bytes:
    """The end of a plaintext file."""
    written = compact.write(footer)
    return written + len(written).to_bytes(4, "little") + _MAGIC


def _put(out: memoryview, at: int, piece: bytes) -> int:
    out[at : at + len(piece)] = piece
    return at + len(piece)
