"""Parquet files written byte by byte, so that they can lie; no writer would make them.

Thrift compact protocol and parquet.thrift (PageHeader, FileMetaData). A struct is a dict of
field id -> value: int as i64, bytes as binary, list as list, dict as struct, I32 as i32.
"""

from __future__ import annotations

from typing import Any

BOOLEAN, INT32, INT64, BYTE_ARRAY = 0, 1, 2, 6
PLAIN, RLE, RLE_DICTIONARY = 0, 3, 8
_I32, _I64, _BINARY, _LIST, _STRUCT = 5, 6, 8, 9, 12


class I32(int):
    """A 32-bit number (an enum, too)."""


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _zigzag(number: int) -> bytes:
    return varint(number << 1 if number >= 0 else (-number << 1) - 1)


def _kind(value: Any) -> int:
    if isinstance(value, I32):
        return _I32
    for base, kind in ((int, _I64), (bytes, _BINARY), (list, _LIST), (dict, _STRUCT)):
        if isinstance(value, base):
            return kind
    raise TypeError(type(value))


def _value(value: Any) -> bytes:
    if isinstance(value, int):
        return _zigzag(value)
    if isinstance(value, bytes):
        return varint(len(value)) + value
    if isinstance(value, list):
        kind = _kind(value[0]) if value else _I64
        size = len(value)
        head = bytes([size << 4 | kind]) if size < 15 else bytes([0xF0 | kind]) + varint(size)
        return head + b"".join(map(_value, value))
    return struct(value)


def struct(fields: dict[int, Any]) -> bytes:
    out, last = bytearray(), 0
    for field, value in sorted(fields.items()):
        out += bytes([(field - last) << 4 | _kind(value)]) + _value(value)
        last = field
    return bytes(out) + b"\0"


def page(kind: int, body: bytes, values: int, encoding: int, **lies: int) -> bytes:
    """A dictionary page (kind 2) or a data page (kind 0); `lies` replace its sizes."""
    about: dict[int, Any] = {1: I32(values), 2: I32(encoding)}
    if kind == 0:
        about |= {3: I32(RLE), 4: I32(RLE)}
    size = lies.get("size", len(body))
    packed = lies.get("packed", len(body))
    head = {1: I32(kind), 2: I32(size), 3: I32(packed), (7 if kind else 5): about}
    return struct(head) + body


def parquet(
    chunk: bytes,
    *,
    values: int,
    kind: int = BYTE_ARRAY,
    dictionary_bytes: int = 0,
    groups: int = 1,
    **lies: Any,
) -> bytes:
    """One required column `a` whose `groups` row groups all point at the same chunk.

    Lies: `rows` and `group_rows` (counts), `data_offset`, `chunk_bytes`, `version`, `name`,
    `schema` (elements), `meta` (key-value pairs), `footer_bytes` (the length in the tail).
    """
    start = 4
    dictionary = {11: start} if dictionary_bytes else {}
    column = {
        1: I32(kind),
        2: [I32(PLAIN), I32(RLE_DICTIONARY)],
        3: [lies.get("name", b"a")],
        4: I32(0),
        5: values,
        6: lies.get("chunk_bytes", len(chunk)),
        7: lies.get("chunk_bytes", len(chunk)),
        9: lies.get("data_offset", start + dictionary_bytes),
        **dictionary,
    }
    group = {
        1: [{2: start, 3: column}],
        2: lies.get("group_bytes", len(chunk)),
        3: lies.get("group_rows", values),
    }
    leaf = {1: I32(kind), 3: I32(0), 4: lies.get("name", b"a")}
    footer: dict[int, Any] = {
        1: I32(lies.get("version", 1)),
        2: lies.get("schema", [{4: b"root", 5: I32(1)}, leaf]),
        3: lies.get("rows", values * groups),
        4: [group] * groups,
    }
    if "meta" in lies:
        footer[5] = lies["meta"]
    data = struct(footer)
    tail = lies.get("footer_bytes", len(data)).to_bytes(4, "little")
    return b"PAR1" + chunk + data + tail + b"PAR1"


def repeated(value: bytes, times: int, *, groups: int = 1, **lies: Any) -> bytes:
    """`value` stands `times` times in each of `groups` row groups; a few hundred bytes."""
    entry = len(value).to_bytes(4, "little") + value
    dictionary = page(2, entry, 1, PLAIN)
    run = bytes([1]) + varint(times << 1) + b"\0"  # bit width 1, one run of index 0
    data = page(0, run, times, RLE_DICTIONARY)
    return parquet(
        dictionary + data,
        values=times,
        dictionary_bytes=len(dictionary),
        groups=groups,
        **lies,
    )
