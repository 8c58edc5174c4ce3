"""Which Arrow types enter, as what they are stored, and how they come back.

*Logical* types are what a version's schema says and what readers get. *Physical* types are
what the Parquet file holds: columns `f<field id>`, struct members `s<n>` (Parquet encryption
cannot express every name), and in the train profile fixed-size binary for values whose
Parquet form is wider or other than their Arrow form (domain/layout.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa

from gateway.domain.layout import layout_of
from gateway.errors import SourceRefused

COLUMNS_MAX = 4096
DEPTH_MAX = 16
_SAME: tuple[Callable[[Any], bool], ...] = (
    pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal128,
    pa.types.is_decimal256, pa.types.is_date, pa.types.is_time, pa.types.is_timestamp,
    pa.types.is_duration, pa.types.is_string, pa.types.is_binary, pa.types.is_fixed_size_binary,
)  # fmt: skip
_STRINGS = (pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
_BINARIES = (pa.types.is_large_binary, pa.types.is_binary_view)
_LISTS = (
    pa.types.is_list,
    pa.types.is_large_list,
    pa.types.is_list_view,
    pa.types.is_large_list_view,
)


def normal_type(kind: Any, *, depth: int = 0) -> Any:
    """Return the logical type that stands for `kind`; raises SourceRefused.

    Dictionaries, run ends, views, large offsets and extensions become the plain type of the
    same values; unions, intervals and empty structs are refused.
    """
    if depth > DEPTH_MAX:
        raise SourceRefused("a column is nested too deep", advice=f"at most {DEPTH_MAX} levels")
    if isinstance(kind, pa.BaseExtensionType):
        return normal_type(kind.storage_type, depth=depth + 1)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return normal_type(kind.value_type, depth=depth + 1)
    for tests, plain in ((_SAME, kind), (_STRINGS, pa.string()), (_BINARIES, pa.binary())):
        if any(test(kind) for test in tests):
            return plain
    if pa.types.is_decimal32(kind) or pa.types.is_decimal64(kind):
        return pa.decimal128(kind.precision, kind.scale)
    return _normal_nested(kind, depth + 1)


def _normal_nested(kind: Any, depth: int) -> Any:
    if any(test(kind) for test in _LISTS):
        return pa.list_(pa.field("item", normal_type(kind.value_type, depth=depth)))
    if pa.types.is_fixed_size_list(kind) and kind.list_size > 0:
        item = pa.field("item", normal_type(kind.value_type, depth=depth))
        return pa.list_(item, kind.list_size)
    if pa.types.is_map(kind):
        return pa.map_(
            normal_type(kind.key_type, depth=depth), normal_type(kind.item_type, depth=depth)
        )
    if pa.types.is_struct(kind) and kind.num_fields:
        members = [kind.field(n) for n in range(kind.num_fields)]
        if len({m.name for m in members}) == len(members):
            return pa.struct([pa.field(m.name, normal_type(m.type, depth=depth)) for m in members])
    raise SourceRefused(
        f"columns of type `{str(kind)[:80]}` cannot be registered",
        advice="convert the column to numbers, text, times, lists or structs",
    )


def normal_schema(schema: Any) -> Any:
    """The logical schema of a source: normal types, no metadata; raises SourceRefused."""
    names = schema.names
    if not names or len(names) > COLUMNS_MAX:
        raise SourceRefused(
            f"the file has {len(names)} columns", advice=f"register 1 to {COLUMNS_MAX} columns"
        )
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SourceRefused(f"the column `{twice[:80]}` occurs twice", advice="rename one of them")
    return pa.schema([pa.field(f.name, normal_type(f.type), nullable=f.nullable) for f in schema])


def type_text(kind: Any) -> str:
    """The type as domain.layout and the Manifest write it."""
    if pa.types.is_fixed_size_list(kind):
        return f"fixed_size_list<{type_text(kind.value_type)}>[{kind.list_size}]"
    return str(kind)


def is_fixed_width(kind: Any) -> bool:
    """Whether pages of it could be nothing but values."""
    return layout_of(type_text(kind)) is not None


def retyped(array: Any, kind: Any) -> Any:
    """The same buffers under another type of the same layout (names, units); no copy."""
    return array if array.type == kind else pa.array(_Retyped(array, kind))


class _Retyped:
    """Carries buffers and another type over the Arrow C interface."""

    def __init__(self, array: Any, kind: Any) -> None:
        self._array, self._kind = array, kind

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
        del requested_schema
        return self._kind.__arrow_c_schema__(), self._array.__arrow_c_array__()[1]


def physical_type(kind: Any) -> Any:
    """The type in the file: struct members are named by position."""
    if pa.types.is_struct(kind):
        members = [kind.field(n) for n in range(kind.num_fields)]
        return pa.struct(
            [pa.field(f"s{n}", physical_type(m.type), m.nullable) for n, m in enumerate(members)]
        )
    if pa.types.is_list(kind):
        return pa.list_(pa.field("item", physical_type(kind.value_type)))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(pa.field("item", physical_type(kind.value_type)), kind.list_size)
    if pa.types.is_map(kind):
        return pa.map_(physical_type(kind.key_type), physical_type(kind.item_type))
    return kind


def direct_type(kind: Any) -> Any:
    """The type in the file of a direct column; its pages are the Arrow values."""
    layout = layout_of(type_text(kind))
    if layout is None:
        raise SourceRefused(f"`{kind}` has no fixed width")
    if pa.types.is_date64(kind) or kind == pa.timestamp("s") or _is_zoned_seconds(kind):
        return pa.int64()  # Parquet would store days or milliseconds
    if kind == pa.time32("s"):
        return pa.int32()
    narrow = pa.types.is_integer(kind) and kind.bit_width <= 16  # noqa: PLR2004 - Parquet's least is 32
    if narrow or pa.types.is_boolean(kind) or pa.types.is_fixed_size_list(kind):
        return pa.binary(layout.width)
    return kind


def _is_zoned_seconds(kind: Any) -> bool:
    return bool(pa.types.is_timestamp(kind)) and kind.unit == "s"


def to_direct(array: Any) -> Any:
    """A null-free column in its file type; the buffer is shared except for booleans."""
    kind = direct_type(array.type)
    if kind == array.type:
        return array
    if not pa.types.is_fixed_size_binary(kind):
        return array.view(kind)
    count = len(array)
    while pa.types.is_fixed_size_list(array.type) and not array.null_count:
        array = array.flatten()
    if array.null_count:
        raise SourceRefused(
            "a fixed-size list holds missing items", advice="use `--profile archive`"
        )
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.uint8())
    start = array.offset * kind.byte_width * count // max(len(array), 1)
    values = array.buffers()[1].slice(start, count * kind.byte_width)
    return pa.FixedSizeBinaryArray.from_buffers(kind, count, [None, values])


def from_direct(array: Any, kind: Any) -> Any:
    """Undo `to_direct`: the logical column of type `kind`."""
    stored = direct_type(kind)
    if stored == kind:
        return array
    if not pa.types.is_fixed_size_binary(stored):
        return array.view(kind)
    width = stored.byte_width
    values = array.buffers()[1].slice(array.offset * width, len(array) * width)
    return _from_values(values, kind, len(array))


def _from_values(values: Any, kind: Any, count: int) -> Any:
    if pa.types.is_boolean(kind):
        return pa.Array.from_buffers(pa.uint8(), count, [None, values]).cast(pa.bool_())
    if pa.types.is_fixed_size_list(kind):
        items = _from_values(values, kind.value_type, count * kind.list_size)
        return pa.FixedSizeListArray.from_arrays(items, type=kind)
    return pa.Array.from_buffers(kind, count, [None, values])
