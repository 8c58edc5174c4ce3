"""Copies of sealed objects: checked before use, bounded, found again, gone with the object."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from connectors.stores.local import LocalStore
from gateway.errors import IntegrityError, NotFound, TooLarge, Unavailable
from gateway.services.cached_store import PINNED_SECONDS, CachedStore, Wanted


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Counting(LocalStore):
    """A real store that counts what is read of it."""

    reads = 0

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        self.reads += 1
        return super().read(key, start, length)


@pytest.fixture
def remote(tmp_path: Path) -> Counting:
    return Counting(tmp_path / "remote")


@pytest.fixture
def clock() -> Clock:
    return Clock()


Opener = Callable[[], CachedStore]


@pytest.fixture
def opened(remote: Counting, tmp_path: Path, clock: Clock) -> Opener:
    return lambda: CachedStore(remote, tmp_path / "cache", 100, clock)


def quiet(_progress: float, _detail: str) -> None:
    pass


def stored(remote: LocalStore, name: str, data: bytes) -> Wanted:
    key = f"shards/{name}.parquet"
    remote.put_bytes_new(key, data)
    return Wanted(key, len(data), hashlib.sha256(data).hexdigest())


def test_an_object_that_is_not_the_recorded_one_is_never_put_in_place(
    opened: Opener, remote: Counting, tmp_path: Path
) -> None:
    one = stored(remote, "one", b"sealed")
    cache = opened()
    for wrong in (one._replace(sha256="0" * 64), one._replace(bytes=7)):
        with pytest.raises(IntegrityError):
            cache.fetch([wrong], quiet)
    with pytest.raises(NotFound):
        cache.fetch([one._replace(key="shards/none.parquet")], quiet)
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []
    assert not cache.is_here([one])
    assert cache.local_path(one.key) is None


def test_a_copy_can_be_mapped_and_not_written(opened: Opener, remote: Counting) -> None:
    one = stored(remote, "one", b"sealed")
    cache = opened()
    cache.fetch([one], quiet)
    assert cache.is_here([one])
    path = Path(cache.local_path(one.key) or "")
    assert path.read_bytes() == b"sealed"
    assert path.stat().st_mode & 0o777 == 0o400


def test_a_copy_of_an_earlier_process_is_checked_before_it_is_used(
    opened: Opener, remote: Counting, tmp_path: Path
) -> None:
    one = stored(remote, "one", b"sealed")
    opened().fetch([one], quiet)
    (tmp_path / "cache" / "shards" / ".incoming-dead").write_bytes(b"half")
    again = opened()
    assert not (tmp_path / "cache" / "shards" / ".incoming-dead").exists()
    assert not again.is_here([one])
    reads = remote.reads
    again.fetch([one], quiet)
    assert remote.reads == reads
    copy = tmp_path / "cache" / one.key
    copy.chmod(0o600)
    copy.write_bytes(b"forged")
    forged = opened()
    forged.fetch([one], quiet)
    assert remote.reads > reads
    assert Path(forged.local_path(one.key) or "").read_bytes() == b"sealed"


def test_the_least_recently_used_copy_goes_first_and_one_about_to_be_mapped_stays(
    opened: Opener, remote: Counting, clock: Clock, tmp_path: Path
) -> None:
    cache = opened()
    old, used, new = (stored(remote, name, name.encode() * 15) for name in ("oo", "uu", "nn"))
    cache.fetch([old, used], quiet)
    with pytest.raises(Unavailable, match="full of streams"):
        cache.fetch([stored(remote, "xx", b"x" * 60)], quiet)
    clock.now += PINNED_SECONDS
    cache.local_path(old.key)
    cache.fetch([new], quiet)
    cache.fetch([stored(remote, "yy", b"y" * 30)], quiet)
    assert cache.local_path(used.key) is None
    assert cache.local_path(old.key)
    held = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*.parquet"))
    assert held <= 100


def test_more_than_the_cache_holds_is_refused_before_anything_is_fetched(
    opened: Opener, remote: Counting
) -> None:
    large = [stored(remote, name, b"x" * 60) for name in ("a", "b")]
    with pytest.raises(TooLarge, match="120 bytes"):
        opened().fetch(large, quiet)
    assert remote.reads == 0


def test_two_who_want_the_same_object_fetch_it_once(opened: Opener, remote: Counting) -> None:
    one = stored(remote, "one", b"sealed")
    cache = opened()
    together = threading.Barrier(4)

    def fetch() -> None:
        together.wait()
        cache.fetch([one], quiet)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(fetch) for _ in range(4)]:
            done.result()
    assert remote.reads == 1


def test_a_deleted_object_takes_its_copy_along_and_a_lone_copy_is_listed(
    opened: Opener, remote: Counting
) -> None:
    one, two = stored(remote, "one", b"1"), stored(remote, "two", b"2")
    cache = opened()
    cache.fetch([one, two], quiet)
    path = Path(cache.local_path(one.key) or "")
    cache.delete(one.key)
    assert not path.exists()
    remote.delete(two.key)
    assert list(cache.list("shards/")) == [two.key]
    cache.delete(two.key)
    assert list(cache.list()) == []
