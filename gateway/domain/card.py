"""The card of a dataset: what the data is about, for people who look for it. Bounded, free keys.

A card belongs to the dataset. The keys of the template have a type; any other key may hold any
JSON value. No decision rests on a card.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gateway.errors import InvalidInput, TooLarge

CARD_BYTES_MAX = 64 << 10
CARD_DEPTH_MAX = 4
KEY_CHARS_MAX = 64
_TEXTS = ("title", "description", "owner", "contact", "licence", "collected_from",
          "collected_until", "legal_basis", "retention")  # fmt: skip
_LISTS = ("source", "known_biases", "derived_from")  # one text, or a list of texts
_SCALARS = (str, int, float, bool, type(None))


def check_card(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return the card as plain JSON values, without what the template leaves empty.

    Raises:
        InvalidInput: a key or a value is not one that a card can hold.
        TooLarge: over CARD_BYTES_MAX as JSON.
    """
    card = {key: item for key, item in value.items() if item not in ("", None)}
    for key, item in card.items():
        _check_key(key)
        _check_value(key, item, CARD_DEPTH_MAX)
    for key in (*_TEXTS, *_LISTS):
        _check_typed(key, card.get(key))
    try:
        size = len(json.dumps(card, allow_nan=False, ensure_ascii=False).encode("utf-8"))
    except ValueError as cause:
        raise InvalidInput("the card holds a value that is no JSON") from cause
    if size > CARD_BYTES_MAX:
        raise TooLarge(f"the card has {size} bytes, at most {CARD_BYTES_MAX} are kept")
    return card


def texts_of(value: Any) -> str:
    """Every key and text of a card in lower case, for a search."""
    if isinstance(value, Mapping):
        return "\n".join(f"{str(key).lower()}\n{texts_of(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return "\n".join(map(texts_of, value))
    return "" if value is None else str(value).lower()


def _check_key(key: object) -> None:
    if not isinstance(key, str) or not 0 < len(key) <= KEY_CHARS_MAX or not key.isprintable():
        raise InvalidInput(
            f"`{str(key)[:80]}` is not a key of a card",
            advice=f"use 1 to {KEY_CHARS_MAX} printable characters",
        )


def _check_value(key: str, value: object, depth: int) -> None:
    if isinstance(value, _SCALARS):
        return
    if depth <= 0 or not isinstance(value, (Mapping, list, tuple)):
        raise InvalidInput(
            f"`{key[:80]}` of the card cannot be kept",
            advice=f"use text, numbers, lists and tables, nested at most {CARD_DEPTH_MAX} deep",
        )
    if isinstance(value, Mapping):
        for inner in value:
            _check_key(inner)
    for item in value.values() if isinstance(value, Mapping) else value:
        _check_value(key, item, depth - 1)


def _check_typed(key: str, value: object) -> None:
    if value is None or isinstance(value, str):
        return
    if (
        key in _LISTS
        and isinstance(value, (list, tuple))
        and all(isinstance(item, str) for item in value)
    ):
        return
    what = "text or a list of texts" if key in _LISTS else "text"
    raise InvalidInput(f"`{key}` of the card is not {what}", advice="see --card-template")
