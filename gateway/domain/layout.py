"""How one value of a column lies in memory when a page holds nothing but values.

Pages of the train profile are the column's Arrow values, little-endian, one after another,
`width` bytes each (booleans one byte, 0 or 1). This module maps the type text of a column to
that layout, so that processes without Arrow (data workers, numpy clients) agree on it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from gateway.errors import InvalidInput

WIDTH_BYTES_MAX = 1 << 24
# type text -> (numpy dtype, bytes per value)
_PLAIN = {
    "bool": ("|b1", 1),
    "int8": ("|i1", 1),
    "uint8": ("|u1", 1),
    "int16": ("<i2", 2),
    "uint16": ("<u2", 2),
    "halffloat": ("<f2", 2),
    "int32": ("<i4", 4),
    "uint32": ("<u4", 4),
    "float": ("<f4", 4),
    "date32[day]": ("<i4", 4),  # days since 1970; numpy has no 4-byte dates
    "time32[s]": ("<i4", 4),
    "time32[ms]": ("<i4", 4),
    "int64": ("<i8", 8),
    "uint64": ("<u8", 8),
    "double": ("<f8", 8),
    "date64[ms]": ("<M8[ms]", 8),
    "time64[us]": ("<i8", 8),
    "time64[ns]": ("<i8", 8),
}
TIMED = re.compile(r"(timestamp|duration)\[(s|ms|us|ns)(?:, tz=([^\]]{1,64}))?\]\Z")
BINARY = re.compile(r"fixed_size_binary\[([1-9][0-9]{0,7})\]\Z")
LIST = re.compile(r"fixed_size_list<(.+)>\[([1-9][0-9]{0,7})\]\Z")
TENSOR_TEXT = re.compile(
    r"fixed_shape_tensor<([^<>]+)>\[([1-9][0-9]{0,7}(?:, [1-9][0-9]{0,7}){0,31})\]\Z"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Bytes of one value and how numpy sees them."""

    dtype: str  # numpy dtype text with byte order
    shape: tuple[int, ...]  # of one row; () = a scalar
    width: int  # bytes of one row


def layout_of(type_text: str) -> Layout | None:
    """Return the layout of a fixed-width type, or None when values vary in width."""
    plain = _PLAIN.get(type_text)
    if plain:
        return Layout(dtype=plain[0], shape=(), width=plain[1])
    timed = TIMED.match(type_text)
    if timed:
        code = "M" if timed[1] == "timestamp" else "m"
        return Layout(dtype=f"<{code}8[{timed[2]}]", shape=(), width=8)
    binary = BINARY.match(type_text)
    if binary:
        return _bounded(Layout(dtype="|u1", shape=(int(binary[1]),), width=int(binary[1])))
    return _tensor_layout(type_text) or _list_layout(type_text)


def _tensor_layout(type_text: str) -> Layout | None:
    match = TENSOR_TEXT.match(type_text)
    item = match and layout_of(match[1])
    if not match or not item or item.shape:
        return None
    shape = tuple(int(size) for size in match[2].split(", "))
    return _bounded(Layout(dtype=item.dtype, shape=shape, width=math.prod(shape) * item.width))


def _list_layout(type_text: str) -> Layout | None:
    match = LIST.match(type_text)
    if not match or type_text.count("<") > 4:  # noqa: PLR2004 - tensors of at most 4 axes
        return None
    item, count = layout_of(match[1]), int(match[2])
    if item is None:
        return None
    whole = Layout(dtype=item.dtype, shape=(count, *item.shape), width=count * item.width)
    return _bounded(whole)


def _bounded(layout: Layout) -> Layout | None:
    return layout if layout.width <= WIDTH_BYTES_MAX else None


def width_of(type_text: str) -> int:
    """Bytes of one value; raises InvalidInput when the type has no fixed width."""
    layout = layout_of(type_text)
    if layout is None:
        raise InvalidInput(f"`{type_text[:80]}` has no fixed width")
    return layout.width
