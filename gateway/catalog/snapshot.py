"""Sealed, signed snapshots of the catalogue, so that a start replays only what came after.

A snapshot is a cache and never an authority: whatever is wrong with it, `load` answers None
and the catalogue is rebuilt from the journal. It names the LogCheckpoint it was taken at; the
journal refuses to continue from one whose root it does not have (restore.py). Format:
docs/formats/catalog-snapshot-v0.md.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway import failpoints
from gateway.catalog.catalog import Catalog
from gateway.catalog.codec import decode, encode
from gateway.catalog.state import State
from gateway.crypto.envelope import bound, seal, unseal
from gateway.crypto.notes import verify_note
from gateway.crypto.signing import Signer, verify
from gateway.errors import GatewayError, IntegrityError
from gateway.journal.checkpoint import parse_checkpoint

MAGIC = b"gateway-catalog-snapshot/v0.1\n"
FILE_NAME = "catalog"
_SIGNATURE_BYTES = 64
_NOTE_BYTES_MAX = 4096
_STATE_BYTES_MAX = 4 << 30


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A catalogue and the root of the journal that it was folded from."""

    catalog: Catalog
    root: bytes


def save(
    catalog: Catalog, directory: Path, journal_checkpoint: str, key: bytes, signer: Signer
) -> bool:
    """Write the snapshot durably, in place of the last one.

    Args:
        catalog: at rest: nothing may be appended meanwhile.
        directory: created 0700 when missing.
        journal_checkpoint: the journal's newest LogCheckpoint.
        key: 32 bytes, kept in the vault.
        signer: the log key.

    Returns:
        False when the catalogue is not exactly as old as the LogCheckpoint (events are in
        flight); nothing was written.
    """
    size, _ = parse_checkpoint(journal_checkpoint)
    if size != catalog.index:
        return False
    note = journal_checkpoint.encode("utf-8")
    plain = zlib.compress(json.dumps(encode(State, catalog.state)).encode("utf-8"), 1)
    head = MAGIC + len(note).to_bytes(4, "big") + note
    body = head + seal(key, plain, bound("catalog-snapshot", head))
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _replace(directory / FILE_NAME, body + signer.sign(b"catalog-snapshot\n" + body))
    return True


def load(directory: Path, key: bytes, log_key: bytes) -> Catalog | None:
    """The catalogue of the snapshot, or None: rebuild it from the journal."""
    found = load_snapshot(directory, key, log_key)
    return found.catalog if found else None


def load_snapshot(directory: Path, key: bytes, log_key: bytes) -> Snapshot | None:
    """As `load`, with the root that the journal must have at that size."""
    try:
        return _open((directory / FILE_NAME).read_bytes(), key, log_key)
    except (GatewayError, OSError, ValueError, TypeError, LookupError, zlib.error):
        return None


def discard(directory: Path) -> None:
    """Remove the snapshot (it belongs to another history, or something in it was erased)."""
    with contextlib.suppress(FileNotFoundError):
        (directory / FILE_NAME).unlink()


def _open(data: bytes, key: bytes, log_key: bytes) -> Snapshot:
    body, signature = data[:-_SIGNATURE_BYTES], data[-_SIGNATURE_BYTES:]
    verify(log_key, "log", b"catalog-snapshot\n" + body, signature)
    start = len(MAGIC) + 4
    length = int.from_bytes(body[len(MAGIC) : start], "big")
    if not body.startswith(MAGIC) or length > _NOTE_BYTES_MAX:
        raise IntegrityError("a snapshot of another format")
    head = body[: start + length]
    note = head[start:].decode("utf-8")
    verify_note(note, log_key, note.partition("\n")[0])
    size, root = parse_checkpoint(note)
    plain = unseal(key, body[len(head) :], bound("catalog-snapshot", head))
    state = decode(State, _json(plain))
    if state.index != size:
        raise IntegrityError("a snapshot of another size than it says")
    return Snapshot(Catalog(state), root)


def _json(plain: bytes) -> Any:
    unpacker = zlib.decompressobj()
    text = unpacker.decompress(plain, _STATE_BYTES_MAX)
    if unpacker.unconsumed_tail or not unpacker.eof:
        raise IntegrityError("a snapshot is too large")
    return json.loads(text)


def _replace(path: Path, data: bytes) -> None:
    """The old file or the whole new one, whatever happens."""
    temporary = path.with_suffix(".new")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        failpoints.reach("disk.snapshot")
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
