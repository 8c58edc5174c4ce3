"""Every Arrow type: what is refused, how the others are stored, and that they come back."""

from __future__ import annotations

import decimal
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from gateway.errors import SourceRefused
from gateway.shards.types import direct_type, is_fixed_width, normal_type, physical_type, type_text
from tests.shards.kit import Registered, ipc_bytes, parquet_bytes, read_back, register_here

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "types.md"
DAY = 86_400_000
ROWS = 3


def decimals(kind: Any) -> Any:
    return pa.array([decimal.Decimal(n).scaleb(-kind.scale) for n in (100, -7, 31)], kind)


def integers(kind: Any, factor: int = 1) -> Any:
    storage = pa.int32() if kind.bit_width == 32 else pa.int64()
    return pa.array([0, -3 * factor, 7 * factor], storage).view(kind)


def moments(kind: Any) -> Any:
    return integers(kind, DAY if pa.types.is_date64(kind) else 1)


def hours(kind: Any) -> Any:
    storage = pa.int32() if kind.bit_width == 32 else pa.int64()
    return pa.array([0, 5, 86_399], storage).view(kind)


def tensors() -> Any:
    kind = pa.fixed_shape_tensor(pa.float32(), [2, 3], dim_names=["C", "H"], permutation=[1, 0])
    values = pa.array(np.arange(6 * ROWS, dtype="f4"))
    return pa.ExtensionArray.from_storage(kind, pa.FixedSizeListArray.from_arrays(values, 6))


def extended(kind: Any, values: list[Any]) -> Any:
    return pa.ExtensionArray.from_storage(kind, pa.array(values, kind.storage_type))


