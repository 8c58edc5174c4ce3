"""Sealed objects as files of one directory: the default store, `local:` or `local:///directory`.

Create-only: an object never changes after it is there. A call that returned survives `kill -9`
and power loss; one that did not leaves no object. Files are read-only (0400).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import SplitResult, unquote

from connectors.stores.object_keys import check_key, check_range
from gateway import failpoints
from gateway.crypto import private_files
from gateway.errors import (
    ConfigError,
    Conflict,
    IntegrityError,
    NotFound,
    Unavailable,
)

_INCOMING = ".incoming"


def connect(parts: SplitResult, *, state_dir: Path) -> LocalStore:
    """The plug of `local:`; without a path, `state_dir/objects`. Raises ConfigError."""
    if parts.netloc or parts.query or parts.fragment:
        raise ConfigError(f"`{parts.geturl()}` is not a directory", advice="write `local:///…`")
    path = Path(unquote(parts.path)) if parts.path else state_dir / "objects"
    if not path.is_absolute():
        raise ConfigError(f"`{path}` is not an absolute path")
    return LocalStore(path)


class LocalStore:
    """A `gateway.ports.ObjectStore`. Any number of threads and processes may share it."""

    is_local = True

    def __init__(self, directory: Path) -> None:
        """Open or make the directory; remove what killed writers left behind."""
        self._directory = directory
        self._incoming = directory / _INCOMING
        private_files.make_private_dir(self._incoming)
        self._sweep()

    def put_new(self, key: str, source: str) -> None:
        """Take the file in: a hard link on the same file system, else a copy.

        Linked, `source` becomes read-only; its owner removes that name and writes to it no more.
        """
        target = self._path(key)
        with _disk(key):
            if Path(source).stat().st_dev == self._directory.stat().st_dev:
                _settle(Path(source))
                self._publish(Path(source), target, key)
                return
            with self._temporary() as (file, temporary):
                with Path(source).open("rb") as original:
                    shutil.copyfileobj(original, file, 1 << 20)
                file.flush()
                _settle(temporary)
                self._publish(temporary, target, key)

    def put_bytes_new(self, key: str, data: bytes) -> None:
        """Store the bytes."""
        target = self._path(key)
        with _disk(key), self._temporary() as (file, temporary):
            failpoints.reach("disk.object")
            file.write(data)
            file.flush()
            _settle(temporary)
            self._publish(temporary, target, key)

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Read exactly `length` bytes from `start` (None: to the end).

        Raises:
            NotFound: there is no such object.
            IntegrityError: the object ends before the range does.
        """
        check_range(start, length)
        with _disk(key), self._file(key).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            wanted = max(size - start, 0) if length is None else length
            if start + wanted > size:
                raise IntegrityError(f"object `{key}` has {size} bytes, fewer than asked for")
            file.seek(start)
            data = file.read(wanted)
        if len(data) != wanted:
            raise IntegrityError(f"object `{key}` shrank while it was read")
        return data

    def size(self, key: str) -> int:
        """Bytes of the object."""
        with _disk(key):
            return self._file(key).stat().st_size

    def list(self, prefix: str = "") -> Iterator[str]:
        """Keys that start with `prefix`, sorted."""
        with _disk(prefix):
            keys = [
                path.relative_to(self._directory).as_posix()
                for path in self._directory.rglob("*")
                if self._incoming not in path.parents and path.is_file() and not path.is_symlink()
            ]
        yield from sorted(key for key in keys if key.startswith(prefix))

    def delete(self, key: str) -> None:
        """Remove the object durably; harmless when it is not there."""
        path = self._path(key)
        with _disk(key), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()
            private_files.sync_dir(path.parent)

    def local_path(self, key: str) -> str | None:
        """The file itself; NotFound if the object is missing."""
        with _disk(key):
            return str(self._file(key))

    def _path(self, key: str) -> Path:
        return self._directory / check_key(key)

    def _file(self, key: str) -> Path:
        path = self._path(key)
        if not path.is_file() or path.is_symlink():
            raise FileNotFoundError(key)
        return path

    def _publish(self, source: Path, target: Path, key: str) -> None:
        if any(parent.is_file() for parent in target.parents):
            raise Conflict(f"an object stands where a folder of `{key}` would be")
        private_files.make_private_dir(target.parent)
        try:
            failpoints.reach("disk.object-name")
            os.link(source, target)
        except FileExistsError as cause:
            raise Conflict(f"object `{key}` exists already") from cause
        private_files.sync_dir(target.parent)

    @contextlib.contextmanager
    def _temporary(self) -> Iterator[tuple[BinaryIO, Path]]:
        """An exclusive file under a lock; the lock is what tells it from a dead writer's."""
        path = self._incoming / secrets.token_hex(16)
        with path.open("xb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not path.exists():  # swept between its creation and the lock
                raise Unavailable("the store is being opened", advice="try again")
            try:
                yield file, path
            finally:
                path.unlink(missing_ok=True)

    def _sweep(self) -> None:
        for path in self._incoming.iterdir():
            with contextlib.suppress(OSError), path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()


def _settle(path: Path) -> None:
    """Make the bytes durable and the file read-only."""
    path.chmod(0o400)
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextlib.contextmanager
def _disk(key: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as cause:
        raise NotFound(f"there is no object `{key}`") from cause
    except OSError as cause:
        raise Unavailable(
            f"object `{key}`: {cause.strerror}", advice=private_files.DISK_ADVICE
        ) from cause
