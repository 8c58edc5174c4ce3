"""Sealed, signed snapshots of the catalogue, so that a start replays only what came after.

A snapshot is a cache and never an authority: whatever is wrong with it, `load` answers None
and the catalogue is rebuilt from the journal. One is more than that: `base`, kept when a month
expires, because the details of what is older cannot be read again (services/retention.py). It
names the LogCheckpoint it was taken at and holds what the journal needs to go on from there
without reading what came before; the journal refuses to go on from one that does not fit
(restore.py). Format: docs/formats/catalog-snapshot-v0.md.
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
from gateway.journal.memory import Memory

MAGIC = b"gateway-catalog-snapshot/v0.2\n"
FILE_NAME = "catalog"
BASE_NAME = "base"
NAMES = (FILE_NAME, BASE_NAME)  # in the order in which a start tries them
_SIGNATURE_BYTES = 64
_NOTE_BYTES_MAX = 4096
_STATE_BYTES_MAX = 4 << 30


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A catalogue and the journal that it was folded from."""

    catalog: Catalog
    memory: Memory


def save(
    state: State,
    memory: Memory,
    directory: Path,
    key: bytes,
    signer: Signer,
    names: tuple[str, ...] = (FILE_NAME,),
) -> None:
    """Write the snapshot durably, in place of the last one.

    Args:
        state: of the catalogue; nobody changes it meanwhile.
        memory: of the journal, of the same moment (`Journal.remember`).
        directory: created 0700 when missing.
        key: 32 bytes, kept in the vault.
        signer: the log key.
        names: of the files, in the order in which they are replaced.
    """
    if memory.size != state.index:
        raise IntegrityError("a catalogue and a journal of two moments make no snapshot")
    note = memory.note.encode("utf-8")
    value = [encode(State, state), encode(Memory, memory)]
    plain = zlib.compress(json.dumps(value, separators=(",", ":")).encode("utf-8"), 1)
    head = MAGIC + len(note).to_bytes(4, "big") + note
    body = head + seal(key, plain, bound("catalog-snapshot", head))
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in names:
        _replace(directory / name, body + signer.sign(b"catalog-snapshot\n" + body))


def load(directory: Path, key: bytes, log_key: bytes, name: str = FILE_NAME) -> Snapshot | None:
    """The snapshot, or None: rebuild the catalogue from the journal."""
    try:
        return _open((directory / name).read_bytes(), key, log_key)
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
    plain = unseal(key, body[len(head) :], bound("catalog-snapshot", head))
    first, second = _json(plain)
    state, memory = decode(State, first), decode(Memory, second)
    if memory.note != note or state.index != memory.size:
        raise IntegrityError("a snapshot of another moment than it says")
    return Snapshot(Catalog(state), memory)


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
