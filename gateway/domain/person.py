"""The canonical form of a person's id: the same person, however a column or a caller writes it.

Two ways to write one id must give one tag, and two persons never the same; what a column of
persons may hold is therefore narrow: text, whole numbers, and identifiers of fixed length such
as UUIDs (docs/formats/person-index-v1.md section 1). An id never stands in a message.
"""

from __future__ import annotations

import re
import unicodedata

from gateway.errors import InvalidInput

ID_CHARS_MAX = 256
ID_BYTES_MAX = 4 * ID_CHARS_MAX
INTEGERS = frozenset(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
_FIXED = re.compile(r"fixed_size_binary\[([1-9][0-9]{0,2})\]\Z")
_INTEGER = re.compile(r"[+-]?[0-9]{1,40}\Z")


def fixed_bytes(column_type: str) -> int | None:
    """How many bytes an identifier of fixed length has; None when the type is none."""
    fits = _FIXED.match(column_type)
    return int(fits[1]) if fits and int(fits[1]) <= ID_BYTES_MAX // 2 else None


def holds_ids(column_type: str) -> bool:
    """Whether a column of this type can say whom a row is about."""
    is_text = column_type == "string" or column_type in INTEGERS
    return is_text or fixed_bytes(column_type) is not None


def text_id(text: str) -> str:
    """An id as text: Unicode NFC, nothing cut off; raises InvalidInput."""
    if not isinstance(text, str) or not 0 < len(text) <= ID_CHARS_MAX:
        raise InvalidInput(f"an id of a person has 1 to {ID_CHARS_MAX} characters")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as cause:
        raise InvalidInput("an id of a person is Unicode text") from cause
    return unicodedata.normalize("NFC", text)


def canonical_id(text: str, column_type: str) -> bytes:
    """The bytes that are tagged for an id that somebody wrote, in a column of this type.

    Raises:
        InvalidInput: no value of that column could be this id.
    """
    known = text_id(text)
    if column_type in INTEGERS:
        if not _INTEGER.match(known):
            raise InvalidInput("persons of this dataset have whole numbers as ids")
        return b"%d" % int(known)
    size = fixed_bytes(column_type)
    if size is not None:
        digits = known.replace("-", "").lower()
        if not re.fullmatch(rf"[0-9a-f]{{{2 * size}}}", digits):
            raise InvalidInput(f"persons of this dataset have {2 * size} hex digits as ids")
        return digits.encode()
    return known.encode()
