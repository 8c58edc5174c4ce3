"""What every object store plug must do; one suite for all (gateway/ports.py: ObjectStore)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import connectors.stores.s3 as plug
from connectors.stores.s3 import S3Store
from gateway import discovery
from gateway.errors import (
    ConfigError,
    Conflict,
    ConnectorError,
    IntegrityError,
    InvalidInput,
    NotFound,
    Unavailable,
)
from gateway.ports import ObjectStore
from tests.contracts.machines import AWS, Door, Moto


@pytest.fixture(params=["local", "local, own directory", "s3", "s3, prefix"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> ObjectStore:
    match request.param:
        case "local":
            return discovery.connect("stores", "local:", state_dir=tmp_path)
        case "local, own directory":
            directory = tmp_path_factory.mktemp("other")
            return discovery.connect("stores", f"local://{directory}", state_dir=tmp_path)
        case "s3":
            return request.getfixturevalue("s3")
        case _:
            neighbour: S3Store = request.getfixturevalue("s3")
            neighbour._client.put_object(Bucket="sealed", Key="a/b", Body=b"a neighbour's")
            return S3Store(neighbour._client, "sealed", "our/place/")


@pytest.fixture(scope="session")
def s3_in_moto(moto: Moto) -> S3Store:
    return s3_store(moto.url)


@pytest.fixture
def s3(moto: Moto, s3_in_moto: S3Store) -> S3Store:
    moto.reset()
    s3_in_moto._client.create_bucket(
        Bucket="sealed", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    return S3Store(s3_in_moto._client, "sealed", "")


def s3_store(url: str) -> S3Store:
    store: S3Store = discovery.connect(
        "stores", f"s3://sealed/?region=eu-central-1&endpoint={url}", state_dir=Path()
    )
    return store


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


BAD_KEYS = ("", "/a", "a/", "a//b", "..", "a/../b", "a/./b", ".a", "A", "a\n", "a\0", "x" * 300)


def test_a_key_that_could_leave_the_store_is_refused(store: ObjectStore) -> None:
    for key in BAD_KEYS:
        for use in (store.read, store.size, store.delete, store.local_path):
            with pytest.raises(InvalidInput):
                use(key)
        with pytest.raises(InvalidInput):
            store.put_bytes_new(key, b"")


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


# What only S3 can get wrong


@pytest.mark.parametrize(
    "bad", ["s3://", "s3:///x", "s3://B", "s3://bucket?x=1", "s3://bucket/../x", "s3://bucket#x"]
)
def test_a_uri_that_names_no_bucket_is_refused(bad: str, tmp_path: Path) -> None:
    with pytest.raises((ConfigError, InvalidInput)):
        discovery.connect("stores", bad, state_dir=tmp_path)


def test_the_server_itself_refuses_a_second_put(s3: S3Store) -> None:
    s3.put_bytes_new("a", b"first")
    with pytest.raises(s3._client.exceptions.ClientError, match="PreconditionFailed"):
        s3._client.put_object(Bucket="sealed", Key="a", Body=b"second", IfNoneMatch="*")
    assert s3.read("a") == b"first"
    s3._client.put_object(Bucket="sealed", Key="a", Body=b"second")  # so it was the condition


def test_a_put_whose_answer_was_lost_is_no_conflict(s3: S3Store) -> None:
    s3._put(s3._place("a"), b"sealed", "mark")
    s3._put(s3._place("a"), b"sealed", "mark")  # as boto does it again
    with pytest.raises(Conflict):
        s3.put_bytes_new("a", b"sealed")


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(plug, "PART_BYTES", 5 << 20)
    path = tmp_path / "large"
    path.write_bytes(os.urandom(12 << 20))
    return path


def uploads(store: S3Store) -> list[str]:
    return [upload["Key"] for upload in store._uploads("")]


def test_a_large_file_goes_up_in_parts_and_is_never_replaced(s3: S3Store, large: Path) -> None:
    s3.put_new("a/large", str(large))
    assert "-3" in s3._client.head_object(Bucket="sealed", Key="a/large")["ETag"]
    assert s3.read("a/large") == large.read_bytes()
    assert s3.read("a/large", 5 << 20, 3) == large.read_bytes()[5 << 20 :][:3]
    with pytest.raises(Conflict):
        s3.put_new("a/large", str(large))
    assert uploads(s3) == []


def test_parts_that_cannot_become_an_object_are_given_up(
    s3: S3Store, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plug, "PART_BYTES", 4 << 20)  # smaller than S3 takes
    with pytest.raises(Unavailable, match="EntityTooSmall"):
        s3.put_new("a/large", str(large))
    assert uploads(s3) == []
    assert list(s3.list()) == []


def test_parts_of_a_writer_that_was_cut_off_are_found_and_removed(
    moto: Moto, s3: S3Store, large: Path
) -> None:
    door = Door(moto.url)
    cut = s3_store(door.url)
    cut._client.meta.events.register("before-call.s3.UploadPart", lambda **_: door.shut())
    with pytest.raises(Unavailable):
        cut.put_new("a/large", str(large))
    assert uploads(s3) == list(s3.list()) == ["a/large"]
    s3.delete("a/large")
    assert uploads(s3) == list(s3.list()) == []


def test_a_body_that_breaks_off_is_read_on(moto: Moto, s3: S3Store) -> None:
    data = os.urandom(1 << 20)
    s3.put_bytes_new("a", data)
    door = Door(moto.url)
    through = s3_store(door.url)
    assert through.size("a") == len(data)
    door.cuts_after = 300_000
    assert through.read("a") == data
    assert door.cuts_after is None
    door.shut()


def test_a_store_that_is_gone_is_unavailable_and_used_again_when_back(
    moto: Moto, s3: S3Store
) -> None:
    s3.put_bytes_new("a", b"sealed")
    door = Door(moto.url)
    through = s3_store(door.url)
    door.shut()
    for use in (lambda: through.read("a"), lambda: list(through.list())):
        with pytest.raises(Unavailable) as refused:
            use()
        assert AWS["AWS_SECRET_ACCESS_KEY"] not in f"{refused.value} {refused.value.advice}"
    door.unlock()
    assert through.read("a") == b"sealed"
    door.shut()


def test_a_bucket_that_is_not_there_is_told_from_a_missing_object(moto: Moto) -> None:
    moto.reset()
    uri = f"s3://nowhere?region=eu-central-1&endpoint={moto.url}"
    store = discovery.connect("stores", uri, state_dir=Path())
    with pytest.raises(Unavailable, match="NoSuchBucket"):
        store.put_bytes_new("a", b"")


def test_more_objects_than_one_page_are_listed(moto: Moto, s3: S3Store) -> None:
    for number in range(7):
        s3.put_bytes_new(f"a/{number}", b"")
    paged = s3_store(moto.url)
    paged._client.meta.events.register(
        "provide-client-params.s3.ListObjectsV2", lambda params, **_: {**params, "MaxKeys": 3}
    )
    assert list(paged.list("a/")) == [f"a/{number}" for number in range(7)]


def test_without_boto3_the_plug_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(ConnectorError) as refused:
        discovery.connect("stores", "s3://sealed", state_dir=Path())
    assert refused.value.advice == "pip install 'dataset-gateway[aws]'"
