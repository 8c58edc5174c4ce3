"""Pieces of a view's frames become one batch, whatever their columns are."""

from __future__ import annotations

import decimal
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.client import joining
from gateway.client.joining import COLUMNS_MAX, LARGE_BYTES, Joiner
from gateway.errors import InvalidInput

VALUES: dict[Any, st.SearchStrategy[Any]] = {
    pa.int8(): st.integers(-128, 127),
    pa.int64(): st.integers(-(1 << 63), (1 << 63) - 1),
    pa.float32(): st.floats(width=32, allow_nan=False),
    pa.float64(): st.floats(allow_nan=False),
    pa.bool_(): st.booleans(),
    pa.timestamp("us"): st.integers(0, 1 << 50),
    pa.time32("s"): st.integers(0, 86_399),
    pa.date32(): st.dates(),
    pa.decimal128(9, 2): st.integers(0, 999).map(decimal.Decimal),
    pa.binary(3): st.binary(min_size=3, max_size=3),
    pa.binary(): st.binary(max_size=9),
    pa.string(): st.text(max_size=5),
    pa.large_binary(): st.binary(max_size=300),
    pa.large_string(): st.text(max_size=5),
    pa.list_(pa.int16()): st.lists(st.integers(0, 9), max_size=3),
}


@pytest.fixture(scope="module")
def every_batch_is_large() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(joining, "LARGE_BYTES", 0)
        yield


@st.composite
def pieces(draw: st.DrawFn) -> list[Any]:
    """Slices of batches of one schema; in some a value is missing."""
    kinds = draw(st.lists(st.sampled_from(sorted(VALUES, key=str)), min_size=1, max_size=4))
    schema = pa.schema([(f"c{n}", kind) for n, kind in enumerate(kinds)])
    has_nulls = draw(st.booleans())
    found = []
    for _ in range(draw(st.integers(1, 5))):
        rows = draw(st.integers(1, 6))
        columns = [
            draw(st.lists(st.none() | VALUES[kind] if has_nulls else VALUES[kind],
                          min_size=rows, max_size=rows)) for kind in kinds
        ]  # fmt: skip
        whole = pa.record_batch(
            [pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)],
            schema=schema,
        )
        start = draw(st.integers(0, rows - 1))
        found.append(whole.slice(start, draw(st.integers(1, rows - start))))
    return found


@pytest.mark.usefixtures("every_batch_is_large")
@given(pieces())
def test_a_large_batch_is_what_arrow_makes_of_its_pieces(found: list[Any]) -> None:
    wanted = pa.concat_batches(found)
    batch = Joiner(wanted.schema).join(iter(found), wanted.num_rows)
    batch.validate(full=True)
    assert batch.equals(wanted)
    assert batch.schema.equals(wanted.schema, check_metadata=True)


def is_rounded(column: Any) -> bool:
    """Whether numpy would make floats of whole numbers that no float holds."""
    values = column.to_pylist() if column.type == pa.int64() else []
    return None in values and any(abs(value) >= 1 << 53 for value in values if value is not None)


@pytest.mark.usefixtures("every_batch_is_large")
@given(pieces())
def test_arrays_of_a_large_batch_are_those_of_the_joined_one(found: list[Any]) -> None:
    whole = pa.concat_batches(found)
    if any(map(is_rounded, whole.columns)):
        with pytest.raises(InvalidInput, match="numpy cannot hold"):
            Joiner(whole.schema).arrays(iter(found), whole.num_rows)
        return
    got = Joiner(whole.schema).arrays(iter(found), whole.num_rows)
    assert list(got) == whole.schema.names
    for name, array in got.items():
        wanted = whole.column(name).to_numpy(zero_copy_only=False)
        assert array.dtype == wanted.dtype
        assert [repr(value) for value in array.tolist()] == [repr(v) for v in wanted.tolist()]


@pytest.mark.usefixtures("every_batch_is_large")
def test_a_batch_is_its_own_memory_and_grows_when_later_values_are_longer() -> None:
    found = [pa.record_batch({"x": pa.array([b"x" * size], pa.binary())}) for size in (1, 99, 9999)]
    batch = Joiner(found[0].schema).join(iter(found), 3)
    assert batch.column(0).to_pylist() == [b"x", b"x" * 99, b"x" * 9999]
    addresses = {b.column(0).buffers()[2].address for b in found}
    assert batch.column(0).buffers()[2].address not in addresses


@pytest.mark.usefixtures("every_batch_is_large")
@pytest.mark.parametrize("way", ["join", "arrays"])
def test_no_piece_is_held_while_the_next_is_waited_for(way: str) -> None:
    """Each is a slot of the ring, and it has eight."""
    alive: list[weakref.ref[Any]] = []

    def lent() -> Iterator[Any]:
        for number in range(20):
            memory = np.full(64, number, dtype=np.uint8)
            alive.append(weakref.ref(memory))
            column = pa.Array.from_buffers(pa.int64(), 8, [None, pa.py_buffer(memory)])
            del memory
            piece = pa.RecordBatch.from_arrays([column], names=["x"])
            del column
            yield piece
            del piece
            assert sum(ref() is not None for ref in alive) <= 1

    made = getattr(Joiner(pa.schema([("x", pa.int64())])), way)(lent(), 160)
    assert made["x"].tolist()[159] == 19 * 0x0101010101010101


def test_one_piece_is_no_copy() -> None:
    piece = pa.record_batch({"x": pa.array([b"a", b"b"])}).slice(1)
    assert Joiner(piece.schema).join(iter([piece]), 1) is piece


def test_only_what_exceeds_the_kept_slots_is_written_by_ourselves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(joining, "LARGE_BYTES", LARGE_BYTES)
    written: list[int] = []
    monkeypatch.setattr(joining._Written, "take", lambda *_: written.append(1) or False)

    def join(size: int, columns: int) -> int:
        column = pa.array([b"x" * size], pa.large_binary())
        piece = pa.record_batch([column] * columns, names=[f"c{n}" for n in range(columns)])
        written.clear()
        Joiner(piece.schema).join(iter([piece, piece]), 2)
        return len(written)

    assert join(LARGE_BYTES // 4, 1) == 0
    assert join(LARGE_BYTES, 1) == 2
    assert join(LARGE_BYTES, COLUMNS_MAX + 1) == 0


def test_a_column_that_would_outgrow_its_offsets_is_not_written() -> None:
    column = joining._Binary(pa.array([b"x" * 100]), 3, word="i4")
    column._most = 200
    assert column.take(pa.array([b"x" * 100]), 0)
    assert not column.take(pa.array([b"y" * 101]), 1)
    assert column.take(pa.array([b"z" * 100]), 1)
    assert column.array(pa.binary(), 2).to_pylist() == [b"x" * 100, b"z" * 100]
