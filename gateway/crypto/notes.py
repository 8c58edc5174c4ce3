"""C2SP signed notes: the form in which a LogCheckpoint is signed, pinned and witnessed.

Follows c2sp.org/signed-note: text that ends in a newline, a blank line, then lines
`— <name> <base64(4-byte key hash | signature)>`. Signature type 0x01 (Ed25519 over the text).
A witness signs with type 0x04 (c2sp.org/tlog-cosignature, v1): eight bytes of time, then
Ed25519 over that time and the text; it says that this is the largest tree it has seen.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

from gateway.crypto.signing import Signer, verify_text
from gateway.errors import IntegrityError, InvalidInput

NOTE_BYTES_MAX = 64 << 10
SIGNATURES_MAX = 16
_ED25519 = b"\x01"
_COSIGNATURE = b"\x04"
_TIME_BYTES = 8
_NAME = re.compile(r"[^\s+\x00-\x20\x7f]{1,128}\Z")
_LINE = re.compile(r"\u2014 ([^\s+]{1,128}) ([A-Za-z0-9+/]+={0,2})\Z")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ufffd]")


def sign_note(signer: Signer, name: str, text: str) -> str:
    """The note with one signature by a `log` key.

    Raises:
        InvalidInput: the text does not end in a newline, holds control characters or a
            signature line of its own, or the name holds spaces or `+`.
    """
    if signer.use != "log" or not _NAME.match(name):
        raise InvalidInput(f"`{name[:80]}` with a `{signer.use}` key cannot sign a note")
    if not _is_text(text):
        raise InvalidInput("the text of a note ends in one newline and has no control characters")
    signature = signer.sign_text(text.encode("utf-8"))
    sealed = base64.b64encode(_key_hash(name, signer.public_key) + signature).decode("ascii")
    return f"{text}\n\u2014 {name} {sealed}\n"


def verify_note(note: str, public_key: bytes, name: str) -> str:
    """The signed text, when `name` with this key signed it. Other signers' lines are ignored.

    Raises:
        IntegrityError: malformed, not signed by this name and key, or a wrong signature.
    """
    text, lines = _split(note)
    expected = _key_hash(name, public_key)
    ours = [s for n, s in lines if n == name and s[:4] == expected]
    if len(ours) != 1:
        raise IntegrityError(f"the note carries {len(ours)} signatures of the expected key")
    verify_text(public_key, text.encode("utf-8"), ours[0][4:])
    return text


def verify_cosignature(note: str, public_key: bytes, name: str) -> tuple[str, int]:
    """The line and the Unix second of a witness's cosignature; others' lines are ignored.

    Raises:
        IntegrityError: malformed, not cosigned by this name and key, or a wrong signature.
    """
    text, lines = _split(note)
    expected = _key_hash(name, public_key, _COSIGNATURE)
    for found, blob in lines:
        if found == name and blob[:4] == expected:
            moment = int.from_bytes(blob[4 : 4 + _TIME_BYTES], "big")
            signed = f"cosignature/v1\ntime {moment}\n{text}".encode()
            verify_text(public_key, signed, blob[4 + _TIME_BYTES :])
            return f"\u2014 {name} {base64.b64encode(blob).decode('ascii')}\n", moment
    raise IntegrityError(f"`{name}` did not cosign the LogCheckpoint")


def verifier_key(name: str, public_key: bytes) -> str:
    """The public key as a `vkey` line, to pin: `name+hash+base64`."""
    if not _NAME.match(name):
        raise InvalidInput(f"`{name[:80]}` cannot name a key")
    key = base64.b64encode(_ED25519 + public_key).decode("ascii")
    return f"{name}+{_key_hash(name, public_key).hex()}+{key}"


def parse_witness_key(text: str) -> tuple[str, bytes]:
    """The same for the key of a witness (type 0x04)."""
    return _parsed_key(text, _COSIGNATURE)


def parse_verifier_key(text: str) -> tuple[str, bytes]:
    """Name and 32-byte public key of a `vkey` line; InvalidInput when it is none."""
    return _parsed_key(text, _ED25519)


def _parsed_key(text: str, kind: bytes) -> tuple[str, bytes]:
    name, _, rest = text.strip().partition("+")
    digest, _, encoded = rest.partition("+")
    try:
        key = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as cause:
        raise InvalidInput("not a verifier key") from cause
    is_key = len(key) == 33 and key[:1] == kind  # noqa: PLR2004 - kind and Ed25519
    if not _NAME.match(name) or not is_key or _key_hash(name, key[1:], kind).hex() != digest:
        what = "an Ed25519 verifier key" if kind == _ED25519 else "the key of an Ed25519 witness"
        raise InvalidInput(f"not {what}", advice="copy the whole line")
    return name, key[1:]


def _split(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    if len(note) > NOTE_BYTES_MAX:
        raise IntegrityError("a note is too long")
    text, gap, tail = note.rpartition("\n\n")
    text += "\n"
    if not gap or not tail.endswith("\n") or not _is_text(text):
        raise IntegrityError("a note is malformed")
    found: list[tuple[str, bytes]] = []
    for line in tail[:-1].split("\n"):
        match = _LINE.match(line)
        if not match or len(found) == SIGNATURES_MAX:
            raise IntegrityError("a signature line of a note is malformed")
        found.append((match[1], _blob(match[2])))
    return text, found


def _blob(encoded: str) -> bytes:
    try:
        blob = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as cause:
        raise IntegrityError("a signature of a note is not base64") from cause
    if len(blob) <= 4 or base64.b64encode(blob).decode("ascii") != encoded:  # noqa: PLR2004
        raise IntegrityError("a signature of a note is malformed")
    return blob


def _is_text(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return text.endswith("\n") and text != "\n" and not _CONTROL.search(text)


def _key_hash(name: str, public_key: bytes, kind: bytes = _ED25519) -> bytes:
    return hashlib.sha256(name.encode("utf-8") + b"\n" + kind + public_key).digest()[:4]
