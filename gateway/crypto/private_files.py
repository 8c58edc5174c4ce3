"""Small files that hold keys: 0600, written whole or not at all, refused when others can read.

A write is durable when the call returns: temporary file, fsync, rename or link, fsync of the
directory. Killed at any step, the old content stands or the new one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from gateway import failpoints
from gateway.errors import ConfigError, Conflict, NotFound, Unavailable

FILE_BYTES_MAX = 64 << 20
_TEMPORARY = ".tmp-"
DISK_ADVICE = "free disk space or mend the disk of the gateway, then try again"
_OPEN_MAX = 128  # files that one batch holds open


def make_private_dir(path: Path) -> None:
    """Make the directory and its missing parents (0700), durably.

    Raises:
        ConfigError: group or others may write in it, so that they could replace keys.
    """
    missing = []
    here = path
    while not here.exists():
        missing.append(here)
        here = here.parent
    with _disk(path):
        for directory in reversed(missing):
            with contextlib.suppress(FileExistsError):
                directory.mkdir(mode=0o700)
            sync_dir(directory.parent)
        mode = path.stat().st_mode
    if not stat.S_ISDIR(mode):
        raise ConfigError(f"`{path}` is not a directory")
    if mode & 0o022:
        raise ConfigError(
            f"others can write in `{path}` (mode {mode & 0o777:03o})",
            advice=f"run `chmod 700 {path}`",
        )


def read_private(path: Path, *, bytes_max: int = FILE_BYTES_MAX) -> bytes:
    """Read a key file.

    Raises:
        NotFound: there is none.
        ConfigError: group or others have any right on it, it is a link or not a plain file,
            it belongs to another account, or it is longer than `bytes_max`.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as cause:
        raise NotFound(f"there is no `{path}`") from cause
    except OSError as cause:
        raise ConfigError(f"`{path}` cannot be opened: {cause.strerror}") from cause
    try:
        with _disk(path):
            facts = os.fstat(descriptor)
            _refuse_exposed(path, facts)
            if facts.st_size > bytes_max:
                raise ConfigError(f"`{path}` is longer than {bytes_max} bytes")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                return file.read(bytes_max)
    finally:
        os.close(descriptor)


def _refuse_exposed(path: Path, facts: os.stat_result) -> None:
    if not stat.S_ISREG(facts.st_mode):
        raise ConfigError(f"`{path}` is not a plain file")
    if facts.st_uid not in {os.geteuid(), 0}:
        raise ConfigError(f"`{path}` belongs to another account")
    if facts.st_mode & 0o077:
        raise ConfigError(
            f"`{path}` can be reached by others (mode {facts.st_mode & 0o777:03o})",
            advice=f"run `chmod 600 {path}`; if others could read it, make a new key",
        )


def create_private(path: Path, data: bytes) -> None:
    """Write a new 0600 file, whole and durable; Conflict if it exists."""
    with _disk(path), _temporary(path, data) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError as cause:
            raise Conflict(f"`{path}` exists already") from cause
        temporary.unlink()
        sync_dir(path.parent)


def replace_private(path: Path, data: bytes) -> None:
    """Write or replace a 0600 file, whole and durable; Unavailable if the disk fails."""
    with _disk(path), _temporary(path, data) as temporary:
        temporary.replace(path)
        sync_dir(path.parent)


def replace_all_private(files: Mapping[Path, bytes]) -> None:
    """Replace many 0600 files, each whole; durable when it returns.

    Killed inside, some stand as they were and some are new. Each directory is synced once.
    """
    paths = list(files)
    for first in range(0, len(paths), _OPEN_MAX):
        with contextlib.ExitStack() as stack:
            made = {}
            for path in paths[first : first + _OPEN_MAX]:
                stack.enter_context(_disk(path))
                made[path] = stack.enter_context(_temporary(path, files[path]))
            for path, temporary in made.items():
                temporary.replace(path)
    for directory in {path.parent for path in paths}:
        with _disk(directory):
            sync_dir(directory)


def remove_durably(path: Path) -> None:
    """Remove the file, durably; harmless when it is not there."""
    with _disk(path):
        path.unlink(missing_ok=True)
        sync_dir(path.parent)


def sweep(directory: Path) -> None:
    """Remove what killed writers left behind; a living writer holds a lock on its file."""
    with _disk(directory):
        for leftover in directory.rglob(f"{_TEMPORARY}*"):
            with (
                contextlib.suppress(FileNotFoundError, BlockingIOError),
                leftover.open("rb") as file,
            ):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                leftover.unlink()


def sync_dir(path: Path) -> None:
    """Make the names inside a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _temporary(path: Path, data: bytes) -> Iterator[Path]:
    temporary = path.parent / f"{_TEMPORARY}{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            failpoints.reach("disk.private-file")
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            yield temporary
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as cause:
        raise Unavailable(
            f"`{path.name}` cannot be read or written: {cause.strerror}", advice=DISK_ADVICE
        ) from cause
