"""What every object store checks before it does anything: names of objects, ranges."""

from __future__ import annotations

import re

from gateway.errors import InvalidInput

_PART = r"[a-z0-9][a-z0-9_-]*(?:\.[a-z0-9_-]+)*"
_KEY = re.compile(rf"{_PART}(?:/{_PART}){{0,7}}\Z")
_KEY_CHARS_MAX = 255


def check_key(key: str) -> str:
    """The key itself; InvalidInput unless it can name an object in every store."""
    if len(key) > _KEY_CHARS_MAX or not _KEY.match(key):
        raise InvalidInput(f"`{key[:80]}` cannot name an object")
    return key


def check_range(start: int, length: int | None) -> None:
    """InvalidInput for negative numbers."""
    if start < 0 or (length is not None and length < 0):
        raise InvalidInput("a range has no negative numbers")
