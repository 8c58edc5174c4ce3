"""Look at a sealed file from outside: its tail, its digests, where each page lies.

Every page header of a direct column is opened and must say what the block table will say, so
that a file which pyarrow laid out otherwise is refused when it is written and never found out
by a reader. Read in small pieces: a mapped file would count as memory of the sealer.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gateway.crypto.pages import LENGTH_BYTES, OVERHEAD_BYTES, ModuleType, PageOpener
from gateway.domain import compact
from gateway.errors import IntegrityError, InvalidInput

MAGIC = b"PARE"
_TAIL_BYTES_MAX = 256 << 20
_CRYPTO_BYTES_MAX = 4096
_DATA_PAGE, _PLAIN = 0, 0
_ALGORITHM, _GCM, _UNIQUE = 1, 1, 2  # of FileCryptoMetaData, in it, in that
_HEADER_BYTES_MAX = 1024
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """The end of a file: crypto metadata, footer module, length, magic."""

    length: int
    sha256: str
    aad_file_unique: bytes


def structure(data: bytes) -> tuple[compact.Struct, int]:
    """One Thrift structure of a file of ours, and where it ended; raises IntegrityError."""
    try:
        return compact.read(data)
    except InvalidInput as cause:
        raise IntegrityError("a Parquet structure is damaged") from cause


def read_tail(tail: bytes) -> tuple[bytes, memoryview]:
    """Return the `aad_file_unique` that a file's tail names, and the footer's module.

    Raises:
        IntegrityError: it is not the tail of a file sealed with AES_GCM_V1.
    """
    if len(tail) < 2 * LENGTH_BYTES or tail[-4:] != MAGIC:
        raise IntegrityError("the file is not an encrypted Parquet file")
    if int.from_bytes(tail[-8:-4], "little") + 8 != len(tail):
        raise IntegrityError("the file's footer has another length than it says")
    crypto, end = structure(tail[:_CRYPTO_BYTES_MAX])
    for field in (_ALGORITHM, _GCM):
        kind, crypto = crypto.get(field, (0, {}))
        if kind != compact.STRUCT:
            raise IntegrityError("the file is not sealed with AES_GCM_V1")
    kind, unique = crypto.get(_UNIQUE, (0, b""))
    if kind != compact.BINARY or not unique:
        raise IntegrityError("the file is not sealed with AES_GCM_V1")
    return bytes(unique), memoryview(tail)[end:-8]


class WrittenFile:
    """One file that this process has just written and closed."""

    def __init__(self, path: str) -> None:
        """Open it for reading; use `close`."""
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.bytes = os.fstat(self._descriptor).st_size

    def close(self) -> None:
        """Close it."""
        os.close(self._descriptor)

    def sha256(self) -> str:
        """Digest of the whole file."""
        digest, at, piece = hashlib.sha256(), 0, bytearray(_PIECE_BYTES)
        while got := os.preadv(self._descriptor, [piece], at):
            digest.update(memoryview(piece)[:got])
            at += got
        return digest.hexdigest()

    def tail(self) -> Tail:
        """The file's tail; raises IntegrityError when both ends do not say `PARE`."""
        ends = self.read(0, 4) + self.read(self.bytes - 8, 8)
        length = int.from_bytes(ends[4:8], "little") + 8
        if ends[:4] != MAGIC or length > min(self.bytes - 4, _TAIL_BYTES_MAX):
            raise IntegrityError("the file is not an encrypted Parquet file")
        tail = self.read(self.bytes - length, length)
        digest = hashlib.sha256(tail).hexdigest()
        return Tail(length=length, sha256=digest, aad_file_unique=read_tail(tail)[0])

    def read(self, at: int, length: int) -> bytes:
        """Bytes at a place; raises IntegrityError when they are not all there."""
        data = os.pread(self._descriptor, length, max(at, 0))
        if at < 0 or len(data) != length:
            raise IntegrityError("the file is cut off")
        return data


@dataclass(frozen=True, slots=True)
class DirectColumn:
    """Walks the modules of one column's chunks: header and page by turns."""

    file: WrittenFile
    opener: PageOpener
    ordinal: int  # of the leaf in the file
    width: int  # bytes per value

    def places(
        self, chunks: list[tuple[int, int]], blocks: list[tuple[int, int, int]]
    ) -> tuple[tuple[int, int], ...]:
        """Offset and length of each block's page module.

        Args:
            chunks: offset and length of the column's chunk in each row group.
            blocks: row group, page ordinal and rows of each block.

        Raises:
            IntegrityError: the chunks hold anything but one PLAIN page per block.
        """
        found = []
        at = stop = 0
        for group, page, rows in blocks:
            if page == 0:
                if at != stop:
                    raise IntegrityError("a column chunk holds more pages than blocks")
                at, stop = chunks[group][0], sum(chunks[group])
            at, length = self._page(at, (group, page), rows)
            found.append((at, length))
            at += length
        if at != stop:
            raise IntegrityError("a column chunk holds more pages than blocks")
        return tuple(found)

    def _page(self, at: int, place: tuple[int, int], rows: int) -> tuple[int, int]:
        near = self.file.read(at, min(_HEADER_BYTES_MAX, self.file.bytes - at))
        header = LENGTH_BYTES + int.from_bytes(near[:LENGTH_BYTES], "little")
        if header + LENGTH_BYTES > len(near):
            raise IntegrityError("a page header is longer than any of ours")
        self._check(near[:header], place, rows)
        said = near[header : header + LENGTH_BYTES]
        length = LENGTH_BYTES + int.from_bytes(said, "little")
        if length != rows * self.width + OVERHEAD_BYTES:
            raise IntegrityError("a page does not hold its block's values and nothing else")
        return at + header, length

    def _check(self, module: bytes, place: tuple[int, int], rows: int) -> None:
        group, page = place
        head = self.opener.open_module(
            memoryview(module), ModuleType.DATA_PAGE_HEADER, group, self.ordinal, page
        )
        fields, _ = structure(head)  # PageHeader; 5 is its DataPageHeader
        size = rows * self.width
        sealed = size + OVERHEAD_BYTES
        expected: Mapping[int, int] = {1: _DATA_PAGE, 2: size, 3: sealed}
        values = fields.get(5, (0, None))[1]
        plain = isinstance(values, dict) and _numbers(values, (1, 2)) == [rows, _PLAIN]
        if not plain or _numbers(fields, expected) != [*expected.values()]:
            raise IntegrityError("a page is not plain values of its block")


def _numbers(struct: compact.Struct, fields: Iterable[int]) -> list[int | None]:
    try:
        return [compact.number(struct, field) for field in fields]
    except InvalidInput as cause:
        raise IntegrityError("a page header is damaged") from cause