def simple() -> Iterator[Any]:
    """One array of each type whose values are single."""
    yield pa.nulls(ROWS)
    yield pa.array([True, False, True])
    whole = (pa.int8, pa.uint8, pa.int16, pa.uint16, pa.int32, pa.uint32, pa.int64, pa.uint64)
    yield from (pa.array([0, 1, 100], make()) for make in whole)
    yield pa.array([np.float16(0.5), np.float16("nan"), np.float16(-0.0)])
    yield from (pa.array([0.5, -0.0, 1e30], kind) for kind in (pa.float32(), pa.float64()))
    kinds = (pa.decimal32(9, 2), pa.decimal64(18, 3), pa.decimal128(38, 5), pa.decimal256(76, 7))
    yield from (decimals(kind) for kind in (*kinds, pa.decimal128(5, -2)))
    yield from (moments(kind) for kind in (pa.date32(), pa.date64()))
    yield from (
        hours(kind) for kind in (pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns"))
    )
    yield from (
        moments(pa.timestamp(unit, zone))
        for unit in ("s", "ms", "us", "ns")
        for zone in (None, "Europe/Berlin")
    )
    yield from (moments(pa.duration(unit)) for unit in ("s", "ms", "us", "ns"))
    for text in (pa.string(), pa.large_string(), pa.string_view()):
        yield pa.array(["", "ü", "x" * 100], text)
    for data in (pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(2)):
        yield pa.array([b"\0\xff", b"ab", b"xy"], data)


def composed() -> Iterator[Any]:
    """One array of each type that is made of others."""
    yield pa.array(["a", "b", "a"]).dictionary_encode()
    yield pa.RunEndEncodedArray.from_arrays([2, 3], [1, 2])
    item = pa.timestamp("s", "UTC")
    for make in (pa.list_, pa.large_list, pa.list_view, pa.large_list_view):
        yield pa.array([[1, 2], [], [3]], make(item))
    yield pa.array([[1, 2], [3, 4], [5, 6]], pa.list_(pa.int32(), 2))
    yield pa.array([[["a"], []], [[], ["b"]], [[], []]], pa.list_(pa.list_(pa.string()), 2))
    inner = pa.struct([("a,b", pa.int8()), ("", pa.large_list_view(pa.date64()))])
    yield pa.array([{"a,b": 1, "": [0]}, {"a,b": None, "": None}, {"a,b": 2, "": []}], inner)
    yield pa.array([[("k", 1)], [], [("l", None)]], pa.map_(pa.large_string(), pa.decimal64(9, 1)))
    yield tensors()
    yield extended(pa.uuid(), [b"0" * 16, b"1" * 16, b"2" * 16])
    yield extended(pa.json_(), ["{}", "[]", "1"])
    yield extended(pa.bool8(), [0, 1, 1])
    yield extended(pa.opaque(pa.int64(), "thing", "vendor"), [1, 2, 3])


REFUSED = {
    "month_day_nano_interval": pa.month_day_nano_interval(),
    "sparse_union": pa.sparse_union([pa.field("a", pa.int8())]),
    "dense_union": pa.dense_union([pa.field("a", pa.int8())]),
    "struct without members": pa.struct([]),
    "struct whose members share a name": pa.struct([("a", pa.int8()), ("a", pa.int8())]),
    "fixed_size_list of length 0": pa.list_(pa.int8(), 0),
    "fixed_size_binary of length 0": pa.binary(0),
    "decimal of more than 76 digits": pa.decimal256(76, -2),
    "run ends within another type": pa.list_(pa.run_end_encoded(pa.int32(), pa.int8())),
    "more than 16 levels": None,
}


def deep() -> Any:
    kind = pa.int8()
    for _ in range(17):
        kind = pa.list_(kind)
    return kind


@pytest.mark.parametrize("what", REFUSED)
def test_a_type_that_parquet_cannot_hold_is_refused_with_advice(what: str) -> None:
    with pytest.raises(SourceRefused) as refusal:
        normal_type(REFUSED[what] or deep())
    assert refusal.value.advice
    assert f"| {what} |" in PAGE.read_text("utf-8")


def test_list_views_where_they_cannot_be_undone_are_refused(tmp_path: Path) -> None:
    table = pa.table({"x": pa.array([[[1], [2]]], pa.list_(pa.list_view(pa.int8()), 2))})
    with pytest.raises(SourceRefused, match="list views"):
        register_here(tmp_path, ipc_bytes(table))


ARRAYS = [*simple(), *composed()]


def plain(array: Any) -> str:
    """The values without what only names them; as text, since NaN differs from itself."""
    storage = array.storage if isinstance(array, pa.ExtensionArray) else array
    values = storage.to_pylist()
    return repr([f"{v:f}" if isinstance(v, decimal.Decimal) else v for v in values])


def with_gaps(array: Any) -> Any:
    """The same values with a NULL after them, sliced so that no offset is 0."""
    if pa.types.is_run_end_encoded(array.type):
        return pa.RunEndEncodedArray.from_arrays([2, 3, 4], [1, 2, None])
    return pa.concat_arrays([array, pa.nulls(1, array.type)])


def registered(folder: Path, arrays: list[Any], **options: Any) -> Registered:
    table = pa.table({f"{n}, a: b; {a.type}": a for n, a in enumerate(arrays)})
    return register_here(folder, ipc_bytes(table), **options)


@pytest.mark.parametrize("profile", ["train", "archive"])
@pytest.mark.parametrize("values", ["whole", "gaps"])
def test_every_type_comes_back_with_its_values(profile: str, values: str, tmp_path: Path) -> None:
    gaps = values == "gaps"
    arrays = [with_gaps(a) if gaps else a for a in ARRAYS]
    made = registered(tmp_path, arrays, profile=profile)
    back = read_back(made)
    for n, array in enumerate(arrays):
        column = back.column(n).combine_chunks()
        assert column.type == normal_type(array.type), array.type
        assert plain(column) == plain(array), array.type
    expected = [n for n, a in enumerate(arrays, 1) if is_fixed_width(normal_type(a.type))]
    assert made.manifest.direct == (tuple(expected) if profile == "train" and not gaps else ())


def parquet_can(array: Any) -> bool:
    try:
        parquet_bytes(pa.table({"x": array}))
    except (pa.ArrowException, OSError):
        return False
    return True


def test_what_a_parquet_file_holds_comes_back_as_pyarrow_reads_it(tmp_path: Path) -> None:
    arrays = [a for a in ARRAYS if parquet_can(a)]
    assert len(arrays) > 45
    data = parquet_bytes(pa.table({f"{n}": a for n, a in enumerate(arrays)}))
    back = read_back(register_here(tmp_path, data))
    for n, array in enumerate(arrays):
        assert plain(back.column(n).combine_chunks()) == plain(array), array.type


def test_a_tensor_keeps_shape_axes_and_their_order(tmp_path: Path) -> None:
    made = registered(tmp_path, [tensors()])
    kind = read_back(made).schema.field(0).type
    assert (kind.shape, kind.dim_names, kind.permutation) == ([2, 3], ["C", "H"], [1, 0])
    assert made.manifest.columns[0].type == "fixed_shape_tensor<float>[2, 3]"


def row(array: Any) -> str:
    """One line of the page."""
    kind = normal_type(array.type)
    direct = str(direct_type(kind)) if is_fixed_width(kind) else "as in archive"
    cells = (name(array.type), type_text(kind), str(physical_type(kind)), direct)
    return (
        "| " + " | ".join(f"`{cell}`" if cell != "as in archive" else cell for cell in cells) + " |"
    )


def name(kind: Any) -> str:
    return re.sub(r"^extension<(.*)>$", r"\1", str(kind)).replace("|", "\\|")


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: str(a.type)[:60])
def test_the_page_of_types_says_what_happens(array: Any) -> None:
    assert row(array) in PAGE.read_text("utf-8").splitlines()
