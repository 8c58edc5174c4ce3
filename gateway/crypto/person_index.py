"""The person index of a shard: which blocks hold rows of whom, as keyed tags, sealed.

One object per shard beside its block table; bytes in docs/formats/person-index-v1.md. Written
part by part while the shard is, so that memory holds one part however many persons there are.
Each part is bound to shard, leaf, its number and whether it is the last: none can be left out,
repeated or moved. Its key is in the KeySheet of the version, and nowhere else.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from gateway.crypto.envelope import bound, seal, unseal
from gateway.crypto.person_tags import TAG_BYTES, Tags
from gateway.errors import IntegrityError

MAGIC = b"GWP1"
PART_TAGS, PART_BLOCKS = 1 << 16, 1 << 14  # a part is sealed when it has that many
_LENGTH = struct.Struct("<I")
_HEAD = struct.Struct("<II")  # first block, blocks
_COUNT_BYTES = 4
_PART_BYTES_MAX = 1 << 30
_READ_BYTES = 4 << 20

Read = Callable[[int, int], bytes]  # (start, length) of the object


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Whose index it is; bound to every part."""

    dataset_id: str
    shard: str
    leaf: str  # `<field id>.persons`

    def aad(self, number: int, *, is_last: bool) -> bytes:
        """Associated data of a part."""
        return bound("person-index", self.dataset_id, self.shard, self.leaf, number, int(is_last))


def leaf_of(field_id: int) -> str:
    """The leaf name under which a shard's index of this column has its key."""
    return f"{field_id}.persons"


def field_of(leaf: str) -> int | None:
    """The column that an index is of; None for any other leaf."""
    field_id, _, what = leaf.partition(".")
    return int(field_id) if what == "persons" else None


@dataclass(slots=True)
class Writer:
    """Takes the tags of a shard's rows in order, cuts them into blocks, seals them."""

    file: BinaryIO
    key: bytes = field(repr=False)
    place: Place
    block_rows: int
    _rows: list[tuple[Tags, NDArray[np.bool_]]] = field(default_factory=list)
    _waiting: int = 0
    _blocks: list[Tags] = field(default_factory=list)
    _tags: int = 0
    _first: int = 0
    _number: int = 0

    def add(self, tags: Tags, known: NDArray[np.bool_]) -> None:
        """Rows with their tags; `known` is false where a row is about nobody."""
        self._rows.append((tags, known))
        self._waiting += len(tags)
        if self._waiting >= self.block_rows:
            self._cut(self._waiting - self._waiting % self.block_rows)

    def finish(self) -> None:
        """Seal what is left; the file is whole then."""
        self._cut(self._waiting)
        self._seal(is_last=True)

    def _cut(self, rows: int) -> None:
        if not rows:
            return
        tags, known = (np.concatenate(column) for column in zip(*self._rows, strict=True))
        self._rows, self._waiting = [(tags[rows:], known[rows:])], len(tags) - rows
        for at in range(0, rows, self.block_rows):
            block = slice(at, min(at + self.block_rows, rows))
            self._blocks.append(_distinct(tags[block][known[block]]))
            self._tags += len(self._blocks[-1])
            if self._tags >= PART_TAGS or len(self._blocks) >= PART_BLOCKS:
                self._seal(is_last=False)

    def _seal(self, *, is_last: bool) -> None:
        counts = np.array([len(tags) for tags in self._blocks], "<u4")
        plain = b"".join((
            _HEAD.pack(self._first, len(counts)),
            counts.tobytes(),
            *(tags.astype("<u8").tobytes() for tags in self._blocks),
        ))  # fmt: skip
        sealed = seal(self.key, plain, self.place.aad(self._number, is_last=is_last))
        if not self._number:
            self.file.write(MAGIC)
        self.file.write(_LENGTH.pack(len(sealed)) + sealed)
        self._first += len(counts)
        self._number += 1
        self._blocks, self._tags = [], 0


def _distinct(tags: Tags) -> Tags:
    """Ascending, each once: a fourth of the time of `np.unique`, which hashes first."""
    tags.sort()
    is_first = np.ones(len(tags), np.bool_)
    np.not_equal(tags[1:], tags[:-1], out=is_first[1:])
    return tags[is_first]


def blocks_with(tag: int, read: Read, size: int, key: bytes, *, place: Place) -> list[int]:
    """Numbers of the blocks that hold rows of a person, ascending.

    Args:
        tag: the person's.
        read: a range of the object.
        size: bytes of the object.
        key: the index's own.
        place: whose index it must be.

    Raises:
        IntegrityError: it is not whole, or not what was written for this shard.
    """
    found: list[int] = []
    expected = 0
    for first, counts, tags in _parts(read, size, key, place):
        if first != expected:
            raise IntegrityError("the person index leaves out blocks")
        expected += len(counts)
        hits = np.flatnonzero(tags == np.uint64(tag))
        ends = np.cumsum(counts)
        found += (first + np.searchsorted(ends, hits, side="right")).tolist()
    return found


def _parts(read: Read, size: int, key: bytes, place: Place) -> Iterator[tuple[int, Any, Tags]]:
    buffer, at, number = b"", 0, 0

    def take(length: int) -> bytes:
        nonlocal buffer, at
        while len(buffer) < length:
            piece = read(at, min(max(_READ_BYTES, length - len(buffer)), size - at))
            if not piece or at >= size:
                raise IntegrityError("the person index is cut off")
            buffer, at = buffer + piece, at + len(piece)
        taken, buffer = buffer[:length], buffer[length:]
        return taken

    if take(len(MAGIC)) != MAGIC:
        raise IntegrityError("the person index is of another format version")
    is_last = False
    while not is_last:
        length = _LENGTH.unpack(take(_LENGTH.size))[0]
        if length > min(_PART_BYTES_MAX, size):
            raise IntegrityError("the person index is cut off")
        sealed = take(length)
        is_last = at == size and not buffer
        yield _part(unseal(key, sealed, place.aad(number, is_last=is_last)))
        number += 1


def _part(plain: bytes) -> tuple[int, Any, Tags]:
    first, blocks = _HEAD.unpack_from(plain)
    at_tags = _HEAD.size + blocks * _COUNT_BYTES
    counts = np.frombuffer(plain, "<u4", count=blocks, offset=_HEAD.size)
    tags = np.frombuffer(plain, "<u8", offset=at_tags)
    if int(counts.sum(dtype=np.int64)) * TAG_BYTES != len(plain) - at_tags:
        raise IntegrityError("the person index contradicts itself")
    return first, counts, tags
