"""Directories that say a value: `region=eu/year=2024/part-0.parquet` (the layout of Hive)."""

from __future__ import annotations

from urllib.parse import unquote

from gateway.errors import InvalidInput


def partition_of(path: str) -> dict[str, str]:
    """The columns that a file's directories name; `path` is relative to the source's root.

    Raises:
        InvalidInput: one name stands twice, or is empty.
    """
    found: dict[str, str] = {}
    for directory in path.split("/")[:-1]:
        name, says, value = directory.partition("=")
        if not says:
            continue
        name = unquote(name)
        if not name or name in found:
            raise InvalidInput(
                f"`{path[:160]}` does not name each of its partitions once",
                advice="name the directories `column=value`",
            )
        found[name] = unquote(value)
    return found


def is_data(path: str) -> bool:
    """Whether a relative path is one of data: no part of it begins with `.` or `_`."""
    return not any(part.startswith((".", "_")) for part in path.split("/"))
