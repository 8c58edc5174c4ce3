"""The page reader and pyarrow agree bit by bit, whatever the types and the size of blocks."""

from __future__ import annotations

import tempfile
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.delivery.sources import DirectReader, Maps, Piece
from gateway.delivery.spec import DirectColumn, DirectShard, DirectSource
from gateway.domain.layout import width_of
from gateway.errors import IntegrityError
from gateway.shards.geometry import Geometry
from gateway.shards.reader import ShardReader
from gateway.shards.shard_file import FilePlan, SealedFile, ShardFile
from gateway.shards.types import type_text
from tests.shards.kit import ipc_bytes, read_back, register_here

UNITS = ("s", "ms", "us", "ns")
SCALARS = [
    pa.bool_(), pa.int8(), pa.uint16(), pa.int32(), pa.uint64(), pa.float16(), pa.float32(),
    pa.float64(), pa.date32(), pa.date64(), pa.time32("s"), pa.time64("ns"), pa.binary(3),
    *(pa.timestamp(unit, zone) for unit in UNITS for zone in (None, "UTC")),
    *(pa.duration(unit) for unit in UNITS),
]  # fmt: skip
TYPES = st.one_of(
    st.sampled_from(SCALARS),
    st.builds(pa.list_, st.sampled_from(SCALARS), st.integers(1, 5)),
    st.builds(
        pa.list_, st.builds(pa.list_, st.sampled_from(SCALARS), st.just(2)), st.integers(1, 3)
    ),
    st.builds(
        pa.fixed_shape_tensor,
        st.sampled_from([pa.int8(), pa.float32(), pa.bool_()]),
        st.lists(st.integers(1, 3), min_size=1, max_size=3),
    ),
)


def column(kind: Any, rows: int, random: Any) -> Any:
    """Random bits of a type."""
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, column(kind.storage_type, rows, random))
    if pa.types.is_fixed_size_list(kind):
        items = column(kind.value_type, rows * kind.list_size, random)
        return pa.FixedSizeListArray.from_arrays(items, type=kind)
    if pa.types.is_boolean(kind):
        return pa.array(random.random(rows) < 0.5)
    if pa.types.is_date64(kind):
        return pa.array(random.integers(-9, 9, rows) * 86_400_000).view(kind)
    bits = random.bytes(rows * kind.bit_width // 8)
    return pa.Array.from_buffers(kind, rows, [None, pa.py_buffer(bits)])


def sealed_file(path: Path, table: Any, shape: Geometry) -> tuple[FilePlan, SealedFile]:
    ids = tuple(range(1, table.num_columns + 1))
    schema = pa.schema([f.with_nullable(False) for f in table.schema])
    plan = FilePlan(
        dataset_id=uuid.uuid4().hex, version=1, profile="train", schema=schema, field_ids=ids,
        direct=frozenset(ids),
    )  # fmt: skip
    file = ShardFile(path, plan, shape, shard_id=uuid.uuid4().hex, split="all")
    for batch in table.to_batches(max_chunksize=37):
        file.add(batch)
    return plan, file.finish()


def page_reader(path: Path, plan: FilePlan, sealed: SealedFile) -> DirectReader:
    shard, keys = sealed.shard, {dek.id: dek.key for dek in sealed.deks}
    columns = tuple(
        DirectColumn(field_id=i, name=f.name, width=width_of(type_text(f.type)))
        for i, f in zip(plan.field_ids, plan.schema, strict=True)
    )
    one = DirectShard(
        path=str(path), file_bytes=shard.bytes, table=sealed.table,
        table_sha256=shard.table_sha256, aad_file_unique=shard.aad_file_unique,
        deks={i: keys[shard.leaves_of({i})[0].dek] for i in plan.field_ids},
    )  # fmt: skip
    return DirectReader(DirectSource(columns=columns, shards=(one,)), Maps())


def value_bytes(array: Any) -> bytes:
    """The values of a column one after another, as Arrow holds them."""
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    while pa.types.is_fixed_size_list(array.type):
        array = array.flatten()
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.uint8())
    width = array.type.bit_width // 8
    buffer = memoryview(array.buffers()[1])
    return bytes(buffer.cast("B")[array.offset * width : (array.offset + len(array)) * width])


@settings(max_examples=60, deadline=None)
@given(
    kinds=st.lists(TYPES, min_size=1, max_size=4),
    rows=st.integers(1, 300),
    block_rows=st.integers(1, 90),
    blocks=st.integers(1, 3),
    seed=st.integers(0, 1 << 30),
)
def test_pages_hold_what_pyarrow_reads(
    kinds: list[Any], rows: int, block_rows: int, blocks: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    table = pa.table({f"c{n}": column(kind, rows, random) for n, kind in enumerate(kinds)})
    shape = Geometry(block_rows=block_rows, row_group_rows=block_rows * blocks, shard_rows=rows)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shard"
        plan, sealed = sealed_file(path, table, shape)
        keys = {dek.id: dek.key for dek in sealed.deks}
        reader = ShardReader(path, plan, sealed.shard, keys)
        theirs = pa.Table.from_batches(list(reader.batches(plan.field_ids, rows=64)))
        reader.close()
        pages = page_reader(path, plan, sealed)
        for n, f in enumerate(plan.schema):
            width, mine = width_of(type_text(f.type)), bytearray()
            for block, at in enumerate(range(0, rows, block_rows)):
                out = bytearray(min(block_rows, rows - at) * width)
                pages.open(Piece(len(out), block, n), memoryview(out))
                mine += out
            whole = theirs.column(n).combine_chunks()
            assert mine == value_bytes(whole) == value_bytes(table.column(n).combine_chunks())


def test_a_changed_page_leaves_zeros_in_the_buffer(tmp_path: Path) -> None:
    path = tmp_path / "shard"
    table = pa.table({"n": pa.array(range(1, 201))})
    shape = Geometry(block_rows=100, row_group_rows=200, shard_rows=200)
    plan, sealed = sealed_file(path, table, shape)
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    out = bytearray(b"\xaa" * 800)
    with pytest.raises(IntegrityError):
        page_reader(path, plan, sealed).open(Piece(800, 0, 0), memoryview(out))
    assert not any(out)


def test_any_name_of_a_column_and_4096_of_them_come_back(tmp_path: Path) -> None:
    odd = ["a,b", "a:b; c", " lead", "trail ", "x.y", "🙂", "f1", "s0", "é"]
    names = [*odd, *(f"column {n}" for n in range(4096 - len(odd)))]
    table = pa.table([pa.array([n, n + 1]) for n in range(4096)], names=names)
    back = read_back(register_here(tmp_path, ipc_bytes(table)))
    assert back.schema.names == names
    assert back.to_pydict() == table.to_pydict()
