"""Direct columns become the Arrow columns that were registered, whatever their type."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.client.arrow_types import direct_column, direct_schema
from gateway.client.batches import Batches, OpenSegment, Part
from gateway.client.frames import Frames
from gateway.domain.layout import layout_of
from gateway.errors import IntegrityError, InvalidInput
from gateway.shards.types import kept_metadata, type_text
from gateway.wire.leases import LeaseColumn
from tests.shards.test_direct import TYPES, column, value_bytes

Random = np.random.default_rng


def told(field: Any) -> LeaseColumn:
    """What a lease manifest says of a column."""
    text = type_text(field.type)
    layout = layout_of(text)
    assert layout
    return LeaseColumn(
        name=field.name, arrow=text, dtype=layout.dtype, shape=layout.shape,
        metadata=kept_metadata(field),
    )  # fmt: skip


def arrays_of(table: Any) -> dict[str, Any]:
    """The columns as a segment has them."""
    return {
        one.name: np.frombuffer(
            value_bytes(table.column(one.name).combine_chunks()), np.dtype(one.dtype)
        ).reshape(len(table), *one.shape)
        for one in map(told, table.schema)
    }


@pytest.mark.parametrize(
    ("text", "dtype", "shape"),
    [
        ("string", "<i4", ()),
        ("int64", "<i4", ()),
        ("fixed_size_list<int32>[2]", "<i4", (3,)),
        ("int64", "<i8", (2,)),
        ("time64[s]", "<i8", ()),
    ],
)
def test_a_manifest_whose_types_and_sizes_differ_is_refused(
    text: str, dtype: str, shape: tuple[int, ...]
) -> None:
    with pytest.raises(IntegrityError, match="`x`"):
        direct_schema([LeaseColumn(name="x", arrow=text, dtype=dtype, shape=shape)])


@pytest.mark.parametrize("parameters", ["[]", "{", '{"permutation": [5, 5]}', '{"dim_names": 1}'])
def test_axes_that_make_no_sense_are_refused(parameters: str) -> None:
    one = LeaseColumn(
        name="x", arrow="fixed_shape_tensor<float>[2, 3]", dtype="<f4", shape=(2, 3),
        metadata={"ARROW:extension:metadata": parameters},
    )  # fmt: skip
    with pytest.raises(IntegrityError, match="type of column `x`"):
        direct_schema([one])


def test_a_column_of_another_size_than_its_type_is_refused() -> None:
    with pytest.raises(IntegrityError, match="size"):
        direct_column(np.zeros(3, "<i4"), pa.int64())


@settings(max_examples=50, deadline=None)
@given(
    kinds=st.lists(TYPES, min_size=1, max_size=4),
    rows=st.integers(0, 60),
    seed=st.integers(0, 1 << 30),
    cut=st.tuples(st.integers(0, 60), st.integers(0, 60)),
    shuffled=st.booleans(),
)
def test_batches_are_the_rows_and_types_that_were_registered(
    kinds: list[Any], rows: int, seed: int, cut: tuple[int, int], *, shuffled: bool
) -> None:
    random = Random(seed)
    columns = [column(kind, rows, random) for kind in kinds]
    schema = pa.schema([pa.field(f"c{n}", kind, nullable=False) for n, kind in enumerate(kinds)])
    table = pa.Table.from_arrays(columns, schema=schema)
    order = random.permutation(rows) if shuffled else None
    segment = OpenSegment(arrays_of(table), None, order)
    first, last = sorted(min(at, rows) for at in cut)
    parts = [Part(segment, first, last - first), Part(segment, 0, first)]
    found = direct_schema([told(field) for field in schema])
    assert found.equals(schema, check_metadata=True)
    batch = Batches(found, is_view=False, is_arrow=True).make(parts, last)
    batch.validate()
    assert batch.schema.equals(schema, check_metadata=True)
    taken = np.arange(rows) if order is None else order
    picked = np.concatenate([taken[first:last], taken[:first]])
    for n in range(len(kinds)):
        whole, width = value_bytes(table.column(n).combine_chunks()), told(schema.field(n))
        size = np.dtype(width.dtype).itemsize * int(np.prod(width.shape, dtype=int))
        expected = b"".join(whole[i * size : (i + 1) * size] for i in picked)
        assert value_bytes(batch.column(n)) == expected


def test_an_unshuffled_column_is_a_view_of_the_segment() -> None:
    values = np.arange(12, dtype="<i4").reshape(4, 3)
    kind = pa.fixed_shape_tensor(pa.int32(), [3])
    found = direct_column(values[1:3], kind)
    assert found.storage.flatten().buffers()[1].address == values[1:].ctypes.data


def test_a_value_that_numpy_cannot_hold_is_refused_with_the_way_out() -> None:
    clock = pa.array([1_000, 1_001]).cast(pa.time64("ns"))
    batch = pa.record_batch({"id": [1, 2], "clock": clock, "inside": clock_lists(clock)})
    rows = OpenSegment({}, Frames([batch]), None)
    for name in ("clock", "inside"):
        only = OpenSegment({}, Frames([batch.select([name])]), None)
        arrays = Batches(batch.schema, is_view=True, is_arrow=False)
        assert len(arrays.make([Part(only, 0, 1)], 1)[name]) == 1  # whole microseconds
        with pytest.raises(InvalidInput, match=f"column `{name}` .*time64") as refused:
            arrays.make([Part(only, 0, 2)], 2)
        assert "`arrow`" in (refused.value.advice or "")
    whole = Batches(batch.schema, is_view=True, is_arrow=True).make([Part(rows, 0, 2)], 2)
    assert whole.equals(batch)


@settings(deadline=None)
@given(st.lists(TYPES, min_size=1, max_size=3), st.integers(1, 20), st.integers(0, 1 << 30))
def test_a_view_gives_the_arrays_that_pages_give(kinds: Any, rows: int, seed: int) -> None:
    made = {f"c{n}": column(kind, rows, Random(seed + n)) for n, kind in enumerate(kinds)}
    fields = [pa.field(name, array.type, nullable=False) for name, array in made.items()]
    table = pa.table(list(made.values()), schema=pa.schema(fields))
    (batch,) = table.to_batches()
    frames = Frames([batch.slice(0, rows // 2), batch.slice(rows // 2)])
    of_view = Batches(batch.schema, is_view=True, is_arrow=False)
    found = of_view.make([Part(OpenSegment({}, frames, None), 0, rows)], rows)
    for field, wanted in zip(table.schema, arrays_of(table).values(), strict=True):
        array = found[field.name]
        assert (array.dtype, array.shape) == (wanted.dtype, wanted.shape)
        assert array.tobytes() == wanted.tobytes()


def test_a_missing_item_makes_a_list_of_a_view_what_arrow_makes_of_it() -> None:
    kind = pa.list_(pa.int32(), 2)
    rows = pa.record_batch([pa.array([[1, 2], [None, 4]], kind)], ["c"])
    rows = rows.cast(pa.schema([pa.field("c", kind, nullable=False)]))
    part = Part(OpenSegment({}, Frames([rows]), None), 0, 2)
    (array,) = Batches(rows.schema, is_view=True, is_arrow=False).make([part], 2).values()
    assert array[0].tolist() == [1, 2]
    assert array.dtype == object


LARGE = (1 << 53) + 1


@pytest.mark.parametrize("kind", [pa.int64(), pa.uint64()], ids=str)
@pytest.mark.parametrize("place", ["column", "list"])
def test_a_large_whole_number_beside_a_missing_one_is_not_rounded_in_silence(
    kind: Any, place: str
) -> None:
    def made(values: list[Any]) -> Any:
        column = pa.array(values, kind)
        column = (
            pa.ListArray.from_arrays([0, 1, len(values)], column) if place == "list" else column
        )
        rows = pa.record_batch({"id": column})
        part = Part(OpenSegment({}, Frames([rows]), None), 0, len(rows))
        return Batches(rows.schema, is_view=True, is_arrow=False).make([part], len(rows))["id"]

    assert (made([LARGE, 7, 8])[0] == LARGE).all()
    assert np.isnan(made([7, None, 8])[1]).any()
    with pytest.raises(InvalidInput, match=r"`id` .*int64"):
        made([LARGE, 7, None])


def clock_lists(values: Any) -> Any:
    return pa.ListArray.from_arrays(list(range(len(values) + 1)), values)
