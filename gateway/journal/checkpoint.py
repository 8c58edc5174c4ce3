"""LogCheckpoint: the signed statement "so many events, this root" (C2SP tlog-checkpoint).

Text: origin, size in decimal, root in base64, each on its line; signed as a C2SP note by the
log key under the origin as name. No extension lines.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from gateway.crypto.notes import sign_note, verify_note
from gateway.crypto.signing import Signer
from gateway.domain.merkle import HASH_BYTES
from gateway.errors import IntegrityError

PRODUCT = "dataset-gateway"


def origin_of(node: str) -> str:
    """The origin line and key name of a node's log."""
    return f"{PRODUCT}/{node}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogCheckpoint:
    """Size and root of one log."""

    origin: str
    size: int  # events
    root: bytes  # RFC 6962 root of that many leaves

    @property
    def text(self) -> str:
        """What is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode('ascii')}\n"

    def signed(self, signer: Signer) -> str:
        """The note."""
        return sign_note(signer, self.origin, self.text)


def open_checkpoint(note: str, log_key: bytes, origin: str) -> LogCheckpoint:
    """Verify a note and read it; raises IntegrityError.

    Args:
        note: the signed note.
        log_key: 32-byte Ed25519 public key of the log.
        origin: whose log it must be.
    """
    lines = verify_note(note, log_key, origin).split("\n")
    if len(lines) != 4 or lines[0] != origin or lines[3]:  # noqa: PLR2004
        raise IntegrityError("a LogCheckpoint has another shape or another origin")
    try:
        root = base64.b64decode(lines[2], validate=True)
        found = LogCheckpoint(origin=origin, size=int(lines[1]), root=root)
    except (ValueError, binascii.Error) as cause:
        raise IntegrityError("a LogCheckpoint cannot be read") from cause
    if len(root) != HASH_BYTES or found.text.split("\n") != lines:
        raise IntegrityError("a LogCheckpoint is not in its one spelling")
    return found


def parse_checkpoint(note: str) -> tuple[int, bytes]:
    """Size and root of a note that is trusted already (our own); IntegrityError if malformed."""
    lines = note.split("\n")
    try:
        return int(lines[1]), base64.b64decode(lines[2], validate=True)
    except (IndexError, ValueError, binascii.Error) as cause:
        raise IntegrityError("a LogCheckpoint cannot be read") from cause


def find_beyond(data: bytes, log_key: bytes, origin: str, size: int) -> LogCheckpoint | None:
    """The first authentic LogCheckpoint of more than `size` events anywhere in raw bytes.

    Its presence behind a damaged place proves that what is damaged had been acknowledged.
    """
    needle, at = origin.encode("ascii") + b"\n", -1
    while (at := data.find(needle, at + 1)) >= 0:
        gap = data.find(b"\n\n", at)
        end = data.find(b"\n", gap + 2) if gap >= 0 else -1
        if end < 0:
            return None
        try:
            found = open_checkpoint(data[at : end + 1].decode("utf-8"), log_key, origin)
        except (IntegrityError, UnicodeDecodeError):
            continue
        if found.size > size:
            return found
    return None
