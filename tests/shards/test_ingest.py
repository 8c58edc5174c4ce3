"""Registering files: what is refused, and that what was registered is what was uploaded."""

from __future__ import annotations

import datetime as dt
import decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from gateway.domain.dataset import Column
from gateway.domain.manifest import Manifest
from gateway.errors import IntegrityError, SourceRefused
from gateway.shards.ingest import SealJob, seal_upload
from tests.shards.kit import (
    ipc_bytes,
    job_of,
    parquet_bytes,
    read_back,
    register,
    register_here,
    seal,
)


def numbers(rows: int) -> Any:
    random = np.random.default_rng(7)
    vectors = pa.array(random.random(rows * 3).astype("f4"))
    return pa.table(
        {
            "x": random.random(rows),
            "whole": np.arange(rows),
            "small": np.arange(rows).astype("i2"),
            "flag": random.random(rows) > 0.5,
            "half": random.random(rows).astype("f2"),
            "vector": pa.FixedSizeListArray.from_arrays(vectors, 3),
            "code": pa.array([b"%04d" % (n % 10_000) for n in range(rows)], pa.binary(4)),
            "day": pa.array(np.arange(rows).astype("i4")).view(pa.date32()),
            "ms": pa.array(np.arange(rows)).view(pa.date64()).cast(pa.timestamp("ms")),
            "sec": pa.array(np.arange(rows)).view(pa.timestamp("s", tz="UTC")),
            "clock": pa.array((np.arange(rows) % 86_400).astype("i4")).view(pa.time32("s")),
            "took": pa.array(np.arange(rows)).view(pa.duration("us")),
        }
    )


def mixed() -> Any:
    return pa.table(
        {
            "name, or: what;": ["a", None, "ü"],
            " blank ": [1, 2, None],
            "list": [[1, 2], None, []],
            "struct": [{"a,b": 1, "c": ["x"]}, None, {"a,b": None, "c": None}],
            "map": pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int64())),
            "money": pa.array([decimal.Decimal("1.50"), None, decimal.Decimal("-2.25")]),
            "when": pa.array([dt.datetime(2020, 1, 1, tzinfo=dt.UTC)] * 3),
            "kind": pa.array(["u", "v", "u"]).dictionary_encode(),
            "big": pa.array(["x", "y", None], pa.large_string()),
            "nothing": pa.nulls(3),
            "tensor": pa.array([[1.0, 2.0], None, [3.0, None]], pa.list_(pa.float32(), 2)),
        }
    )


