"""The seal of the projection file: was it last written by us, and up to which event?

DuckDB changes its main file only at a checkpoint, and checkpoints happen only when we say so
(`projection.py`). After each one the file is hashed and the hash is sealed under a key that
control sends at start. A file whose seal does not hold is rebuilt from the journal, so an
edited, rolled-back-by-parts or corrupt file is never answered from. The write-ahead log is
never trusted at start: it is dropped, and the journal supplies what it held.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from gateway.errors import IntegrityError

_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """What a sealed file is worth."""

    format: int  # schema.FORMAT it was written with
    projected: int  # number of journal events in it
    leaf: str  # hex leaf hash of the last of them; '' when none
    file: str  # SHA-256 hex of the whole file


def file_digest(descriptor: int) -> str:
    """SHA-256 hex of an open file.

    It reads through a descriptor that stays open: closing any descriptor of a file drops the
    POSIX lock that DuckDB holds on it in the same process.
    """
    digest, offset = hashlib.sha256(), 0
    while chunk := os.pread(descriptor, _READ_BYTES, offset):
        digest.update(chunk)
        offset += len(chunk)
    return digest.hexdigest()


def write(path: Path, seal: Seal, key: bytes) -> None:
    """Replace the seal at `path` durably."""
    body = asdict(seal)
    text = json.dumps({**body, "mac": _mac(body, key)}, sort_keys=True)
    temporary = path.with_suffix(".new")
    with temporary.open("w", encoding="ascii") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read(path: Path, key: bytes) -> Seal:
    """Read the seal at `path`.

    Raises:
        IntegrityError: there is none, or it was not made with `key`.
    """
    try:
        body = json.loads(path.read_text("ascii"))
        mac = body.pop("mac")
        seal = Seal(**body)
        genuine = hmac.compare_digest(mac, _mac(body, key))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as cause:
        raise IntegrityError("the lineage projection has no readable seal") from cause
    if not genuine:
        raise IntegrityError("the seal of the lineage projection is not ours")
    return seal


def _mac(body: dict[str, object], key: bytes) -> str:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hmac.new(key, b"gateway lineage seal v0\0" + text.encode(), "sha256").hexdigest()
