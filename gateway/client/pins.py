"""The largest LogCheckpoint that this account has seen of each gateway; an older log is refused.

One file per server in `pins/` of the state directory (0600, replaced whole). The first
LogCheckpoint of a server is believed, with the key that signed it, unless that key comes from
elsewhere (`lineage verify --log-key`); from then on every one has to be signed by that key and to
continue the pinned one, by a consistency proof (RFC 6962). So whoever rewrites history after an
answer was given is found out by who got the answer, without a witness.

The proof comes with the answer that is being checked: a pin costs no request. Where the
state directory cannot be written nothing is pinned, and `lineage verify` says `pinned: null`.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import gateway.wire as W
from gateway.crypto.notes import (
    parse_verifier_key,
    parse_witness_key,
    verifier_key,
    verify_cosignature,
    verify_note,
)
from gateway.crypto.private_files import make_private_dir, read_private, replace_private
from gateway.domain.merkle import HASH_BYTES, verify_consistency
from gateway.errors import (
    ConfigError,
    GatewayError,
    IntegrityError,
    InvalidInput,
    LogForked,
    NotFound,
    Unavailable,
)

FILE_BYTES_MAX = 128 << 10
LogKey = tuple[str, bytes]  # name and Ed25519 public key


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a LogCheckpoint states (c2sp.org/tlog-checkpoint)."""

    origin: str
    size: int
    root: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """The largest one seen of a server."""

    log_key: LogKey
    note: str
    size: int
    root: bytes


def opened(note: str, key: LogKey | None) -> Checkpoint:
    """Read a LogCheckpoint, verified when a key is given; raises IntegrityError."""
    if key is not None:
        note = verify_note(note, key[1], key[0])
    lines = note.split("\n")
    try:
        size, root = int(lines[1]), base64.b64decode(lines[2], validate=True)
    except (IndexError, ValueError, binascii.Error) as cause:
        raise IntegrityError("not a LogCheckpoint") from cause
    if len(root) != HASH_BYTES or (key is not None and lines[0] != key[0]):
        raise IntegrityError("not a LogCheckpoint of this log")
    return Checkpoint(lines[0], size, root)


def witnessed(view: W.CheckpointView, witness_key: str) -> Checkpoint:
    """The LogCheckpoint that the witness of this key (a vkey) has signed; raises IntegrityError."""
    name, key = parse_witness_key(witness_key)
    if view.cosigned is None:
        raise IntegrityError(f"no LogCheckpoint was witnessed, by `{name}` or anybody")
    verify_cosignature(view.cosigned, key, name)
    return opened(view.cosigned, None)


class Pins:
    """The pin of one server."""

    def __init__(self, state_dir: Path, server: str) -> None:
        """Name it; nothing is read yet."""
        self._server = server
        name = hashlib.sha256(server.encode("utf-8")).hexdigest()[:32]
        self._path = state_dir / "pins" / f"{name}.json"

    def read(self) -> Pin | None:
        """The pin; None when nothing of this server was seen yet.

        Raises:
            ConfigError: the file is damaged or others can write it: it is not passed over.
        """
        try:
            told = json.loads(read_private(self._path, bytes_max=FILE_BYTES_MAX))
        except NotFound:
            return None
        except ConfigError as refused:
            if isinstance(refused.__cause__, NotADirectoryError):
                return None  # a service account without a home: nothing can be kept for it
            raise
        except ValueError as cause:
            raise self._damaged() from cause
        try:
            key, note = parse_verifier_key(told["log_key"]), str(told["note"])
            seen = opened(note, key)
        except (KeyError, TypeError, AttributeError, InvalidInput, IntegrityError) as cause:
            raise self._damaged() from cause
        return Pin(log_key=key, note=note, size=seen.size, root=seen.root)

    def accept(self, view: W.CheckpointView, before: Pin | None, key: LogKey | None = None) -> bool:
        """Check what a server shows against the pin that its proof was asked for; then pin it.

        Args:
            view: what the server shows.
            before: the pin as `read` gave it before the request.
            key: the log's key, when it comes from elsewhere.

        Returns:
            Whether it could be pinned (the state directory may be read-only).

        Raises:
            LogForked: shorter, forked, or signed by another key than before.
            IntegrityError: not what it says it is.
        """
        known = key or (before.log_key if before else named_key(view))
        if before is not None and known != before.log_key:
            raise self._forked("the pinned log is another than the one of the key you named")
        try:
            seen = opened(view.note, known)
        except IntegrityError as cause:
            if before is None:
                raise
            raise self._forked("its LogCheckpoint is not signed by the pinned key") from cause
        if (seen.size, seen.root.hex()) != (view.size, view.root):
            raise IntegrityError("the gateway's LogCheckpoint says another root than its note")
        if before is not None:
            self._check_growth(before, seen, view)
        return self._keep(known, view, seen)

    def _check_growth(self, before: Pin, seen: Checkpoint, view: W.CheckpointView) -> None:
        if seen.size < before.size:
            raise self._forked(f"it has {seen.size} events, and {before.size} were seen")
        if view.since != before.size:
            raise self._forked(f"it does not show that it continues its first {before.size} events")
        try:
            path = [bytes.fromhex(text) for text in view.consistency]
            verify_consistency(before.size, seen.size, path, (before.root, seen.root))
        except (ValueError, GatewayError) as cause:
            raise self._forked(f"its first {before.size} events are others than before") from cause

    def _keep(self, key: LogKey, view: W.CheckpointView, seen: Checkpoint) -> bool:
        value = {"server": self._server, "log_key": verifier_key(*key), "note": view.note}
        try:
            make_private_dir(self._path.parent)
            with _locked(self._path.parent):
                other = self.read()  # of a process beside us
                if other is not None and other.size == seen.size and other.root != seen.root:
                    raise self._forked(f"it has shown two histories of {seen.size} events")
                if other is None or other.size < seen.size:
                    replace_private(self._path, json.dumps(value, indent=1).encode() + b"\n")
        except (Unavailable, OSError):
            return False
        return True

    def _forked(self, what: str) -> LogForked:
        return LogForked(
            f"the log of `{self._server}` is not the one that was seen before: {what}",
            advice=f"trust no answer of it; keep `{self._path}`, which is evidence, and show it to "
            "the tenants and the operator; remove it only if the gateway was set up anew",
        )

    def _damaged(self) -> ConfigError:
        return ConfigError(
            f"`{self._path}` does not hold a pinned LogCheckpoint",
            advice="restore it from a backup; without it an older log is not noticed",
        )


def named_key(view: W.CheckpointView) -> LogKey:
    """The key of the log as the gateway names it; raises IntegrityError."""
    try:
        return parse_verifier_key(view.log_key)
    except InvalidInput as cause:
        raise IntegrityError("the gateway names no key of its log") from cause


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