HOSTILE = {
    "nothing": b"",
    "a header alone": b"a,b\n",
    "Parquet cut off": parquet_bytes(pa.table({"a": [1]}))[:-3],
    "Parquet without a head": b"XXXX" + parquet_bytes(pa.table({"a": [1]}))[4:],
    "Parquet with a broken footer": parquet_bytes(pa.table({"a": [1]}))[:-30]
    + b"\xff" * 26
    + b"PAR1",
    "encrypted Parquet": b"PARE" + b"\0" * 100 + b"PARE",
    "gzip": b"\x1f\x8b\x08" + b"x" * 50,
    "a pickle": b"\x80\x04\x95" + b"x" * 50,
    "binary rubbish": bytes(range(256)) * 8,
    "Arrow rubbish": b"\xff\xff\xff\xff" + b"\x10\0\0\0" + b"\xee" * 64,
    "ragged lines": b"a,b\n1,2\n1,2,3\n",
    "not UTF-8": b"a,b\n\xe9,2\n",
    "UTF-16": "a,b\n1,2\n".encode("utf-16"),
    "a column twice": b"a,a\n1,2\n",
    "a line without end": b"a,b\n" + b"x" * (9 << 20),
    "intervals": ipc_bytes(pa.table({"a": pa.array([None], pa.month_day_nano_interval())})),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_file_that_is_not_what_it_claims_is_refused_with_advice(
    what: str, tmp_path: Path
) -> None:
    job = job_of(tmp_path, [HOSTILE[what]])
    with pytest.raises(SourceRefused) as refusal:
        seal_upload(job, lambda _f, _t: None)
    assert refusal.value.advice
    assert not list(Path(job.staging).glob("*.blocks"))


def test_a_refusal_quotes_no_value(tmp_path: Path) -> None:
    with pytest.raises(SourceRefused) as refusal:
        seal(tmp_path, b"a,b\n1,2\nsecret,secret,secret\n")
    assert "secret" not in str(refusal.value)
    assert "line 3 has 3 values" in str(refusal.value)


@pytest.mark.parametrize("flip", [0.01, 0.3, 0.5, 0.9])
def test_a_part_changed_on_disk_is_refused(flip: float, tmp_path: Path) -> None:
    job = job_of(tmp_path, [parquet_bytes(numbers(1000))])
    path = Path(job.files[0].parts[0])
    data = bytearray(path.read_bytes())
    data[int(len(data) * flip)] ^= 1
    path.write_bytes(data)
    with pytest.raises((IntegrityError, SourceRefused)):
        seal_upload(job, lambda _f, _t: None)


def test_statistics_that_hide_missing_values_are_refused_or_seen(tmp_path: Path) -> None:
    fields = pa.schema([pa.field("a", pa.int64(), nullable=False)])
    lying = pa.table({"a": pa.array([1, None])}).cast(pa.schema([("a", pa.int64())]))
    sink = ipc_bytes(pa.Table.from_arrays(lying.columns, schema=fields))
    with pytest.raises(SourceRefused):
        seal(tmp_path, sink)


@pytest.mark.parametrize("write", [parquet_bytes, ipc_bytes, lambda t: ipc_bytes(t, stream=True)])
def test_numbers_are_stored_to_be_read_directly_and_come_back(write: Any, tmp_path: Path) -> None:
    table = numbers(5000)
    registered = register(tmp_path, write(table))
    assert registered.manifest.profile == "train"
    assert registered.manifest.direct == tuple(range(1, 13))
    back = read_back(registered)
    assert back.schema.names == table.schema.names
    for name in table.schema.names:
        same = back[name].cast(table[name].type)  # a Parquet source has no seconds
        assert same.combine_chunks().equals(table[name].combine_chunks()), name
    assert all(shard.block_rows >= 64 for shard in registered.manifest.shards)


def test_everything_else_is_archived_and_comes_back(tmp_path: Path) -> None:
    table = mixed()
    registered = register(tmp_path, ipc_bytes(table))
    assert registered.manifest.profile == "archive"
    assert registered.manifest.direct == ()
    back = read_back(registered)
    assert back.to_pylist() == table.to_pylist()
    types = {column.name: column.type for column in registered.manifest.columns}
    assert types["kind"] == types["big"] == types["nothing"] == "string"
    assert types["tensor"] == "fixed_size_list<float>[2]"


def test_mixed_data_can_be_stored_for_training_and_comes_back(tmp_path: Path) -> None:
    table = mixed().append_column("n", pa.array([1, 2, 3]))
    registered = register(tmp_path, parquet_bytes(table), profile="train")
    assert registered.manifest.direct == (7, 12)
    assert read_back(registered).to_pylist() == table.to_pylist()


def test_a_column_that_turns_out_to_have_fractions_or_words_is_read_whole(tmp_path: Path) -> None:
    lines = ["n,f,w,;", *(f"{n},{n},{n},1" for n in range(700_000)), "1,1.5,word,", ""]
    registered = register(tmp_path, "\n".join(lines).encode())
    types = [column.type for column in registered.manifest.columns]
    assert types == ["int64", "double", "string", "int64"]
    assert [column.nullable for column in registered.manifest.columns] == [
        False,
        False,
        False,
        True,
    ]
    assert registered.manifest.rows == 700_001


def test_separators_empty_headers_and_quotes_are_understood(tmp_path: Path) -> None:
    registered = register(tmp_path, b'\xef\xbb\xbf"";"a,b";c\r\n1;"x\r\ny";2.5\r\n2;z;\r\n')
    table = read_back(registered)
    assert table.schema.names == ["column_1", "a,b", "c"]
    assert table["a,b"].to_pylist() == ["x\r\ny", "z"]


def test_several_files_are_read_as_one_and_must_agree(tmp_path: Path) -> None:
    registered = register(tmp_path, b"a,b\n1,2\n", b"a,b\n3,4.5\n")
    assert read_back(registered).to_pydict() == {"a": [1, 3], "b": [2.0, 4.5]}
    with pytest.raises(SourceRefused, match="other columns"):
        seal(tmp_path, b"a,b\n1,2\n", b"a,c\n3,4\n")


@pytest.mark.parametrize(
    "wish", [{"split_column": "name"}, {"splits": (("Ada Lovelace", 0.5), ("b", 0.5))}]
)
def test_what_cannot_name_a_split_is_refused_and_not_repeated(
    wish: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(SourceRefused, match="cannot name a split") as refusal:
        seal(tmp_path, b"name,n\nAda Lovelace,1\n", **wish)
    assert "Lovelace" not in str(refusal.value)


def test_a_header_without_rows_is_refused_as_such_and_adds_nothing(tmp_path: Path) -> None:
    with pytest.raises(SourceRefused, match="no rows"):
        seal(tmp_path, b"a,b\n")
    sealed = seal(tmp_path, b"a,b\n", b"a,b\n1,2\n")
    assert sum(shard.shard.rows for shard in sealed.shards) == 1


@pytest.mark.parametrize("write", [parquet_bytes, ipc_bytes, lambda t: ipc_bytes(t, stream=True)])
def test_a_typed_file_without_rows_is_a_version_without_rows(write: Any, tmp_path: Path) -> None:
    registered = register_here(tmp_path, write(numbers(5).slice(0, 0)))
    manifest = registered.manifest
    assert (manifest.rows, manifest.shards, manifest.profile) == (0, (), "train")
    assert Manifest.parse(manifest.to_bytes()) == manifest
    back = read_back(registered)
    assert (len(back), back.schema.names) == (0, numbers(1).schema.names)


def test_splits_are_disjoint_whole_and_the_same_for_the_same_person(tmp_path: Path) -> None:
    table = pa.table({"person": [f"p{n % 400}" for n in range(8000)], "n": range(8000)})
    wishes: dict[str, Any] = {"splits": (("train", 0.8), ("test", 0.2)), "split_by": "person"}
    people = []
    for _ in range(2):
        registered = register(tmp_path, parquet_bytes(table), **wishes)
        train, test = read_back(registered, "train"), read_back(registered, "test")
        assert sorted([*train["n"].to_pylist(), *test["n"].to_pylist()]) == list(range(8000))
        assert not set(train["person"].to_pylist()) & set(test["person"].to_pylist())
        assert 0.7 < len(train) / 8000 < 0.9
        people.append(set(train["person"].to_pylist()))
    assert people[0] == people[1]


def test_rows_without_a_value_to_split_by_stay_together(tmp_path: Path) -> None:
    table = pa.table({"person": [None if n % 2 else f"p{n}" for n in range(2000)]})
    wishes: dict[str, Any] = {"splits": (("a", 0.5), ("b", 0.5)), "split_by": "person"}
    registered = register(tmp_path, parquet_bytes(table), **wishes)
    nulls = [read_back(registered, split)["person"].null_count for split in ("a", "b")]
    assert sorted(nulls) == [0, 1000]


@pytest.mark.parametrize("wish", ["split_by", "split_column"])
def test_a_column_without_text_cannot_deal_rows(wish: str, tmp_path: Path) -> None:
    table = pa.table({"who": [[1, 2], [3]]})
    splits = (("a", 0.5), ("b", 0.5)) if wish == "split_by" else ()
    with pytest.raises(SourceRefused, match="cannot deal rows to splits"):
        seal(tmp_path, parquet_bytes(table), splits=splits, **{wish: "who"})


def test_a_split_column_of_too_many_values_is_refused_with_the_bound(tmp_path: Path) -> None:
    table = pa.table({"who": [f"p{n}" for n in range(10_000)]})
    with pytest.raises(SourceRefused, match="more than 32 values") as refusal:
        seal(tmp_path, parquet_bytes(table), split_column="who")
    assert "p1" not in str(refusal.value)


def test_a_split_column_names_the_splits(tmp_path: Path) -> None:
    data = b"part,n\ntrain,1\ntest,2\ntrain,3\n"
    registered = register(tmp_path, data, split_column="part")
    assert {s.name: s.rows for s in registered.manifest.splits} == {"train": 2, "test": 1}


@pytest.mark.parametrize(
    "wish",
    [
        {"splits": (("train", 0.8), ("test", 0.1))},
        {"splits": (("train", 0.5), ("train", 0.5))},
        {"split_by": "n"},
        {"split_column": "absent"},
        {"splits": (("train", 1.0),), "split_by": "absent"},
        {"split_column": "n"},
    ],
)
def test_splits_that_make_no_sense_are_refused(wish: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(SourceRefused):
        seal(tmp_path, b"n,m\n,2\n3,4\n", **wish)


def test_an_append_has_the_columns_of_its_dataset(tmp_path: Path) -> None:
    required = (Column(field_id=4, name="n", type="int64", nullable=False),)
    known = (Column(field_id=7, name="n", type="string"), *required)
    version = seal(tmp_path, b"n\n1\n", required=required, known=known, next_field_id=9)
    assert [column.field_id for column in version.columns] == [4]
    for other in (b"m\n1\n", b"n\nword\n", b"n,m\n1,2\n", b"n,\n1,\n,2\n"):
        with pytest.raises(SourceRefused):
            seal(tmp_path, other, required=required, known=known)


def test_large_data_becomes_many_shards_of_whole_blocks(tmp_path: Path) -> None:
    table = pa.table({"x": np.random.default_rng(1).random(200_000)})
    registered = register(tmp_path, parquet_bytes(table), shard_bytes=1 << 19)
    shards = registered.manifest.shards
    assert len(shards) >= 3
    assert all(shard.rows % shard.block_rows == 0 for shard in shards[:-1])
    assert read_back(registered)["x"].combine_chunks().equals(table["x"].combine_chunks())
    assert Manifest.parse(registered.manifest.to_bytes()) == registered.manifest


def test_progress_grows_to_the_end(tmp_path: Path) -> None:
    seen: list[float] = []
    job: SealJob = job_of(tmp_path, [parquet_bytes(numbers(200_000))])
    seal_upload(job, lambda fraction, _text: seen.append(fraction))
    assert seen == sorted(seen)
    assert seen[-1] > 0.9


def test_no_key_and_no_name_is_in_a_sealed_file(tmp_path: Path) -> None:
    registered = register(tmp_path, b"diagnosis,n\nflu,1\n")
    data = Path(registered.path()).read_bytes()
    assert b"diagnosis" not in data
    assert b"flu" not in data
    assert all(key not in data for key in registered.keys.values())
