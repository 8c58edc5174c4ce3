"""OpenLineage events as lines of a file: `file:///var/log/lineage.jsonl`, for what ships logs.

Each event is one line, flushed to the disk before it counts as sent. A line that a kill cut off
is removed when the file is opened again; its event comes again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from urllib.parse import SplitResult, unquote

from gateway.errors import ConfigError, Unavailable

_MODE = 0o600
_TAIL_BYTES = 1 << 20


def connect(parts: SplitResult) -> FileSink:
    """The plug of `file:`. Raises ConfigError."""
    path = Path(unquote(parts.path))
    if parts.netloc or parts.query or parts.fragment or not path.is_absolute():
        raise ConfigError(f"`{parts.geturl()[:200]}` is not a file", advice="write `file:///…`")
    return FileSink(path)


class FileSink:
    """A `gateway.ports.LineageSink`; one process writes a file at a time."""

    def __init__(self, path: Path) -> None:
        """Name the file; it is opened, or made (0600), with the first event."""
        self._path = path
        self._descriptor: int | None = None

    def emit(self, event: bytes) -> None:
        """Append one line, durably."""
        try:
            if self._descriptor is None:
                self._descriptor = self._open()
            rest = memoryview(event + b"\n")
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            os.fdatasync(self._descriptor)
        except OSError as cause:
            self.close()  # what was half written is cut off when it is opened again
            raise Unavailable(f"`{self._path}`: {cause.strerror}") from cause

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._path, flags, _MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            size = os.fstat(descriptor).st_size
            tail = os.pread(descriptor, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
            if tail and not tail.endswith(b"\n"):
                os.ftruncate(descriptor, size - len(tail) + tail.rfind(b"\n") + 1)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None
