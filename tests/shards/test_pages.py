"""Direct pages: opened one by one they are what pyarrow reads; anything else is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from gateway.crypto.pages import PageOpener
from gateway.domain.block_table import BlockTable
from gateway.domain.layout import layout_of
from gateway.domain.manifest import Shard
from gateway.errors import IntegrityError
from gateway.shards.reader import ShardReader, file_plan
from gateway.shards.written import structure
from tests.shards.kit import Registered, parquet_bytes, read_back, register
from tests.shards.test_ingest import numbers

ROWS = 30_000


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Registered:
    return register(
        tmp_path_factory.mktemp("pages"), parquet_bytes(numbers(ROWS)), shard_bytes=500_000
    )


def table_of(registered: Registered, number: int) -> tuple[Shard, BlockTable]:
    sealed = registered.sealed.shards[number]
    data = Path(sealed.table_path).read_bytes()
    return sealed.shard, BlockTable.from_bytes(
        data, digest=sealed.shard.table_sha256, file_bytes=sealed.shard.bytes
    )


def column_by_pages(registered: Registered, field_id: int) -> Any:
    column = registered.manifest.column(field_id)
    layout = layout_of(column.type)
    assert layout
    pieces = []
    for number in range(len(registered.sealed.shards)):
        shard, table = table_of(registered, number)
        file = memoryview(Path(registered.path(number)).read_bytes())
        leaf = shard.leaves_of({field_id})[0]
        opener = PageOpener(registered.keys[leaf.dek], bytes.fromhex(shard.aad_file_unique))
        for block in range(len(table.blocks)):
            page = table.page(table.index_of(field_id), block)
            out = memoryview(bytearray(page.rows * layout.width))
            module = file[page.offset : page.offset + page.length]
            opener.open_into(module, page.row_group, page.column, page.page, out)
            pieces.append(np.frombuffer(out, layout.dtype).reshape(page.rows, *layout.shape))
    return np.concatenate(pieces)


@pytest.mark.parametrize("field_id", range(1, 13))
def test_every_page_opened_alone_is_what_pyarrow_reads(
    field_id: int, registered: Registered
) -> None:
    mine = column_by_pages(registered, field_id)
    theirs = read_back(registered).column(field_id - 1).combine_chunks()
    if pa.types.is_fixed_size_list(theirs.type):
        expected = theirs.flatten().to_numpy().reshape(ROWS, -1)
    elif pa.types.is_fixed_size_binary(theirs.type):
        expected = np.frombuffer(theirs.buffers()[1], "u1").reshape(ROWS, -1)
    else:
        expected = theirs.to_numpy(zero_copy_only=False)
        if expected.dtype.kind in "MmO":
            kind = pa.int32() if theirs.type.bit_width == 32 else pa.int64()
            mine, expected = mine.view(f"i{mine.itemsize}"), theirs.view(kind).to_numpy()
    assert len(registered.sealed.shards) > 1
    assert np.array_equal(mine, expected)


def test_a_page_at_another_place_or_of_another_shard_does_not_open(registered: Registered) -> None:
    shard, table = table_of(registered, 0)
    file = memoryview(Path(registered.path()).read_bytes())
    leaf = shard.leaves_of({1})[0]
    opener = PageOpener(registered.keys[leaf.dek], bytes.fromhex(shard.aad_file_unique))
    first, second = table.page(0, 0), table.page(0, 1)
    out = memoryview(bytearray(first.rows * 8))
    with pytest.raises(IntegrityError):
        opener.open_into(
            file[first.offset : first.offset + first.length],
            second.row_group, second.column, second.page, out,
        )  # fmt: skip
    assert not any(out)
    other = PageOpener(registered.keys[leaf.dek], bytes(8))
    with pytest.raises(IntegrityError):
        other.open_into(
            file[first.offset : first.offset + first.length],
            first.row_group, first.column, first.page, out,
        )  # fmt: skip


def read_first(registered: Registered, path: Path, **changes: Any) -> None:
    shard = registered.manifest.shards[0]
    keys = changes.get("keys", registered.keys)
    reader = ShardReader(path, file_plan(registered.manifest), shard, keys)
    list(reader.batches(changes.get("columns", (1,)), rows=1000))
    reader.close()


def test_another_shard_a_plaintext_file_or_a_cut_file_in_its_place_is_refused(
    registered: Registered, tmp_path: Path
) -> None:
    good = Path(registered.path(0)).read_bytes()
    plain = parquet_bytes(numbers(10))
    padded = b"PARE" + plain[4:-4].ljust(len(good) - 8, b"\0") + b"PARE"
    for bad in (Path(registered.path(1)).read_bytes(), plain, padded, good[:-1], good + b"\0", b""):
        path = tmp_path / "shard"
        path.write_bytes(bad)
        with pytest.raises(IntegrityError):
            read_first(registered, path)
    path.write_bytes(good)
    read_first(registered, path)


def test_flipped_bits_never_change_what_is_read(registered: Registered, tmp_path: Path) -> None:
    good = Path(registered.path(0)).read_bytes()
    path = tmp_path / "shard"
    shard = registered.manifest.shards[0]
    random = np.random.default_rng(3)
    everything = tuple(range(1, 13))
    for at in random.integers(0, len(good), 60):
        data = bytearray(good)
        data[at] ^= 1 << int(random.integers(0, 8))
        path.write_bytes(data)
        with pytest.raises(IntegrityError):
            read_first(registered, path, columns=everything)
    assert hashlib.sha256(good).hexdigest() == shard.sha256


def test_keys_of_another_shard_or_for_another_column_do_not_open(registered: Registered) -> None:
    path = Path(registered.path(0))
    shard = registered.manifest.shards[0]
    only_first = {
        leaf.dek: registered.keys[leaf.dek] for leaf in (shard.footer, *shard.leaves_of({1}))
    }
    read_first(registered, path, keys=only_first)
    with pytest.raises(IntegrityError, match="without its key"):
        read_first(registered, path, keys=only_first, columns=(2,))
    with pytest.raises(IntegrityError, match="footer key"):
        read_first(registered, path, keys={})
    swapped = {**only_first, shard.footer.dek: only_first[shard.leaves[1].dek]}
    with pytest.raises(IntegrityError, match="not the one"):
        read_first(registered, path, keys=swapped)


@pytest.mark.parametrize(
    "data",
    [b"", b"\x15", b"\x18\xff\xff\xff\xff\x7f", b"\x1c" * 20, b"\x19\xf5\xff\xff\x7f", b"\x0b"],
)
def test_nonsense_for_a_parquet_structure_is_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        structure(data)
