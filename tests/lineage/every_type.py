"""Every type of auditors' SQL: how it is written, and what a reader of each form gets."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa

# name: (SQL, type in Arrow, what pyarrow reads, what JSON says; ... = it is refused there)
TYPES: dict[str, tuple[str, str, Any, Any]] = {
    "tinyint": ("(-128)::TINYINT", "int8", -128, -128),
    "smallint": ("32767::SMALLINT", "int16", 32767, 32767),
    "integer": ("(-2147483648)::INTEGER", "int32", -(2**31), -(2**31)),
    "bigint": ("9007199254740991::BIGINT", "int64", 2**53 - 1, 2**53 - 1),
    "beyond": ("9007199254740993::BIGINT", "int64", 2**53 + 1, ...),
    "least": ("(-9223372036854775807)::BIGINT", "int64", -(2**63) + 1, ...),
    "utinyint": ("255::UTINYINT", "uint8", 255, 255),
    "usmallint": ("65535::USMALLINT", "uint16", 65535, 65535),
    "uinteger": ("4294967295::UINTEGER", "uint32", 2**32 - 1, 2**32 - 1),
    "ubigint": ("18446744073709551615::UBIGINT", "uint64", 2**64 - 1, ...),
    "hugeint": (f"{10**37}::HUGEINT", "decimal128(38, 0)", Decimal(10**37), ...),
    "counted": ("sum(7)", "decimal128(38, 0)", Decimal(7), 7),
    "decimal": ("12.50::DECIMAL(10, 2)", "decimal128(10, 2)", Decimal("12.50"), "12.50"),
    "wide": (
        "12345678901234567890123456789.123456789::DECIMAL(38, 9)", "decimal128(38, 9)",
        Decimal("12345678901234567890123456789.123456789"),
        "12345678901234567890123456789.123456789",
    ),
    "float": ("1.5::FLOAT", "float", 1.5, 1.5),
    "double": ("0.1::DOUBLE", "double", 0.1, 0.1),
    "infinite": ("'-inf'::DOUBLE", "double", float("-inf"), "-inf"),
    "boolean": ("true", "bool", True, True),
    "varchar": ("'Žluťoučký 🐎'", "string", "Žluťoučký 🐎", "Žluťoučký 🐎"),
    "blob": (r"'\x00\xFF'::BLOB", "binary", b"\x00\xff", "00ff"),
    "uuid": (
        "'00000000-0000-0000-0000-00000000000a'::UUID", "string",
        "00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000a",
    ),
    "date": ("DATE '1969-12-31'", "date32[day]", date(1969, 12, 31), "1969-12-31"),
    "time": ("TIME '23:59:59.5'", "time64[us]", time(23, 59, 59, 500000), "23:59:59.500000"),
    "timestamp": (
        "TIMESTAMP '2026-01-01 12:00:00.123456'", "timestamp[us]",
        datetime(2026, 1, 1, 12, 0, 0, 123456), "2026-01-01T12:00:00.123456Z",  # noqa: DTZ001
    ),
    "seconds": (
        "'2026-01-01 12:00:00'::TIMESTAMP_S", "timestamp[s]",
        datetime(2026, 1, 1, 12), "2026-01-01T12:00:00Z",  # noqa: DTZ001
    ),
    "zoned": (
        "to_timestamp(1)", "timestamp[us, tz=Etc/UTC]",
        datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), "1970-01-01T00:00:01Z",
    ),
    "interval": (
        "INTERVAL '1' MONTH + INTERVAL '2' DAY", "month_day_nano_interval",
        pa.MonthDayNano([1, 2, 0]), [1, 2, 0],
    ),
    "list": ("[1, NULL, 3]", "list<l: int32>", [1, None, 3], [1, None, 3]),
    "nested": ("[['a'], []]", "list<l: list<l: string>>", [["a"], []], [["a"], []]),
    "struct": (
        "{'a': 1, 'b': [true]}", "struct<a: int32, b: list<l: bool>>",
        {"a": 1, "b": [True]}, {"a": 1, "b": [True]},
    ),
    "deep": (
        "{'a': [{'n': 9007199254740993}]}", "struct<a: list<l: struct<n: int64>>>",
        {"a": [{"n": 2**53 + 1}]}, ...,
    ),
    "map": ("MAP {'k': 1}", "map<string, int32>", [("k", 1)], [["k", 1]]),
    "null": ("NULL", "null", None, None),
    "missing": ("NULL::BIGINT", "int64", None, None),
}  # fmt: skip


def selected(*names: str) -> str:
    """One row with these columns."""
    return "SELECT " + ", ".join(f'{TYPES[name][0]} AS "{name}"' for name in names)
