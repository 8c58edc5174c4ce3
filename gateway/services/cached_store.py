"""Local copies of sealed objects that lie in a remote store, so that workers can map them.

Ciphertext only, under the state directory, bounded in bytes, the least recently used going
first. A copy is fetched in ranges, checked against the size and SHA-256 of the journalled
Manifest, and only then put in place whole; one that an earlier process left is checked again
before its first use. Two who want the same object wait for one fetch. A deleted object takes
its copy along, and copies count in `list`, so that a sweep of orphans finds those too.
"""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import os
import secrets
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from gateway.crypto import private_files
from gateway.errors import IntegrityError, TooLarge, Unavailable
from gateway.ports import ObjectStore

RANGE_BYTES = 8 << 20
PINNED_SECONDS = 60.0  # from the end of a fetch until its lease must have mapped the copies
_INCOMING = ".incoming-"


class Wanted(NamedTuple):
    """An object as the Manifest fixes it."""

    key: str
    bytes: int
    sha256: str


class CachedStore:
    """A `gateway.ports.ObjectStore` over a remote one; threads of one process share it."""

    is_local = False

    def __init__(
        self, remote: ObjectStore, directory: Path, bytes_max: int, now: Callable[[], float]
    ) -> None:
        """Open the cache: what a killed fetch left goes, whole copies stay, unchecked as yet."""
        self._remote = remote
        self._directory = directory
        self._bytes_max = bytes_max
        self._now = now
        self._lock = threading.Lock()
        self._fetching: dict[str, threading.Lock] = {}
        self._sizes: OrderedDict[str, int] = OrderedDict()  # least recently used first
        self._checked: set[str] = set()
        self._wanted_now: Counter[str] = Counter()  # by fetches under way
        self._until: dict[str, float] = {}  # key -> until when its copy stays
        private_files.make_private_dir(directory)
        for path in sorted(directory.rglob("*"), key=lambda path: path.lstat().st_mtime_ns):
            if path.name.startswith(_INCOMING):
                path.unlink()
            elif path.is_file():
                self._sizes[path.relative_to(directory).as_posix()] = path.stat().st_size

    # The port, by the remote store

    def put_new(self, key: str, source: str) -> None:
        """Store the file remotely."""
        self._remote.put_new(key, source)

    def put_bytes_new(self, key: str, data: bytes) -> None:
        """Store the bytes remotely."""
        self._remote.put_bytes_new(key, data)

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Read a range remotely."""
        return self._remote.read(key, start, length)

    def size(self, key: str) -> int:
        """Bytes of the remote object."""
        return self._remote.size(key)

    def list(self, prefix: str = "") -> Iterator[str]:
        """Keys of objects and of copies, sorted."""
        with self._lock:
            copies = sorted(key for key in self._sizes if key.startswith(prefix))
        last = None
        for key in heapq.merge(self._remote.list(prefix), copies):
            if key != last:
                yield key
            last = key

    def delete(self, key: str) -> None:
        """Remove the copy, then the object."""
        with self._lock:
            self._drop(key)
        self._remote.delete(key)

    def local_path(self, key: str) -> str | None:
        """Path of the checked copy, now the most recently used; None when there is none."""
        with self._lock:
            if key not in self._checked:
                return None
            self._sizes.move_to_end(key)
            return str(self._directory / key)

    # Copies

    def is_here(self, wanted: Iterable[Wanted]) -> bool:
        """Whether all of them can be mapped at once; they stay for PINNED_SECONDS."""
        keys = [one.key for one in wanted]
        with self._lock:
            if not self._checked.issuperset(keys):
                return False
            self._keep_for_a_while(keys)
            return True

    def fetch(self, wanted: Iterable[Wanted], report: Callable[[float, str], None]) -> None:
        """Copy them here, each checked; they stay until PINNED_SECONDS after the last.

        Raises:
            TooLarge: together they are larger than the cache.
            IntegrityError: an object is not the one that the Manifest names.
            NotFound, Unavailable: it is gone, the store does not answer, the disk is full.
        """
        objects = list(wanted)
        keys, total = [one.key for one in objects], sum(one.bytes for one in objects)
        if total > self._bytes_max:
            raise TooLarge(
                f"the stream needs {total} bytes at once, the cache of sealed objects holds "
                f"{self._bytes_max}",
                advice="the operator raises `cache_bytes_max`",
            )
        with self._lock:
            self._wanted_now.update(keys)
        done = 0
        try:
            for one in objects:
                report(done / max(total, 1), "fetching sealed objects")
                self._fetch_one(one)
                done += one.bytes
        finally:
            with self._lock:
                self._wanted_now -= Counter(keys)
                self._keep_for_a_while(keys)

    def _fetch_one(self, wanted: Wanted) -> None:
        with self._lock:
            fetching = self._fetching.setdefault(wanted.key, threading.Lock())
        with fetching:
            with self._lock:
                if wanted.key in self._checked:
                    return
                left_behind = wanted.key in self._sizes
            if left_behind and not self._holds(wanted):
                with self._lock:
                    self._drop(wanted.key)
                left_behind = False
            if not left_behind:
                self._copy(wanted)
            with self._lock:
                self._checked.add(wanted.key)
                self._fetching.pop(wanted.key, None)

    def _holds(self, wanted: Wanted) -> bool:
        """Whether the copy of an earlier process is what the Manifest says."""
        try:
            with (self._directory / wanted.key).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == wanted.sha256
        except OSError:
            return False

    def _copy(self, wanted: Wanted) -> None:
        with self._lock:
            self._make_room(wanted.bytes)
            self._sizes[wanted.key] = wanted.bytes
        target = self._directory / wanted.key
        incoming = target.parent / f"{_INCOMING}{secrets.token_hex(8)}"
        try:
            private_files.make_private_dir(target.parent)
            self._copy_checked(wanted, incoming)
            incoming.replace(target)
        except BaseException as failure:
            incoming.unlink(missing_ok=True)
            with self._lock:
                self._drop(wanted.key)
            if isinstance(failure, OSError):
                raise Unavailable(
                    f"a sealed object cannot be copied here: {failure.strerror}",
                    advice="free disk space, or lower `cache_bytes_max`",
                ) from failure
            raise

    def _copy_checked(self, wanted: Wanted, path: Path) -> None:
        digest = hashlib.sha256()
        with path.open("xb") as file:
            for start in range(0, wanted.bytes, RANGE_BYTES):
                data = self._remote.read(wanted.key, start, min(RANGE_BYTES, wanted.bytes - start))
                digest.update(data)
                file.write(data)
            file.flush()
            os.fchmod(file.fileno(), 0o400)
        if digest.hexdigest() != wanted.sha256:
            raise IntegrityError("a stored object is not the one that the manifest names")

    def _make_room(self, size: int) -> None:
        """Let go of the least recently used that no lease is about to map (lock held)."""
        now, total = self._now(), sum(self._sizes.values())
        for key, held in list(self._sizes.items()):
            if total + size <= self._bytes_max:
                break
            if not self._wanted_now[key] and self._until.get(key, now) <= now:
                self._drop(key)
                total -= held
        if total + size > self._bytes_max:
            raise Unavailable(
                "the cache of sealed objects is full of streams that are being opened",
                advice="try again in a minute; the operator may raise `cache_bytes_max`",
            )

    def _drop(self, key: str) -> None:
        """Forget and remove a copy (lock held); what maps it keeps its bytes."""
        self._checked.discard(key)
        self._until.pop(key, None)
        if self._sizes.pop(key, None) is not None:
            with contextlib.suppress(OSError):
                (self._directory / key).unlink()

    def _keep_for_a_while(self, keys: Iterable[str]) -> None:
        """Until whoever waits for these copies has mapped them (lock held)."""
        now = self._now()
        self._until = {key: until for key, until in self._until.items() if until > now}
        self._until.update(dict.fromkeys(keys, now + PINNED_SECONDS))
