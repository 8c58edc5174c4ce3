"""Block table: where each page of a shard lies, for columns that can be read without Arrow.

One binary object per shard, little-endian; bytes in docs/formats/block-table-v1.md. A wrong
place or length cannot leak or forge anything: the page's GCM tag binds file, row group,
column and page. The table is still checked whole when it is read, so that arithmetic on it
never meets nonsense.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from gateway.errors import IntegrityError

MAGIC = b"GWB1"
PAGE_OVERHEAD_BYTES = 4 + 12 + 16  # length, nonce, tag around a page's bytes
ORDINAL_MAX = 32_767  # row groups, columns and pages are int16 in the page's AAD
_HEAD = struct.Struct("<4sQIIH")  # magic, rows, block_rows, blocks, columns
_COLUMN = struct.Struct("<IIH")  # field id, bytes per value, ordinal of the leaf in the file
_BLOCK = struct.Struct("<HHI")  # row group, page ordinal within it, rows
_TABLES_MAX = 32  # kept read; of 4,096 blocks about 1 MB each
_PAGE = struct.Struct("<QI")  # offset of the module in the file, its length with the 4 of length


class Page(NamedTuple):
    """One page module: all that `crypto.pages` needs to open it."""

    row_group: int
    column: int  # ordinal of the leaf in the file
    page: int
    offset: int
    length: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TableColumn:
    """One column that pages alone can serve."""

    field_id: int
    width: int  # bytes per value
    ordinal: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockTable:
    """Pages of one shard. `places[c][b]` is (offset, length) of column c, block b."""

    rows: int
    block_rows: int
    columns: tuple[TableColumn, ...]
    blocks: tuple[tuple[int, int, int], ...]  # (row group, page ordinal, rows)
    places: tuple[tuple[tuple[int, int], ...], ...]

    def index_of(self, field_id: int) -> int:
        """Position of the column in `columns`; raises IntegrityError when it has no pages."""
        for index, column in enumerate(self.columns):
            if column.field_id == field_id:
                return index
        raise IntegrityError(f"the block table has no column {field_id}")

    def page(self, index: int, block: int) -> Page:
        """The page of `columns[index]` in a block (both 0-based)."""
        row_group, page, rows = self.blocks[block]
        offset, length = self.places[index][block]
        return Page(row_group, self.columns[index].ordinal, page, offset, length, rows)

    def to_bytes(self) -> bytes:
        """The object's bytes."""
        head = _HEAD.pack(MAGIC, self.rows, self.block_rows, len(self.blocks), len(self.columns))
        return b"".join(
            (
                head,
                *(_COLUMN.pack(c.field_id, c.width, c.ordinal) for c in self.columns),
                *(_BLOCK.pack(*block) for block in self.blocks),
                *(_PAGE.pack(*place) for column in self.places for place in column),
            )
        )

    @property
    def digest(self) -> str:
        """SHA-256 hex of the bytes, as the Manifest names it."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @classmethod
    def from_bytes(cls, data: bytes, *, digest: str, file_bytes: int) -> BlockTable:
        """Read a table the Manifest names; raises IntegrityError.

        Args:
            data: the object's bytes.
            digest: SHA-256 hex that the Manifest gives for it.
            file_bytes: size of the shard's file; every page lies inside it.
        """
        if hashlib.sha256(data).hexdigest() != digest:
            raise IntegrityError("the block table is not the one that the manifest names")
        return cls._read(bytes(data), file_bytes)

    @classmethod
    @lru_cache(maxsize=_TABLES_MAX)
    def _read(cls, data: bytes, file_bytes: int) -> BlockTable:
        """Every lease reads the tables of its shards twice, and every epoch opens a lease."""
        table = cls._parse(data)
        _check(table, file_bytes)
        return table

    @classmethod
    def _parse(cls, data: bytes) -> BlockTable:
        if len(data) < _HEAD.size:
            raise IntegrityError("the block table is cut off")
        magic, rows, block_rows, blocks, columns = _HEAD.unpack_from(data)
        if magic != MAGIC:
            raise IntegrityError("the block table is of another format version")
        at_blocks = _HEAD.size + columns * _COLUMN.size
        at_pages = at_blocks + blocks * _BLOCK.size
        if len(data) != at_pages + columns * blocks * _PAGE.size:
            raise IntegrityError("the block table has another length than its counts say")
        pages = tuple(_PAGE.iter_unpack(memoryview(data)[at_pages:])) if blocks * columns else ()
        return cls(
            rows=rows,
            block_rows=block_rows,
            columns=tuple(
                TableColumn(field_id=f, width=w, ordinal=o)
                for f, w, o in _unpack_all(_COLUMN, data, _HEAD.size, at_blocks)
            ),
            blocks=_unpack_all(_BLOCK, data, at_blocks, at_pages),
            places=tuple(pages[c * blocks : (c + 1) * blocks] for c in range(columns)),
        )


def _unpack_all(shape: struct.Struct, data: bytes, start: int, stop: int) -> Any:
    return tuple(shape.iter_unpack(memoryview(data)[start:stop])) if stop > start else ()


def _refuse_unless(holds: bool, what: str) -> None:  # noqa: FBT001 - reads as a sentence
    if not holds:
        raise IntegrityError(f"the block table contradicts itself: {what}")


def _check(table: BlockTable, file_bytes: int) -> None:
    _refuse_unless(table.rows > 0 and table.block_rows > 0, "no rows")
    count = -(-table.rows // table.block_rows)
    _refuse_unless(len(table.blocks) == count, "number of blocks")
    _check_blocks(table.blocks, table.block_rows)
    last = table.rows - (count - 1) * table.block_rows
    _refuse_unless(table.blocks[-1][2] == last, "rows of the last block")
    ids = {column.field_id for column in table.columns}
    _refuse_unless(len(ids) == len(table.columns), "a column occurs twice")
    for column, places in zip(table.columns, table.places, strict=True):
        _refuse_unless(column.width > 0 and column.ordinal <= ORDINAL_MAX, "a column")
        _check_places(places, table.blocks, column.width, file_bytes)


def _check_blocks(blocks: Sequence[tuple[int, int, int]], block_rows: int) -> None:
    expected = {(0, 0)}
    for row_group, page, rows in blocks:
        _refuse_unless((row_group, page) in expected, "order of pages")
        _refuse_unless(max(row_group, page) <= ORDINAL_MAX, "an ordinal")
        _refuse_unless(0 < rows <= block_rows, "rows of a block")
        expected = {(row_group, page + 1), (row_group + 1, 0)}
    short = [rows for _, _, rows in blocks[:-1] if rows != block_rows]
    _refuse_unless(not short, "a short block before the last")


def _check_places(
    places: Sequence[tuple[int, int]],
    blocks: Sequence[tuple[int, int, int]],
    width: int,
    file_bytes: int,
) -> None:
    end = 4  # after the magic
    for (offset, length), (_, _, rows) in zip(places, blocks, strict=True):
        _refuse_unless(length == rows * width + PAGE_OVERHEAD_BYTES, "length of a page")
        _refuse_unless(end <= offset and offset + length <= file_bytes, "place of a page")
        end = offset + length
