"""Read the few Thrift compact structures that Parquet wraps around sealed pages.

Only in the sealer, over files it has just written itself: to find where each page lies and to
prove that it holds what the block table will say. Written by hand, since pyarrow does not
show page headers. Format: Apache Thrift compact protocol, and parquet.thrift (PageHeader,
FileCryptoMetaData). Unknown fields are skipped; nonsense raises IntegrityError.
"""

from __future__ import annotations

from typing import Any

from gateway.errors import IntegrityError

_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12
_INTEGERS = (4, 5, 6)
_DEPTH_MAX = 8


def read_struct(data: bytes | memoryview, start: int = 0) -> tuple[dict[int, Any], int]:
    """Read one struct; returns {field id: value} and where it ended.

    Integers are int, binary is bytes, lists are lists, structs are dicts.
    """
    reader = _Reader(bytes(data), start)
    try:
        value = reader.struct(0)
    except IndexError as cause:
        raise IntegrityError("a Parquet structure is cut off") from cause
    return value, reader.at


class _Reader:
    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at

    def struct(self, depth: int) -> dict[int, Any]:
        if depth > _DEPTH_MAX:
            raise IntegrityError("a Parquet structure is nested too deep")
        fields: dict[int, Any] = {}
        last = 0
        while head := self._byte():
            last = last + (head >> 4) if head >> 4 else self._zigzag()
            kind = head & 15
            fields[last] = kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in _INTEGERS:
            return self._zigzag()
        if kind in (_TRUE, _FALSE, _BYTE):
            return self._byte()
        if kind == _BINARY:
            return self._take(self._varint())
        if kind == _DOUBLE:
            return self._take(8)
        if kind == _STRUCT:
            return self.struct(depth + 1)
        if kind in (_LIST, _SET):
            return self._list(depth + 1)
        raise IntegrityError(f"a Parquet structure has a field of kind {kind}")

    def _list(self, depth: int) -> list[Any]:
        head = self._byte()
        count = head >> 4 if head >> 4 != 15 else self._varint()  # noqa: PLR2004 - 15: long form
        if depth > _DEPTH_MAX or count > len(self.data):
            raise IntegrityError("a Parquet list is longer than its file")
        return [self._value(head & 15, depth) for _ in range(count)]

    def _byte(self) -> int:
        value = self.data[self.at]
        self.at += 1
        return value

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:  # noqa: PLR2004 - the high bit says that more follows
                return value
            if shift > 63:  # noqa: PLR2004 - 64-bit integers
                raise IntegrityError("a Parquet integer is too long")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _take(self, count: int) -> bytes:
        if self.at + count > len(self.data):
            raise IntegrityError("a Parquet structure is cut off")
        self.at += count
        return self.data[self.at - count : self.at]
