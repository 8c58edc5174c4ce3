"""Which Arrow types enter, as what they are stored, and how they come back.

*Logical* types are what a version's schema says and what readers get. *Physical* types are
what the Parquet file holds: columns `f<field id>`, struct members `s<n>` (Parquet encryption
cannot express every name), and in the train profile fixed-size binary for values whose
Parquet form is wider or other than their Arrow form (domain/layout.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from gateway.domain import field_metadata, lookalikes
from gateway.domain.dataset import COLUMN_NAME_CHARS_MAX
from gateway.domain.facts import TYPE_CHARS_MAX
from gateway.domain.layout import layout_of
from gateway.errors import SourceRefused

COLUMNS_MAX = 4096
DEPTH_MAX = 16
_DIGITS_128, _DIGITS_MAX = 38, 76
_AXES_MAX = 32  # as numpy
_AXIS_NAME_CHARS_MAX = 64
LEAVES_MAX = 8192  # a key each; a struct of 10,000 members takes 150 MB to read
SCHEMA_BYTES_MAX = 512 << 10  # one journal event names all columns; it holds 1 MiB
_ZONE = re.compile(r"(?!.*\.\.)[A-Za-z0-9_+:./-]{1,64}\Z")
_RENAME = "rename one of them: spaces, invisible characters and scripts tell no columns apart"
_SAME: tuple[Callable[[Any], bool], ...] = (
    pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_date,
    pa.types.is_time, pa.types.is_timestamp, pa.types.is_duration, pa.types.is_string,
    pa.types.is_binary, pa.types.is_fixed_size_binary,
)  # fmt: skip
_STRINGS = (pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
_BINARIES = (pa.types.is_large_binary, pa.types.is_binary_view)
_LISTS = (
    pa.types.is_list,
    pa.types.is_large_list,
    pa.types.is_list_view,
    pa.types.is_large_list_view,
)


def _checked_names(names: list[str]) -> None:
    """Every column can be told from every other by what is seen of its name."""
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SourceRefused(f"the column `{twice[:80]}` occurs twice", advice="rename one of them")
    if any(len(name) > COLUMN_NAME_CHARS_MAX for name in names):
        raise SourceRefused(
            f"a column's name is longer than {COLUMN_NAME_CHARS_MAX} characters",
            advice="rename the column",
        )
    unseen = next((n for n, name in enumerate(names) if not lookalikes.shown(name)), None)
    if unseen is not None:
        raise SourceRefused(
            f"column {unseen + 1} has no name that can be seen", advice="rename the column"
        )
    alike = lookalikes.first_pair(names)
    if alike:
        one, other = (name[:80] for name in alike)
        raise SourceRefused(f"the columns `{one}` and `{other}` look alike", advice=_RENAME)


def normal_type(kind: Any, *, depth: int = 0) -> Any:
    """Return the logical type that stands for `kind`; raises SourceRefused.

    Dictionaries, run ends, views, large offsets and extensions become the plain type of the
    same values, but a column of tensors stays one; unions, intervals and values of no width
    are refused. Every type: docs/reference/types.md.
    """
    if depth > DEPTH_MAX:
        raise SourceRefused("a column is nested too deep", advice=f"at most {DEPTH_MAX} levels")
    if not depth and _is_plain_tensor(kind):
        return kind
    if isinstance(kind, pa.BaseExtensionType):
        return normal_type(kind.storage_type, depth=depth + 1)
    if pa.types.is_dictionary(kind) or (pa.types.is_run_end_encoded(kind) and not depth):
        return normal_type(kind.value_type, depth=depth + 1)
    _checked_zone(kind)
    for tests, plain in ((_SAME, kind), (_STRINGS, pa.string()), (_BINARIES, pa.binary())):
        if any(test(kind) for test in tests) and _has_width(kind):
            return plain
    return _normal_decimal(kind) if pa.types.is_decimal(kind) else _normal_nested(kind, depth + 1)


def _has_width(kind: Any) -> bool:
    return not pa.types.is_fixed_size_binary(kind) or kind.byte_width > 0


def _is_plain_tensor(kind: Any) -> bool:
    """Whether it is `arrow.fixed_shape_tensor` of plain values, with sane axes."""
    return (
        isinstance(kind, pa.FixedShapeTensorType)
        and 0 < len(kind.shape) <= _AXES_MAX
        and all(0 < len(name) <= _AXIS_NAME_CHARS_MAX for name in kind.dim_names or ())
        and pa.types.is_primitive(kind.value_type)
        and layout_of(type_text(kind)) is not None
    )


def _normal_decimal(kind: Any) -> Any:
    # Parquet knows no negative scale: hundreds become units, with as many more digits.
    precision, scale = kind.precision - min(kind.scale, 0), max(kind.scale, 0)
    if precision > _DIGITS_MAX:
        raise SourceRefused(
            f"decimals of {precision} digits cannot be registered",
            advice=f"cast the column to at most {_DIGITS_MAX} digits",
        )
    if precision > _DIGITS_128 or pa.types.is_decimal256(kind):
        return pa.decimal256(precision, scale)
    return pa.decimal128(precision, scale)


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
    """The logical schema of a source: normal types, metadata by allow-list; SourceRefused."""
    names = schema.names
    if not names or len(names) > COLUMNS_MAX:
        raise SourceRefused(
            f"the file has {len(names)} columns", advice=f"register 1 to {COLUMNS_MAX} columns"
        )
    _checked_names(names)
    plain = pa.schema([_normal_field(f) for f in schema])
    if sum(_leaves(f.type) for f in plain) > LEAVES_MAX:
        raise SourceRefused(
            f"the columns have more than {LEAVES_MAX} parts", advice="register fewer nested columns"
        )
    if any(len(type_text(f.type)) > TYPE_CHARS_MAX for f in plain):
        raise SourceRefused(
            f"the type of a column is longer than {TYPE_CHARS_MAX} characters",
            advice="register nested columns with fewer or shorter member names",
        )
    if sum(_text_bytes(f.name) + _text_bytes(type_text(f.type)) for f in plain) > SCHEMA_BYTES_MAX:
        raise SourceRefused(
            f"names and types of the columns are longer than {SCHEMA_BYTES_MAX >> 10} KiB",
            advice="give the columns shorter names",
        )
    texts = [text for f in plain for text in (f.metadata or {}).values()]
    if sum(map(len, texts)) > field_metadata.TOTAL_BYTES_MAX:
        raise SourceRefused(
            f"the columns are described in more than {field_metadata.TOTAL_BYTES_MAX >> 10} KiB",
            advice="describe them in the card",
        )
    return plain


def _normal_field(column: Any) -> Any:
    texts = field_metadata.kept(column.metadata) or None
    return pa.field(column.name, normal_type(column.type), column.nullable, texts)


def _leaves(kind: Any) -> int:
    return sum(_leaves(kind.field(n).type) for n in range(kind.num_fields)) or 1


def _text_bytes(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False).encode())  # as the journal writes it


def _checked_zone(kind: Any) -> None:
    # Whoever reads the column may look a zone up in a directory by its name.
    if pa.types.is_timestamp(kind) and kind.tz is not None and not _ZONE.match(kind.tz):
        raise SourceRefused(
            "a column's time zone is no name of a zone",
            advice="use UTC or a name of the tz database",
        )


def without_list_views(array: Any) -> Any:
    """The same values with lists in place of list views, at every depth.

    By hand because pyarrow 26 casts a list view by its offsets alone: it loses values.
    """
    kind = array.type
    if not _holds_list_view(kind):
        return array
    if pa.types.is_struct(kind):
        members = [without_list_views(member) for member in array.flatten()]
        fields = [kind.field(n).with_type(m.type) for n, m in enumerate(members)]
        return pa.StructArray.from_arrays(members, fields=fields, mask=array.is_null())
    if not any(test(kind) for test in _LISTS):
        raise SourceRefused(
            f"list views inside `{str(kind)[:80]}` cannot be registered",
            advice="convert them to lists",
        )
    sizes = pa.compute.fill_null(pa.compute.list_value_length(array), 0)
    ends = pa.compute.cumulative_sum(sizes.cast(pa.int32()))
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), ends])
    return pa.ListArray.from_arrays(
        offsets, without_list_views(array.flatten()), mask=array.is_null()
    )


def _holds_list_view(kind: Any) -> bool:
    if pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind):
        return True
    return any(_holds_list_view(kind.field(n).type) for n in range(kind.num_fields))


def type_text(kind: Any) -> str:
    """The type as domain.layout and the Manifest write it."""
    if isinstance(kind, pa.FixedShapeTensorType):
        return f"fixed_shape_tensor<{type_text(kind.value_type)}>{list(kind.shape)}"
    if pa.types.is_fixed_size_list(kind):
        return f"fixed_size_list<{type_text(kind.value_type)}>[{kind.list_size}]"
    return str(kind)


def kept_metadata(column: Any) -> dict[str, str]:
    """What the Manifest keeps of a field beside name and type text."""
    texts = field_metadata.kept(column.metadata)
    if isinstance(column.type, pa.FixedShapeTensorType):
        axes = {"dim_names": column.type.dim_names, "permutation": column.type.permutation}
        told = {name: list(value) for name, value in axes.items() if value}
        if told:
            texts[field_metadata.TENSOR] = json.dumps(told, sort_keys=True, ensure_ascii=False)
    return texts


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
    """The type in the file: members named by position, and nothing that Parquet would alter."""
    if isinstance(kind, pa.BaseExtensionType):
        return physical_type(kind.storage_type)
    if pa.types.is_map(kind):
        return pa.map_(physical_type(kind.key_type), physical_type(kind.item_type))
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        item = pa.field("item", physical_type(kind.value_type))
        return pa.list_(item, kind.list_size if pa.types.is_fixed_size_list(kind) else -1)
    if pa.types.is_struct(kind):
        members = [kind.field(n) for n in range(kind.num_fields)]
        return pa.struct(
            [pa.field(f"s{n}", physical_type(m.type), m.nullable) for n, m in enumerate(members)]
        )
    return _kept_by_parquet(kind)


def _kept_by_parquet(kind: Any) -> Any:
    """Parquet would make days of `date64` and milliseconds of seconds: numbers are stored."""
    if pa.types.is_date64(kind) or (pa.types.is_timestamp(kind) and kind.unit == "s"):
        return pa.int64()
    return pa.int32() if kind == pa.time32("s") else kind


def direct_type(kind: Any) -> Any:
    """The type in the file of a direct column; its pages are the Arrow values."""
    layout = layout_of(type_text(kind))
    if layout is None:
        raise SourceRefused(f"`{kind}` has no fixed width")
    if isinstance(kind, pa.BaseExtensionType):
        return direct_type(kind.storage_type)
    narrow = pa.types.is_integer(kind) and kind.bit_width <= 16  # noqa: PLR2004 - Parquet's least is 32
    if narrow or pa.types.is_boolean(kind) or pa.types.is_fixed_size_list(kind):
        return pa.binary(layout.width)
    return physical_type(kind)


def to_direct(array: Any) -> Any:
    """A null-free column in its file type; the buffer is shared except for booleans."""
    kind = direct_type(array.type)
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
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
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, from_direct(array, kind.storage_type))
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
