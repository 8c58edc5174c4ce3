"""The key file of `--decrypt-with` (docs/formats/decryption-keys-v1.md)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.crypto.private_files import read_private
from gateway.errors import InvalidInput
from gateway.wire import codec

FORMAT = "gateway-decryption-keys/v1"
_BYTES_MAX = 16 << 20
_KEY_BYTES = (16, 24, 32)
_MEMBERS = {"format", "footer_key", "column_keys", "aad_prefix"}
_PAGE = "docs/formats/decryption-keys-v1.md says how it is written"


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Keys of encrypted Parquet files, as those who wrote them gave them out."""

    footer: bytes = field(repr=False)
    columns: Mapping[str, bytes] = field(default_factory=dict, repr=False)  # path of a leaf -> key
    aad_prefix: bytes | None = field(default=None, repr=False)


def read_keys(path: Path) -> Keys:
    """Read a key file.

    Raises:
        NotFound: there is none.
        ConfigError: others can read it.
        InvalidInput: it is not one; the message shows nothing of a key.
    """
    raw = read_private(path, bytes_max=_BYTES_MAX)
    try:
        value = codec.loads(raw)
    except (ValueError, InvalidInput) as cause:
        raise _wrong(path, "it is not JSON") from cause
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise _wrong(path, f"its `format` is not `{FORMAT}`")
    if unknown := sorted(set(value) - _MEMBERS):
        raise _wrong(path, f"it has a member `{unknown[0][:80]}`")
    columns = value.get("column_keys", {})
    if not isinstance(columns, dict):
        raise _wrong(path, "`column_keys` is not an object")
    prefix = value.get("aad_prefix")
    return Keys(
        footer=_key(path, "footer_key", value.get("footer_key")),
        columns={name: _key(path, f"column_keys.{name}", key) for name, key in columns.items()},
        aad_prefix=None if prefix is None else _binary(path, "aad_prefix", prefix),
    )


def _key(path: Path, name: str, given: Any) -> bytes:
    key = _binary(path, name, given)
    if len(key) not in _KEY_BYTES:
        raise _wrong(path, f"`{name}` has {len(key)} bytes, not 16, 24 or 32")
    return key


def _binary(path: Path, name: str, given: Any) -> bytes:
    try:
        return base64.b64decode(given, validate=True)
    except (TypeError, ValueError, binascii.Error) as cause:
        raise _wrong(path, f"`{name}` is not base64") from cause


def _wrong(path: Path, why: str) -> InvalidInput:
    return InvalidInput(f"`{path}` is no file of decryption keys: {why}", advice=_PAGE)
