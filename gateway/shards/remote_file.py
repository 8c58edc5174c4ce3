"""The parser's view of an uploaded file: byte ranges asked of the sealer, which has the key."""

from __future__ import annotations

import io
from typing import Any

from gateway.process.channel import Channel
from gateway.shards.memory import give_back

READ_BYTES_MAX = 16 << 20  # of one answer
_AHEAD_BYTES = 1 << 20
_PIECE_BYTES = 4 << 20


class RemoteFile(io.RawIOBase):
    """A read-only, seekable file over the channel; reads ahead when reading onwards."""

    def __init__(self, channel: Channel, number: int, size: int) -> None:
        """View the registration's `number`-th file."""
        super().__init__()
        self._channel, self._number, self.size = channel, number, size
        self._at = 0
        self._start, self._buffer = 0, memoryview(b"")

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Where the next read starts."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the next read."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def read(self, size: int = -1) -> Any:
        """Up to `size` bytes (all that is left for -1)."""
        left = max(0, self.size - self._at)
        want = left if size < 0 else min(size, left)
        if want <= _PIECE_BYTES:
            piece = self._piece(want) if want else memoryview(b"")
            if len(piece) == want:
                self._at += want
                return piece
        # A page of blobs is read at once: it stands here and in Arrow's buffer, a piece beside it,
        # and what Arrow kept of the page before would be a third.
        give_back()
        whole = bytearray(want)
        for_now = memoryview(whole)
        while for_now:
            piece = self._piece(min(len(for_now), _PIECE_BYTES))
            for_now[: len(piece)] = piece
            for_now = for_now[len(piece) :]
            self._at += len(piece)
        return whole

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` from the file."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _piece(self, want: int) -> memoryview:
        inside = self._at - self._start
        if not 0 <= inside < len(self._buffer):
            onwards = inside == len(self._buffer)
            length = min(max(want, _AHEAD_BYTES if onwards else 0), READ_BYTES_MAX)
            answer = self._channel.call("read", file=self._number, at=self._at, length=length)
            self._start, self._buffer, inside = self._at, memoryview(answer.payload), 0
            if not len(self._buffer):
                raise OSError("the upload ended before its size")
        return self._buffer[inside : inside + want]
