"""What is kept of a column's metadata beside its type: a few texts that describe it.

By allow-list, since everything else in a file's metadata may quote values and would have to be
trusted by every reader. It stands in the Manifest and goes to those who see the column.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from gateway.errors import IntegrityError

KEYS = frozenset(
    ("comment", "description", "label", "long_name", "standard_name", "title", "unit", "units")
)  # at most 16 (docs/reference/types.md)
TENSOR = "ARROW:extension:metadata"  # shape, axis names and permutation of a fixed_shape_tensor
TEXT_BYTES_MAX = 1 << 10
TOTAL_BYTES_MAX = 1 << 20  # of all columns of a version
_TENSOR_BYTES_MAX = 16 << 10  # 32 axes with names
_FIELD = re.compile(r"[1-9][0-9]{0,8}\Z")

FieldMetadata = Mapping[str, str]


def kept(found: Mapping[bytes, bytes] | None) -> dict[str, str]:
    """The texts to keep of an Arrow field's metadata; what is no short, plain text is dropped."""
    texts: dict[str, str] = {}
    for key, value in (found or {}).items():
        name = key.decode("ascii", "replace")
        if name in KEYS and len(value) <= TEXT_BYTES_MAX:
            text = value.decode("utf-8", "replace")
            if text and _is_plain(text):
                texts[name] = text
    return texts


def _is_plain(text: str) -> bool:
    """Whether it shows all that it says: no controls, no marks that turn or hide text."""
    return text.replace("\n", " ").isprintable() and "\N{REPLACEMENT CHARACTER}" not in text


def check(metadata: Mapping[str, FieldMetadata]) -> None:
    """Raise IntegrityError unless it is what `kept` gives, by field id (and tensors' shapes)."""
    total = 0
    for field_id, texts in metadata.items():
        sound = bool(_FIELD.match(field_id)) and isinstance(texts, dict) and bool(texts)
        if not sound or not all(_is_sound(key, text) for key, text in texts.items()):
            raise IntegrityError("the metadata of a column is not what may be kept")
        total += sum(len(text.encode()) for text in texts.values())
    if total > TOTAL_BYTES_MAX:
        raise IntegrityError("the metadata of the columns is longer than may be kept")


def _is_sound(key: str, text: object) -> bool:
    if not isinstance(text, str) or not _is_plain(text):
        return False
    if key == TENSOR:
        return len(text) <= _TENSOR_BYTES_MAX
    return key in KEYS and 0 < len(text.encode()) <= TEXT_BYTES_MAX
