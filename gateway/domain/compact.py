"""Thrift compact structures as Parquet's footers use them, read whole and written back.

Handwritten, since pyarrow neither shows page headers nor changes what its footers say.
Every field is kept with its kind, so that what is not understood is written back as it was.
Format: Apache Thrift compact protocol.
"""

from __future__ import annotations

from typing import Any

from gateway.errors import InvalidInput

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, STRUCT = (*range(1, 11), 12)
_INTEGERS = (I16, I32, I64)
_DEPTH_MAX = 32
_LONG = 15  # a list of this many and more states its length apart
_SHIFT_MAX = 63
_MORE = 128  # the high bit of a varint's byte says that more follows

Struct = dict[int, tuple[int, Any]]  # field id -> kind, value; a list's value: kind, items


def read(data: bytes) -> tuple[Struct, int]:
    """One struct, and where it ended. Raises InvalidInput for anything else."""
    reader = _Reader(data)
    try:
        return reader.struct(0), reader.at
    except IndexError as cause:
        raise damaged() from cause


def damaged() -> InvalidInput:
    """The footer is none."""
    return InvalidInput(
        "the footer of the Parquet file is damaged", advice="fetch or write the file again"
    )


def within(struct: Struct, field: int, kind: int) -> Any:
    """The value of a field, None when it is absent; InvalidInput when it is of another kind."""
    found = struct.get(field)
    if found is None:
        return None
    if found[0] != kind:
        raise damaged()
    return found[1]


def structs(struct: Struct, field: int) -> list[Struct]:
    """The items of a list of structs."""
    kind, items = within(struct, field, LIST) or (STRUCT, [])
    if kind != STRUCT:
        raise damaged()
    return items


def number(struct: Struct, field: int) -> int | None:
    """The integer in a field, None when it is absent; InvalidInput when it is something else."""
    kind, value = struct.get(field, (I32, None))
    if kind not in _INTEGERS:
        raise damaged()
    return None if value is None else _signed(value)


def integer(value: int, kind: int = I64) -> tuple[int, int]:
    """A field that holds an integer of 0 or more."""
    return kind, value << 1


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self.at = data, 0

    def struct(self, depth: int) -> Struct:
        fields: Struct = {}
        last = 0
        while head := self._byte():
            last = last + (head >> 4) if head >> 4 else _signed(self._varint())
            kind = head & 15
            value = None if kind in (TRUE, FALSE) else self._value(kind, depth + 1)
            fields[last] = kind, value
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if depth > _DEPTH_MAX:
            raise damaged()
        if kind in _INTEGERS:
            return self._varint()
        if kind in (TRUE, FALSE, BYTE):  # of a list: a byte each
            return self._byte()
        if kind in (BINARY, DOUBLE):
            return self._take(self._varint() if kind == BINARY else 8)
        if kind == STRUCT:
            return self.struct(depth)
        if kind in (LIST, SET):
            return self._list(depth)
        raise damaged()

    def _list(self, depth: int) -> tuple[int, list[Any]]:
        head = self._byte()
        count = head >> 4 if head >> 4 != _LONG else self._varint()
        if count > len(self._data):
            raise damaged()
        return head & 15, [self._value(head & 15, depth + 1) for _ in range(count)]

    def _byte(self) -> int:
        self.at += 1
        return self._data[self.at - 1]

    def _varint(self) -> int:
        value = shift = 0
        while (byte := self._byte()) >= _MORE:
            value |= (byte - _MORE) << shift
            shift += 7
            if shift > _SHIFT_MAX:
                raise damaged()
        return value | byte << shift

    def _take(self, count: int) -> bytes:
        if self.at + count > len(self._data):
            raise damaged()
        self.at += count
        return self._data[self.at - count : self.at]


def _signed(value: int) -> int:
    return (value >> 1) ^ -(value & 1)


def write(struct: Struct) -> bytes:
    """The bytes of a struct; integers stay as they were read, zigzag or not."""
    out = bytearray()
    last = 0
    for field, (kind, value) in sorted(struct.items()):
        if 0 < field - last < _LONG:
            out.append((field - last) << 4 | kind)
        else:
            out.append(kind)
            out += varint(field << 1 if field >= 0 else ~(field << 1))
        last = field
        if kind not in (TRUE, FALSE):
            out += _written(kind, value)
    return bytes(out) + b"\0"


def _written(kind: int, value: Any) -> bytes:
    if kind in _INTEGERS:
        return varint(value)
    if kind in (TRUE, FALSE, BYTE):
        return bytes((value,))
    if kind == BINARY:
        return varint(len(value)) + bytes(value)
    if kind == STRUCT:
        return write(value)
    if kind == DOUBLE:
        return bytes(value)
    of, items = value
    is_long = len(items) >= _LONG
    head = bytes(((_LONG if is_long else len(items)) << 4 | of,))
    length = varint(len(items)) if is_long else b""
    return head + length + b"".join(_written(of, item) for item in items)


def varint(value: int) -> bytes:
    """An integer, seven bits a byte."""
    out = bytearray()
    while value >= _MORE:
        out.append(value & (_MORE - 1) | _MORE)
        value >>= 7
    out.append(value)
    return bytes(out)
