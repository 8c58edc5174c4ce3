"""Where a segment's plaintext comes from: pages of mapped shards, or frames of a view.

Everything is handed on only after its tag held. A client that looks into the memory where it is
opened sees nothing but what its plan lets through, whatever was done to a file: the keys of a
source open nothing else.
"""

from __future__ import annotations

import mmap
import os
from collections import OrderedDict
from typing import NamedTuple, Protocol

from gateway.crypto.pages import FrameOpener, PageOpener
from gateway.delivery.geometry import direct_geometry, tables_of, view_geometry
from gateway.delivery.spec import DirectSource, LeaseSpec, ViewSource
from gateway.domain.order import Segment
from gateway.errors import IntegrityError
from gateway.wire.segments import ALIGNMENT

_MAPS_MAX = 256


class Piece(NamedTuple):
    """One page or frame of a body, or padding (`block` is -1)."""

    size: int  # plaintext bytes
    block: int  # index into the version's blocks
    column: int  # index into the Plan's columns; 0 in a view


class Source(Protocol):
    """Which pieces a segment has, and how to open them."""

    def parts(self, segment: Segment) -> list[list[Piece]]:
        """Return the pieces of each part: a column (direct) or an Arrow message (view)."""
        ...

    def open(self, piece: Piece, out: memoryview) -> None:
        """Decrypt one piece into `out`; raises IntegrityError and leaves no plaintext."""
        ...


class Maps:
    """Long-lived read-only mappings, shared by all leases; the least recently opened go first.

    A mapping is found by path, device and inode: a file put in place of another is another.
    """

    def __init__(self) -> None:
        """Start without any."""
        self._maps: OrderedDict[tuple[str, int, int], memoryview] = OrderedDict()

    def open(self, path: str, file_bytes: int | None = None) -> memoryview:
        """Map a file; IntegrityError when it is missing or has another size than recorded."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as cause:
            raise IntegrityError("a sealed file is missing") from cause
        try:
            facts = os.fstat(fd)
            if facts.st_size == 0 or file_bytes not in (None, facts.st_size):
                raise IntegrityError("a sealed file has another size than recorded")
            key = (path, facts.st_dev, facts.st_ino)
            if key not in self._maps:
                mapped = mmap.mmap(fd, facts.st_size, prot=mmap.PROT_READ)
                self._maps[key] = memoryview(mapped)
            self._maps.move_to_end(key)
        finally:
            os.close(fd)
        while len(self._maps) > _MAPS_MAX:
            self._maps.popitem(last=False)  # unmapped when its last lease lets go of it
        return self._maps[key]


class DirectReader:
    """Columns of train-profile shards; a body is column after column."""

    def __init__(self, source: DirectSource, maps: Maps) -> None:
        """Verify the tables, map the shards, prepare the keys."""
        self._source = source
        self._tables = tables_of(source)
        self._maps = [maps.open(s.path, s.file_bytes) for s in source.shards]
        self._openers = [
            [PageOpener(s.deks[c.field_id], bytes.fromhex(s.aad_file_unique))
             for c in source.columns]
            for s in source.shards
        ]  # fmt: skip
        self._columns = [
            [table.index_of(c.field_id) for c in source.columns] for table in self._tables
        ]
        self._check_widths()
        self._blocks = [(s, b) for s, t in enumerate(self._tables) for b in range(len(t.blocks))]
        self._rows, _ = direct_geometry(source, self._tables)

    def _check_widths(self) -> None:
        for table, indices in zip(self._tables, self._columns, strict=True):
            for index, column in zip(indices, self._source.columns, strict=True):
                if table.columns[index].width != column.width:
                    raise IntegrityError("a column has another width than the plan says")

    def parts(self, segment: Segment) -> list[list[Piece]]:
        """Each column's pages over all blocks, each column at a multiple of the alignment."""
        found = []
        for index, column in enumerate(self._source.columns):
            pieces = [Piece(self._rows[b] * column.width, b, index) for b in segment.blocks]
            padding = -sum(piece.size for piece in pieces) % ALIGNMENT
            found.append([*pieces, Piece(padding, -1, index)] if padding else pieces)
        return found

    def open(self, piece: Piece, out: memoryview) -> None:
        """Decrypt one page from the mapping into `out`."""
        shard, block = self._blocks[piece.block]
        page = self._tables[shard].page(self._columns[shard][piece.column], block)
        module = self._maps[shard][page.offset : page.offset + page.length]
        opener = self._openers[shard][piece.column]
        opened = opener.open_into(module, page.row_group, page.column, page.page, out)
        if opened != piece.size:
            raise IntegrityError("a page has another length than its table says")


class ViewReader:
    """Arrow messages of a view; a body is message after message."""

    def __init__(self, source: ViewSource, plan_digest: str, maps: Maps) -> None:
        """Map the file; a view without rows has none to map."""
        self._source = source
        self._opener = FrameOpener(
            source.key,
            view=source.view,
            plan_digest=source.plan_digest or plan_digest,
            count=len(source.frames),
        )
        self._map = maps.open(source.path) if source.frames else memoryview(b"")
        if any(offset + length > len(self._map) for offset, length, _ in source.frames):
            raise IntegrityError("a view is shorter than its index says")
        _, self._sizes = view_geometry(source)

    def parts(self, segment: Segment) -> list[list[Piece]]:
        """One message per block, each at a multiple of the alignment."""
        found = []
        for block in segment.blocks:
            padding = -self._sizes[block] % ALIGNMENT
            pieces = [Piece(self._sizes[block], block, 0), Piece(padding, -1, 0)]
            found.append(pieces if padding else pieces[:1])
        return found

    def open(self, piece: Piece, out: memoryview) -> None:
        """Decrypt one frame from the mapping into `out`."""
        offset, length, _ = self._source.frames[piece.block]
        module = self._map[offset : offset + length]
        if self._opener.open_into(module, piece.block, out) != piece.size:
            raise IntegrityError("a frame has another length than its index says")


def open_source(spec: LeaseSpec, maps: Maps) -> Source:
    """Return the reader for a lease; raises IntegrityError when tables or files do not fit."""
    if isinstance(spec.source, ViewSource):
        return ViewReader(spec.source, spec.plan_digest, maps)
    return DirectReader(spec.source, maps)
