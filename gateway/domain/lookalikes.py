"""Which column names people cannot tell apart, so that one file may not hold both.

Names may be any text; what they show decides. Two names look alike when they are the same
after Unicode's compatibility composition (NFKC), without characters that show nothing
(zero-width, direction marks, controls) or spaces, and with the letters of Greek and Cyrillic
that are drawn as Latin ones taken for those. Letter case, accents and digits count: tables for
learning do hold `x` beside `X`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

_CYRILLIC = "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u04bb\u051b\u051d\u0501"
_GREEK = "\u03b1\u03bf\u03bd\u03b9\u03c1\u03c5"
# Capitals are drawn alike by their own shapes: Greek nu is a Latin v when small, an N when not.
_CYRILLIC_CAPITALS = _CYRILLIC.upper() + "\u0412\u041a\u041c\u041d\u0422"
_GREEK_CAPITALS = (
    "\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7"
)
_DRAWN_AS_LATIN = str.maketrans(
    _CYRILLIC + _GREEK + _CYRILLIC_CAPITALS + _GREEK_CAPITALS,
    "aeopcyxijshqwd" + "aovipu" + "AEOPCYXIJSHQWD" + "BKMHT" + "ABEZHIKMNOPTYX",
)
_SHOW_NOTHING = {"Cc", "Cf", "Zl", "Zp", "Zs"}
# Letters and marks that Unicode draws as nothing: fillers, joiners, variation selectors.
_FILLERS = {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0} | {
    *range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)
}  # fmt: skip


def shown(name: str) -> str:
    """What a reader sees of a name; names with the same result look alike."""
    if name.isascii() and name.isprintable():
        return name.replace(" ", "")
    composed = unicodedata.normalize("NFKC", name)
    return "".join(filter(_is_seen, composed)).translate(_DRAWN_AS_LATIN)


def _is_seen(char: str) -> bool:
    return unicodedata.category(char) not in _SHOW_NOTHING and ord(char) not in _FILLERS


def escaped(text: str) -> str:
    r"""`text` in which what shows nothing (but a space) stands as `\\u{…}`."""
    return "".join(char if _is_plain(char) else f"\\u{{{ord(char):x}}}" for char in text)


def _is_plain(char: str) -> bool:
    return char == " " or (char.isprintable() and _is_seen(char))


def first_pair(names: Iterable[str]) -> tuple[str, str] | None:
    """The first two names that look alike, in their order; None when all differ."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(shown(name), name)
        if other is not name:
            return other, name
    return None
