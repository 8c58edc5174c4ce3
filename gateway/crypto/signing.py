r"""Ed25519 signatures with one key per use, signed documents and C2SP signed notes.

A signature of one use never verifies for another: what is signed starts with
`\\0dataset-gateway/v0 <use>\\0`. Three exceptions are fixed by their specifications and cannot be
confused with it, because their text holds no NUL: notes (C2SP signed-note, use `log`),
tokens (RFC 7515, use `token`) and attestations (DSSE, use `attestation`).
Verifying raises; it never answers False.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from gateway.crypto import private_files, strict_json
from gateway.crypto.strict_json import b64, unb64
from gateway.errors import ConfigError, Conflict, IntegrityError, InvalidInput, NotFound

USES = ("log", "manifest", "token", "view", "attestation", "erasure")
_TEXT_USES = frozenset({"log", "token", "attestation"})  # formats that others fixed
_KEY_FORMAT = "signing-key-v0"
_DOCUMENT_BYTES_MAX = 64 << 20
_SIGNATURE_BYTES = 64


class Signer:
    """A private Ed25519 key for one use."""

    __slots__ = ("_private", "key_id", "public_key", "use")

    def __init__(self, seed: bytes, use: str) -> None:
        """Make one of a 32-byte seed; InvalidInput for an unknown use or another length."""
        if use not in USES:
            raise InvalidInput(f"`{use}` is not a use of a signing key")
        if len(seed) != 32:  # noqa: PLR2004
            raise InvalidInput("the seed of an Ed25519 key has 32 bytes")
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.use = use
        self.public_key: bytes = self._private.public_key().public_bytes_raw()
        self.key_id = key_id_of(self.public_key, use)

    def sign(self, payload: bytes) -> bytes:
        """64 bytes over the use's prefix and the payload."""
        return self._private.sign(_prefix(self.use) + payload)

    def sign_text(self, text: bytes) -> bytes:
        """64 bytes over the text alone, for what _TEXT_USES sign; it must hold no NUL byte."""
        if self.use not in _TEXT_USES or b"\x00" in text:
            raise InvalidInput(f"a `{self.use}` key does not sign text without its prefix")
        return self._private.sign(text)

    def __repr__(self) -> str:
        return f"Signer({self.key_id})"


def key_id_of(public_key: bytes, use: str) -> str:
    """`<use>-` and 16 hex characters of the SHA-256 of the 32-byte public key."""
    return f"{use}-{hashlib.sha256(public_key).hexdigest()[:16]}"


def load_or_create(path: Path, use: str) -> Signer:
    """Read the key file, or make it (0600) when there is none.

    Raises:
        ConfigError: the file can be reached by others, is damaged, or is of another use.
    """
    private_files.make_private_dir(path.parent)
    try:
        return _load(path, use)
    except NotFound:
        seed = Ed25519PrivateKey.generate().private_bytes_raw()
        fields = {"format": _KEY_FORMAT, "use": use, "private_key": b64(seed)}
        try:
            private_files.create_private(path, strict_json.encode(fields))
        except Conflict:  # another process was first: its key counts
            return _load(path, use)
        return Signer(seed, use)


def prepare(path: Path, use: str) -> Signer:
    """Make the key that will follow the one at `path`, durably, in a file beside it."""
    seed = Ed25519PrivateKey.generate().private_bytes_raw()
    fields = {"format": _KEY_FORMAT, "use": use, "private_key": b64(seed)}
    private_files.replace_private(_next(path), strict_json.encode(fields))
    return Signer(seed, use)


def prepared(path: Path, use: str) -> Signer | None:
    """The key that `prepare` made and nobody took or dropped yet."""
    try:
        return _load(_next(path), use)
    except NotFound:
        return None


def take_prepared(path: Path) -> None:
    """The prepared key is the one at `path` from now on; the old one is gone."""
    private_files.replace_private(path, private_files.read_private(_next(path)))
    private_files.remove_durably(_next(path))


def drop_prepared(path: Path) -> None:
    """Forget a prepared key that never came to sign."""
    private_files.remove_durably(_next(path))


def _next(path: Path) -> Path:
    return path.with_suffix(f".next{path.suffix}")


def _load(path: Path, use: str) -> Signer:
    try:
        fields = strict_json.decode(private_files.read_private(path), bytes_max=4096)
        if fields["format"] != _KEY_FORMAT or fields["use"] != use:
            raise ConfigError(f"`{path}` is not a signing key for `{use}`")
        return Signer(_unb64(fields["private_key"]), use)
    except (ValueError, KeyError, TypeError, InvalidInput, IntegrityError) as cause:
        raise ConfigError(f"`{path}` is not a readable signing key") from cause


def verify(public_key: bytes, use: str, payload: bytes, signature: bytes) -> None:
    """Raise IntegrityError unless `Signer.sign` of that key and use made the signature."""
    _verify(public_key, _prefix(use) + payload, signature)


def verify_text(public_key: bytes, text: bytes, signature: bytes) -> None:
    """Raise IntegrityError unless `Signer.sign_text` of that key made the signature."""
    if b"\x00" in text:
        raise IntegrityError("signed text holds a NUL byte")
    _verify(public_key, text, signature)


def _verify(public_key: bytes, message: bytes, signature: bytes) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError) as cause:
        raise IntegrityError("a signature does not hold") from cause


def _prefix(use: str) -> bytes:
    return b"\x00dataset-gateway/v0 " + use.encode("ascii") + b"\x00"


def sign_document(signer: Signer, value: Mapping[str, Any]) -> dict[str, str]:
    """Sign canonical JSON: `{"payload": base64, "signature": base64, "key_id": …}`."""
    payload = strict_json.encode(value)
    return {
        "payload": b64(payload),
        "signature": b64(signer.sign(payload)),
        "key_id": signer.key_id,
    }


def open_document(document: Mapping[str, Any], public_key: bytes, use: str) -> dict[str, Any]:
    """Verify what `sign_document` made and return the value.

    Raises:
        IntegrityError: other members, another key, a wrong signature, or bytes that are not
            the canonical form of what they say.
    """
    if set(document) != {"payload", "signature", "key_id"}:
        raise IntegrityError("a signed document has other members than expected")
    if document["key_id"] != key_id_of(public_key, use):
        raise IntegrityError("a document is signed by another key")
    payload = _unb64(document["payload"])
    verify(public_key, use, payload, _unb64(document["signature"]))
    try:
        value = strict_json.decode(payload, bytes_max=_DOCUMENT_BYTES_MAX)
    except strict_json.NotStrictJson as cause:
        raise IntegrityError("a signed document cannot be read") from cause
    if strict_json.encode(value) != payload:
        raise IntegrityError("a signed document is not in canonical form")
    return value


def _unb64(text: Any) -> bytes:
    try:
        data = unb64(text)
    except (binascii.Error, TypeError, ValueError) as cause:
        raise IntegrityError("a member is not base64") from cause
    if base64.b64encode(data) != (text.encode("ascii") if isinstance(text, str) else text):
        raise IntegrityError("a member is not canonical base64")
    return data
