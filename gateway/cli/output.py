"""What commands print: people get text without control characters, programs get JSON.

JSON is one object with `schema` (`dataset.list/v0`): fields may be added within a version.
Text from the server or from files is escaped: no byte of it can move a cursor, change the
direction of writing or start an escape sequence.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from gateway.errors import GatewayError

SCHEMA_VERSION = "v0"
_WIDTH_UNKNOWN = 200  # characters, when nobody looks
_COLUMNS_ALWAYS = 5  # so few stay a table, however wide
_COLUMN_NAMES = {"registered_at": "registered", "expires_at": "expires", "granted_at": "granted"}


def safe(value: Any) -> str:
    r"""`value` as one printable line: C0, C1, bidi and other format characters as `\\u{…}`."""
    text = _plain(value)
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if _is_harmless(char) else f"\\u{{{ord(char):x}}}" for char in text)


def _is_harmless(char: str) -> bool:
    return char == " " or not unicodedata.category(char).startswith(("C", "Z"))


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_plain(item)}" for key, item in value.items() if item is not None)
    if isinstance(value, (list, tuple)):
        return ", ".join(_named(item) for item in value)
    return str(value)


def _named(item: Any) -> str:
    """Columns and splits show as their names."""
    if isinstance(item, Mapping) and "name" in item:
        mask = item.get("mask")
        return f"{item['name']} ({mask})" if mask else str(item["name"])
    return _plain(item)


def print_json(schema: str, value: Any) -> None:
    """One JSON object, ASCII only."""
    body = value if isinstance(value, Mapping) else {"items": value}
    document = {"schema": f"{schema}/{SCHEMA_VERSION}", **body}
    sys.stdout.write(json.dumps(document, ensure_ascii=True, default=str) + "\n")


def print_record(
    schema: str, record: Mapping[str, Any], *, as_json: bool, only: Sequence[str] | None = None
) -> None:
    """One thing, a field per line; `only` chooses the fields that people see."""
    if as_json:
        print_json(schema, record)
        return
    chosen = only if only is not None else tuple(record)
    shown = {name: safe(record.get(name)) for name in chosen}
    width = max((len(name) for name, text in shown.items() if text), default=0)
    for name, text in shown.items():
        if text:
            print(f"{name.ljust(width)}  {text}")


def print_table(
    schema: str,
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    *,
    as_json: bool,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Many things, one per line."""
    if as_json:
        print_json(schema, {**(facts or {}), "items": list(rows)})
        return
    if not rows:
        print("nothing")
        return
    console = Console(
        highlight=False, markup=False, width=None if sys.stdout.isatty() else _WIDTH_UNKNOWN
    )
    names = [safe(_COLUMN_NAMES.get(name, name)) for name in columns]
    cells = [[safe(row.get(name)) for name in columns] for row in rows]
    widths = [max(map(len, column)) + 2 for column in zip(names, *cells, strict=True)]
    if sum(widths) > console.width and len(columns) > _COLUMNS_ALWAYS:
        _print_blocks(names, cells)
        return
    table = RichTable(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(name, overflow="fold")
    for line in cells:
        table.add_row(*line)
    console.print(table)


def _print_blocks(names: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    """Rows too wide for a table: one field per line, an empty line between rows."""
    width = max(map(len, names))
    for number, line in enumerate(cells):
        if number:
            print()
        for name, text in zip(names, line, strict=True):
            if text:
                print(f"{name.ljust(width)}  {text}")


def print_error(error: GatewayError, *, as_json: bool) -> None:
    """One line on stderr: what happened, then what to do; with `--json` one JSON object."""
    if as_json:
        document = {
            "schema": f"error/{SCHEMA_VERSION}",
            "code": error.code,
            "message": error.message,
            "advice": error.advice,
            "decision": error.decision,
            "exit_code": error.exit_code,
            "facts": error.facts,
        }
        sys.stderr.write(json.dumps(document, ensure_ascii=True, default=str) + "\n")
        return
    decision = f" ({error.decision})" if error.decision else ""
    sys.stderr.write(f"gateway: {safe(error.message)}{safe(decision)}; {safe(error.advice)}\n")


def note(text: str) -> None:
    """A remark for people, on stderr, so that stdout stays what was asked for."""
    sys.stderr.write(safe(text) + "\n")


@contextmanager
def progress_bar(*, is_shown: bool) -> Iterator[Callable[[str, float], None] | None]:
    """A progress bar on stderr, or nothing when it is not a terminal or not wanted."""
    if not is_shown or not sys.stderr.isatty():
        yield None
        return
    from rich.progress import Progress

    with Progress(console=Console(stderr=True, markup=False), transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda what, done: bar.update(task, description=safe(what), completed=done)
