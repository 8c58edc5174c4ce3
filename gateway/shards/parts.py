"""Uploaded file bytes at rest until they are registered: sealed frames, random access.

Each part is sealed on arrival under the key of its registration, so that no byte of an
uploaded file ever lies on a disk in clear. Bytes: docs/formats/upload-part-v0.md.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway import failpoints
from gateway.crypto.envelope import NONCE_BYTES, TAG_BYTES, bound, seal
from gateway.errors import IntegrityError, InvalidInput, TooLarge

MAGIC = b"GWUP0\0\0\0"
FRAME_BYTES = 1 << 20  # plaintext of every frame but the last
_SEALED_BYTES = FRAME_BYTES + NONCE_BYTES + TAG_BYTES
_OVERHEAD_BYTES = NONCE_BYTES + TAG_BYTES
PART_BYTES_MAX = 1 << 40
FRAMES_HELD = 16  # decrypted; columns of a Parquet file are read in turns
_PARTS_HELD = 2  # a row group may lie across the border of two


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFacts:
    """What arrived."""

    bytes: int  # plaintext
    sha256: str  # hex, of the plaintext


def part_place(file: int, number: int) -> str:
    """The place a part is bound to: the file's and the part's ordinal in its registration."""
    return f"{file}/{number}"


def _aad(place: str, frame: int, *, final: bool) -> bytes:
    return bound("upload-part", place, frame, int(final))


class PartWriter:
    """Seals a part chunk by chunk; nothing is at `path` before `finish` returned."""

    def __init__(
        self, path: str | Path, key: bytes, *, place: str, bytes_max: int = PART_BYTES_MAX
    ) -> None:
        """Start a part; see `part_place`."""
        self._path, self._key, self._place = Path(path), key, place
        self._temporary = self._path.with_name(self._path.name + ".new")
        descriptor = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._file = os.fdopen(descriptor, "wb")
        self._file.write(MAGIC)
        self._pending = bytearray()
        self._frame = self._bytes = 0
        self._bytes_max = bytes_max
        self._digest = hashlib.sha256()

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take the next bytes; raises TooLarge over `bytes_max`."""
        self._bytes += len(chunk)
        if self._bytes > self._bytes_max:
            raise TooLarge(f"the part is larger than {self._bytes_max} bytes")
        self._digest.update(chunk)
        self._pending += chunk
        while len(self._pending) > FRAME_BYTES:  # the last frame waits for `finish`
            self._seal(bytes(self._pending[:FRAME_BYTES]), final=False)
            del self._pending[:FRAME_BYTES]

    def finish(self) -> PartFacts:
        """Seal the last frame, make it durable, give it its name."""
        self._seal(bytes(self._pending), final=True)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._temporary.rename(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        return PartFacts(bytes=self._bytes, sha256=self._digest.hexdigest())

    def abort(self) -> None:
        """Remove what was written; harmless after `finish`."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)

    def _seal(self, plaintext: bytes, *, final: bool) -> None:
        failpoints.reach("disk.part")
        self._file.write(seal(self._key, plaintext, _aad(self._place, self._frame, final=final)))
        self._frame += 1


def write_part(
    path: str | Path,
    key: bytes,
    stream: Iterable[bytes],
    *,
    place: str,
    bytes_max: int = PART_BYTES_MAX,
) -> PartFacts:
    """Seal a whole part; durable when it returns, nothing there when it raises."""
    writer = PartWriter(path, key, place=place, bytes_max=bytes_max)
    try:
        for chunk in stream:
            writer.write(chunk)
        return writer.finish()
    finally:
        writer.abort()


class PartReader:
    """Random access to one part. Raises IntegrityError for any changed, cut or moved byte."""

    def __init__(self, path: str | Path, key: bytes, *, place: str) -> None:
        """Open the part and authenticate its last frame, hence its length."""
        self._key, self._place = key, place
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._cipher = AESGCM(key)
        self._frames_held: OrderedDict[int, bytearray] = OrderedDict()
        try:
            self._frames, self.size = self._measure()
            self._frame_of(self._frames - 1)
        except BaseException:
            self.close()
            raise

    def read_at(self, offset: int, length: int) -> bytes:
        """Bytes from `offset`, fewer than `length` only at the end."""
        if offset < 0 or length < 0:
            raise InvalidInput("a range is not negative")
        out = bytearray(max(0, min(length, self.size - offset)))
        self.read_into(offset, memoryview(out))
        return bytes(out)

    def read_into(self, offset: int, out: memoryview) -> None:
        """Fill `out` with the bytes from `offset`, which must all exist."""
        while len(out):
            number, start = divmod(offset, FRAME_BYTES)
            frame = memoryview(self._frame_of(number))
            count = min(len(frame) - start, len(out))
            out[:count] = frame[start : start + count]
            offset, out = offset + count, out[count:]

    def release(self) -> None:
        """Forget the opened frames; reading opens them again."""
        self._frames_held.clear()

    @property
    def held_bytes(self) -> int:
        """Memory of the opened frames."""
        return sum(map(len, self._frames_held.values()))

    def close(self) -> None:
        """Close the file; harmless twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _t: type[BaseException] | None, _e: BaseException | None, _b: TracebackType | None
    ) -> None:
        self.close()

    def _measure(self) -> tuple[int, int]:
        sealed = os.fstat(self._descriptor).st_size - len(MAGIC)
        if os.pread(self._descriptor, len(MAGIC), 0) != MAGIC:
            raise IntegrityError("an uploaded part is of another format version")
        frames = max(1, -(-sealed // _SEALED_BYTES))
        if sealed < frames * _OVERHEAD_BYTES:
            raise IntegrityError("an uploaded part is cut off")
        return frames, sealed - frames * _OVERHEAD_BYTES

    def _frame_of(self, number: int) -> bytearray:
        held = self._frames_held
        if number in held:
            held.move_to_end(number)
            return held[number]
        sealed = os.pread(self._descriptor, _SEALED_BYTES, len(MAGIC) + number * _SEALED_BYTES)
        aad = _aad(self._place, number, final=number == self._frames - 1)
        reused = held.popitem(last=False)[1] if len(held) == FRAMES_HELD else bytearray()
        size = len(sealed) - _OVERHEAD_BYTES
        frame = reused if len(reused) == size else bytearray(max(size, 0))
        nonce, body = sealed[:NONCE_BYTES], memoryview(sealed)[NONCE_BYTES:]
        try:
            self._cipher.decrypt_into(nonce, body, aad, frame)
        except (InvalidTag, ValueError) as cause:
            raise IntegrityError("an uploaded part is not the one that was received") from cause
        held[number] = frame
        return frame


class UploadReader:
    """One uploaded file: its parts in order, read as one."""

    def __init__(self, paths: Sequence[str], key: bytes, *, file: int) -> None:
        """Open all parts of the registration's `file`-th file."""
        self._parts: list[PartReader] = []
        with contextlib.ExitStack() as stack:
            for number, path in enumerate(paths):
                part = PartReader(path, key, place=part_place(file, number))
                stack.callback(part.close)
                part.release()  # of the last frame, which was opened for its length
                self._parts.append(part)
            stack.pop_all()
        self._recent: list[PartReader] = []
        self._starts = [0]
        for part in self._parts:
            self._starts.append(self._starts[-1] + part.size)

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self._starts[-1]

    def read_at(self, offset: int, length: int) -> bytearray:
        """Bytes from `offset`, fewer than `length` only at the end."""
        stop = min(offset + length, self.size)
        out = bytearray(max(0, stop - offset))
        view = memoryview(out)
        for start, part in zip(self._starts, self._parts, strict=False):
            low, high = max(offset, start), min(stop, start + part.size)
            if low < high:
                self._use(part)
                part.read_into(low - start, view[low - offset : high - offset])
        return out

    def _use(self, part: PartReader) -> None:
        """Only the parts read last keep frames: memory does not grow with the upload."""
        if part in self._recent:
            self._recent.remove(part)
        elif len(self._recent) == _PARTS_HELD:
            self._recent.pop(0).release()
        self._recent.append(part)

    @property
    def held_bytes(self) -> int:
        """Memory of the opened frames of all parts."""
        return sum(part.held_bytes for part in self._parts)

    def close(self) -> None:
        """Close every part."""
        for part in self._parts:
            part.close()
