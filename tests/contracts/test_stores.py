"""What every object store plug must do; one suite for all (gateway/ports.py: ObjectStore)."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway import discovery
from gateway.errors import (
    ConfigError,
    Conflict,
    IntegrityError,
    InvalidInput,
    NotFound,
    Unavailable,
)
from gateway.ports import ObjectStore


@pytest.fixture(params=["local", "local, own directory"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> ObjectStore:
    if request.param == "local":
        return discovery.connect("stores", "local:", state_dir=tmp_path)
    return discovery.connect(
        "stores", f"local://{tmp_path_factory.mktemp('other')}", state_dir=tmp_path
    )


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "staged"
    path.write_bytes(b"sealed bytes")
    return str(path)


def test_what_is_not_there_is_not_found(store: ObjectStore) -> None:
    for use in (
        lambda: store.read("a/b"),
        lambda: store.size("a/b"),
        lambda: store.local_path("a/b"),
    ):
        with pytest.raises(NotFound):
            use()
    store.delete("a/b")
    assert list(store.list()) == []


def test_an_object_is_never_replaced(store: ObjectStore, source: str) -> None:
    store.put_bytes_new("a/b", b"first")
    with pytest.raises(Conflict):
        store.put_bytes_new("a/b", b"second")
    with pytest.raises(Conflict):
        store.put_new("a/b", source)
    assert store.read("a/b") == b"first"


@pytest.mark.parametrize(
    "key", ["", "/a", "a/", "a//b", "..", "a/../b", "a/./b", ".a", "A", "a\n", "a\x00", "x" * 300]
)
def test_a_key_that_could_leave_the_store_is_refused(store: ObjectStore, key: str) -> None:
    for use in (
        lambda: store.read(key),
        lambda: store.put_bytes_new(key, b""),
        lambda: store.delete(key),
        lambda: store.local_path(key),
    ):
        with pytest.raises(InvalidInput):
            use()


def test_a_range_beyond_the_end_is_no_short_read(store: ObjectStore) -> None:
    store.put_bytes_new("a", b"0123456789")
    for start, length in ((0, 11), (10, 1), (11, 0), (5, 6)):
        with pytest.raises(IntegrityError):
            store.read("a", start, length)
    for start, length in ((-1, 1), (0, -1)):
        with pytest.raises(InvalidInput):
            store.read("a", start, length)


def test_a_source_that_is_missing_leaves_no_object(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        store.put_new("a/b", str(tmp_path / "missing"))
    assert list(store.list()) == []


def test_ranges_are_read_exactly(store: ObjectStore, source: str) -> None:
    store.put_new("d/s.parquet", source)
    assert store.read("d/s.parquet") == b"sealed bytes"
    assert store.read("d/s.parquet", 7) == b"bytes"
    assert store.read("d/s.parquet", 2, 3) == b"ale"
    assert store.read("d/s.parquet", 12, 0) == b""
    assert store.size("d/s.parquet") == 12


def test_keys_are_listed_in_order_by_prefix(store: ObjectStore) -> None:
    for key in ("b/2", "a/1", "b/1", "ab"):
        store.put_bytes_new(key, b"")
    assert list(store.list()) == ["a/1", "ab", "b/1", "b/2"]
    assert list(store.list("b/")) == ["b/1", "b/2"]
    assert list(store.list("a")) == ["a/1", "ab"]


def test_a_deleted_object_is_gone_and_its_key_free(store: ObjectStore) -> None:
    store.put_bytes_new("a", b"1")
    store.delete("a")
    store.delete("a")
    with pytest.raises(NotFound):
        store.read("a")
    store.put_bytes_new("a", b"2")


def test_a_local_path_shows_the_bytes_and_cannot_be_written(store: ObjectStore) -> None:
    store.put_bytes_new("a/b", b"sealed")
    path = store.local_path("a/b")
    if path is not None:
        assert Path(path).read_bytes() == b"sealed"
        assert Path(path).stat().st_mode & 0o777 == 0o400


# What only the local plug can get wrong


@pytest.mark.parametrize("bad", ["local://host/x", "local:relative", "local:///x#y"])
def test_a_uri_that_names_no_directory_is_refused(bad: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        discovery.connect("stores", bad, state_dir=tmp_path)


def test_a_link_in_the_store_is_not_followed(tmp_path: Path) -> None:
    store = discovery.connect("stores", "local:", state_dir=tmp_path)
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "objects" / "a").symlink_to(tmp_path / "secret")
    with pytest.raises(NotFound):
        store.read("a")
    with pytest.raises(NotFound):
        store.local_path("a")


def test_what_a_killed_writer_left_is_removed_and_never_listed(tmp_path: Path) -> None:
    store = discovery.connect("stores", "local:", state_dir=tmp_path)
    leftover = tmp_path / "objects" / ".incoming" / "dead"
    leftover.write_bytes(b"half")
    assert list(store.list()) == []
    discovery.connect("stores", "local:", state_dir=tmp_path)
    assert not leftover.exists()


def test_a_source_on_another_file_system_is_copied(tmp_path: Path) -> None:
    shared = Path("/dev/shm")  # noqa: S108
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system here")
    import tempfile

    store = discovery.connect("stores", "local:", state_dir=tmp_path)
    with tempfile.NamedTemporaryFile(dir=shared) as file:
        file.write(b"far away")
        file.flush()
        store.put_new("a/b", file.name)
    assert store.read("a/b") == b"far away"


def test_an_object_is_no_folder_and_a_folder_no_object(tmp_path: Path) -> None:
    store = discovery.connect("stores", "local:", state_dir=tmp_path)
    store.put_bytes_new("a/b", b"1")
    with pytest.raises(Conflict):
        store.put_bytes_new("a/b/c", b"2")
    with pytest.raises(Conflict):
        store.put_bytes_new("a", b"2")
    with pytest.raises(NotFound):
        store.read("a")
    (tmp_path / "staged").mkdir()
    with pytest.raises(Unavailable):
        store.put_new("d", str(tmp_path / "staged"))
    assert list(store.list()) == ["a/b"]
