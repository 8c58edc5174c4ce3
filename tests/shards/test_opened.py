"""A sealed file is opened module by module: each at its place, or nothing is read."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gateway.crypto.pages import ModuleType, PageOpener
from gateway.domain import compact
from gateway.domain.manifest import Shard
from gateway.errors import IntegrityError
from gateway.shards import opened, pme
from gateway.shards.geometry import Geometry
from gateway.shards.reader import ShardReader
from gateway.shards.shard_file import FilePlan, SealedFile, ShardFile
from gateway.shards.written import read_tail

ROWS, GROUP = 5000, 2048
IDS = (1, 2, 3, 4)
Modules = dict[tuple[int, int, int], tuple[int, int]]  # group, leaf, nth module -> from, to


def nested(rows: int) -> Any:
    """Plain and dictionary columns, a list, and two leaves under one column."""
    random = np.random.default_rng(11)
    words = pa.array([f"word {n}" for n in range(40)])
    return pa.table({
        "n": pa.array(random.integers(0, 1 << 40, rows), mask=random.random(rows) < 0.1),
        "word": words.take(pa.array(random.integers(0, 40, rows))),
        "list": [[int(n)] * int(n % 4) if n % 5 else None for n in range(rows)],
        "pair": [{"a": int(n), "b": str(n % 7)} for n in range(rows)],
    })  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Sealed:
    """A file, all of its keys, and what is in it."""

    path: Path
    plan: FilePlan
    file: SealedFile
    table: Any

    @property
    def keys(self) -> dict[str, bytes]:
        return {dek.id: dek.key for dek in self.file.deks}

    def read(self, data: bytes, shard: Shard | None = None, ids: tuple[int, ...] = IDS) -> Any:
        copy = self.path.with_suffix(".copy")
        copy.write_bytes(data)
        reader = ShardReader(copy, self.plan, shard or self.file.shard, self.keys)
        try:
            return pa.Table.from_batches(reader.batches(ids, rows=700))
        finally:
            reader.close()
            assert not reader._opened._openers  # the keys are gone, whatever happened

    def modules(self) -> Modules:
        """Where each module of each column chunk lies, as the footer says."""
        data, shard, found = self.path.read_bytes(), self.file.shard, {}
        unique, module = read_tail(data[-shard.footer_bytes :])
        openers = [PageOpener(self.keys[leaf.dek], unique) for leaf in shard.leaves]
        footer, _ = compact.read(openers[0].open_module(module, ModuleType.FOOTER))
        for group, said in enumerate(compact.structs(footer, 4)):
            for leaf, chunk in enumerate(compact.structs(said, 1)):
                place = (ModuleType.COLUMN_META, group, leaf)
                text = openers[leaf + 1].open_module(memoryview(chunk[9][1]), *place)
                meta, _ = compact.read(text)
                at = min(n for n in (compact.number(meta, 9), compact.number(meta, 11)) if n)
                stop, nth = at + (compact.number(meta, 7) or 0), 0
                while at < stop:
                    end = at + 4 + int.from_bytes(data[at : at + 4], "little")
                    found[group, leaf, nth] = at, end
                    at, nth = end, nth + 1
        return found


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    table = nested(ROWS)
    plan = FilePlan(
        dataset_id="0" * 32, version=1, profile="archive", schema=table.schema, field_ids=IDS,
        direct=frozenset(),
    )  # fmt: skip
    path = tmp_path_factory.mktemp("opened") / "shard"
    geometry = Geometry(block_rows=64, row_group_rows=GROUP, shard_rows=8192)
    made = ShardFile(path, plan, geometry, shard_id="1" * 32, split="all")
    for batch in table.to_batches():
        made.add(batch)
    return Sealed(path, plan, made.finish(), table)


def test_a_bit_flipped_in_any_module_is_refused(sealed: Sealed) -> None:
    good = sealed.path.read_bytes()
    for at, end in sealed.modules().values():
        for where in (at, at + 4, at + 16, end - 1):  # length, nonce, ciphertext, tag
            bad = bytearray(good)
            bad[where] ^= 1
            with pytest.raises(IntegrityError):
                sealed.read(bytes(bad))


def swapped(data: bytes, one: tuple[int, int], other: tuple[int, int]) -> bytes:
    (a, b), (c, d) = sorted((one, other))
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def test_modules_that_changed_places_are_refused(sealed: Sealed) -> None:
    good, modules = sealed.path.read_bytes(), sealed.modules()
    lengths = {place: end - at for place, (at, end) in modules.items()}
    swaps = [
        (one, other)
        for one in modules
        for other in modules
        if one < other and lengths[one] == lengths[other]
    ]
    assert any(one[0] != other[0] and one[1:] == other[1:] for one, other in swaps)  # two groups
    assert any(one[1] != other[1] for one, other in swaps)  # two columns
    for one, other in swaps:
        with pytest.raises(IntegrityError):
            sealed.read(swapped(good, modules[one], modules[other]))
    # Also where every length that follows would still fit.
    with pytest.raises(IntegrityError):
        sealed.read(swapped(good, modules[0, 0, 0], modules[1, 0, 0]))


def test_the_same_modules_under_another_file_identity_are_refused(sealed: Sealed) -> None:
    good, shard = sealed.path.read_bytes(), sealed.file.shard
    unique = bytes.fromhex(shard.aad_file_unique)
    tail = good[-shard.footer_bytes :]
    other = tail.replace(unique, bytes(8))
    assert other != tail
    told = dataclasses.replace(
        shard, aad_file_unique=bytes(8).hex(), footer_sha256=hashlib.sha256(other).hexdigest()
    )
    with pytest.raises(IntegrityError):
        sealed.read(good[: -len(tail)] + other, told)


@pytest.mark.parametrize(
    "cut", [lambda d, at: d[:at], lambda d, at: d[:at] + bytes(len(d) - at)], ids=["cut", "zeros"]
)
def test_a_file_that_is_cut_off_under_its_reader_is_refused(
    cut: Callable[[bytes, int], bytes], sealed: Sealed, tmp_path: Path
) -> None:
    good, path = sealed.path.read_bytes(), tmp_path / "shard"
    for at in (4, 100, len(good) // 2, sealed.modules()[2, 4, 0][0]):
        path.write_bytes(good)
        reader = ShardReader(path, sealed.plan, sealed.file.shard, sealed.keys)
        path.write_bytes(cut(good, at))
        with pytest.raises(IntegrityError):
            list(reader.batches(IDS, rows=700))
        reader.close()


def test_after_closing_nothing_can_be_opened(sealed: Sealed) -> None:
    reader = ShardReader(sealed.path, sealed.plan, sealed.file.shard, sealed.keys)
    reader.close()
    reader.close()
    with pytest.raises(IntegrityError):
        list(reader.batches(IDS, rows=700))


def test_pyarrow_is_told_of_no_column_but_those_asked_for(sealed: Sealed) -> None:
    source, shard = pa.OSFile(str(sealed.path), "rb"), sealed.file.shard
    tail = sealed.path.read_bytes()[-shard.footer_bytes :]
    footer_and_two = {leaf.dek for leaf in (shard.footer, *shard.leaves_of({2}))}
    keys = {name: key for name, key in sealed.keys.items() if name in footer_and_two}
    one = opened.OpenedShard(source, shard, tail, keys)
    schema = pa.schema([sealed.plan.physical_schema().field("f2")])
    files = list(one.groups(schema))
    assert len(files) == 3
    for file in files:
        text = file.to_pybytes()
        assert pq.ParquetFile(pa.BufferReader(file)).schema_arrow.equals(schema)
        assert not any(name in text for name in (b"f1", b"f3", b"f4"))


@pytest.mark.parametrize("ids", [(1,), (2,), (3,), (4,), (1, 4), (2, 3), IDS])
def test_what_is_read_is_what_was_sealed(ids: tuple[int, ...], sealed: Sealed) -> None:
    expected = sealed.table.select([i - 1 for i in ids])
    assert sealed.read(sealed.path.read_bytes(), ids=ids).equals(expected)


def test_it_is_what_pyarrow_reads_when_it_decrypts_by_itself(sealed: Sealed) -> None:
    properties, _ = pme.reading(f"{'0' * 32}/{'1' * 32}/", sealed.keys)
    theirs = pq.ParquetFile(str(sealed.path), decryption_properties=properties).read()
    ours = sealed.read(sealed.path.read_bytes())
    assert [c.to_pylist() for c in ours.columns[:3]] == [c.to_pylist() for c in theirs.columns[:3]]


def test_pages_larger_than_the_window_are_read(
    sealed: Sealed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opened, "_WINDOW_BYTES", 40)
    assert sealed.read(sealed.path.read_bytes()).equals(sealed.table)
