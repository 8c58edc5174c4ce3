"""Seal bytes under a key and a place; derive, commit and tag. AES-256-GCM and HKDF-SHA256.

Every sealed thing is bound to where it belongs by its associated data, made by `bound`: moved
to another place it does not open. Layout of sealed bytes: nonce 12 | ciphertext | tag 16.
The nonce is random, so one key seals at most 2^32 things (NIST SP 800-38D §8.3); keys that
could come near that are derived per place first.
"""

from __future__ import annotations

import hashlib
import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from gateway.errors import IntegrityError, InvalidInput

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
_MAGIC = b"gateway/v0\x00"
Part = str | int | bytes


def bound(label: str, *parts: Part) -> bytes:
    r"""Canonical associated data: no two different argument lists give the same bytes.

    `gateway/v0\\0`, then for the label and each part: one kind byte (`s` text, `i` integer,
    `b` bytes), its length as 4 bytes big endian, its bytes (UTF-8; decimal ASCII; as they are).

    Raises:
        InvalidInput: a part is of another type (a bool too), or text that has no UTF-8.
    """
    return _MAGIC + b"".join(_item(part) for part in (label, *parts))


def bound_further(start: bytes, *parts: Part) -> bytes:
    """`bound` of the parts that made `start`, and of these: for many places that begin alike."""
    return start + b"".join(map(_item, parts))


def _item(part: Part) -> bytes:
    if isinstance(part, str):
        try:
            kind, data = b"s", part.encode("utf-8")
        except UnicodeEncodeError as cause:
            raise InvalidInput("text with a lone surrogate cannot be bound") from cause
    elif isinstance(part, bytes):
        kind, data = b"b", part
    elif isinstance(part, int) and not isinstance(part, bool):
        kind, data = b"i", b"%d" % part
    else:
        raise InvalidInput(f"`{type(part).__name__}` cannot be bound")
    return kind + len(data).to_bytes(4, "big") + data


def seal(key: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """Encrypt under a fresh random nonce: nonce 12 | ciphertext | tag 16."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + _cipher(key).encrypt(nonce, plaintext, aad)


def unseal(key: bytes, sealed: bytes, aad: bytes) -> bytes:
    """Undo `seal`. Raises IntegrityError for any other key, place or byte."""
    if len(sealed) < NONCE_BYTES + TAG_BYTES:
        raise IntegrityError("sealed bytes are too short")
    try:
        return _cipher(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], aad)
    except InvalidTag as cause:
        raise IntegrityError("sealed bytes do not open under this key at this place") from cause


def derive(key: bytes, label: str, *parts: Part) -> bytes:
    """A 32-byte key for one purpose: HKDF-Expand-SHA256 of a uniform 32-byte key.

    The extract step is absent on purpose: our keys are uniform already (RFC 5869 §3.3).
    """
    return _expand(key, bound("derive", label, *parts))


def commitment(key: bytes, label: str = "commit") -> str:
    """64 hex characters that fix which key it is and say nothing about it.

    AES-GCM alone does not: a ciphertext can be made that opens under two keys.
    """
    return _expand(key, bound("commitment", label)).hex()


def tag(key: bytes, *parts: Part) -> str:
    """A keyed pseudonym of the parts: 32 hex characters of HMAC-SHA256."""
    _check(key)
    return hmac.new(key, bound("tag", *parts), hashlib.sha256).hexdigest()[:32]


def _expand(key: bytes, info: bytes) -> bytes:
    _check(key)
    return HKDFExpand(algorithm=SHA256(), length=KEY_BYTES, info=info).derive(key)


def _cipher(key: bytes) -> AESGCM:
    _check(key)
    return AESGCM(key)


def _check(key: bytes) -> None:
    if len(key) != KEY_BYTES:
        raise InvalidInput(f"a key has {KEY_BYTES} bytes, not {len(key)}")
