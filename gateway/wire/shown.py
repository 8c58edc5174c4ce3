"""Text of others, as it may be shown: in a terminal, a picture, a report. Pure."""

from __future__ import annotations

import unicodedata

CHARS_MAX = 120


def shown(text: object, chars_max: int = CHARS_MAX) -> str:
    """`text` without anything a terminal or a reader could be fooled by, and not too long."""
    clean = "".join(
        char if unicodedata.category(char)[0] not in "CZ" or char == " " else "\ufffd"
        for char in str(text)
    )
    return clean if len(clean) <= chars_max else f"{clean[: chars_max - 1]}…"
