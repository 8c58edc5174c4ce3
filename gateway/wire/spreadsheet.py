"""CSV that a spreadsheet opens without running anything in it. Pure.

A cell that begins (after blanks) with a character that spreadsheets take for a formula is
text with a leading apostrophe; numbers stay numbers. Follows OWASP's advice on CSV injection.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

_FORMULA = frozenset("=+-@|%\t\r\n\uff1d\uff0b\uff0d\uff20")  # full-width forms too


def to_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """The table as RFC 4180 CSV with a head line; lists and objects are JSON text."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow([cell(column) for column in columns])
    writer.writerows([cell(value) for value in row] for row in rows)
    return out.getvalue()


def cell(value: Any) -> str:
    """One value as a harmless cell."""
    if value is None:
        return ""
    if isinstance(value, (bool, int, float)):
        return str(value)
    if isinstance(value, bytes):
        value = value.hex()
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = text.replace("\0", "")
    begins = text.lstrip(" \u00a0\ufeff\u200b")[:1] or " "
    return f"'{text}" if text and (text[0] in _FORMULA or begins in _FORMULA) else text
