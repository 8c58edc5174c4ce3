"""Witnesses: outsiders who sign that our log only grew, so that we cannot show two histories.

Client of c2sp.org/tlog-witness (`add-checkpoint`) and c2sp.org/tlog-cosignature (v1, Ed25519).
Whom we ask is the operator's table `witnesses.toml` (docs/operate/run.md). Every
SECONDS_BETWEEN the newest LogCheckpoint is sent to all of them, with the proof that it
continues what each has signed last; their cosignatures are kept beside it, also on disk.
Nothing waits for a witness: what is released does not depend on one, and an EvidencePack asks
once more and takes what there is after SECONDS_MAX.

A witness that has seen more than we have, or something else, is the alarm that this is for: it
stands in every `witnessed: …` until the witness signs again.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway import config
from gateway.crypto.notes import parse_witness_key, verify_cosignature, verify_note
from gateway.crypto.private_files import make_private_dir, read_private, replace_private
from gateway.errors import ConfigError, GatewayError, IntegrityError, InvalidInput, Unavailable
from gateway.journal.checkpoint import origin_of, parse_checkpoint
from gateway.journal.journal import Journal
from gateway.services.outbound import Answer, Document, reach_of

FILE = "witnesses.toml"
WITNESSES_MAX = 8
SECONDS_BETWEEN = 10.0
SECONDS_MAX = 10.0  # that an EvidencePack waits for cosignatures
_KEPT = "cosigned.note"
_TRIES = 3  # the first may learn by a 409 what the witness has seen last
_OK, _CONFLICT, _UNPROVEN = 200, 409, 422
_SIZE_TYPE = "text/x.tlog.size"
_SIZE = re.compile(rb"(?:0|[1-9][0-9]{0,15})\n\Z")
_MEMBERS, _REACH = {"url", "key"}, {"loopback", "networks", "ca"}
_log = logging.getLogger("gateway.witness")


class Contradicted(IntegrityError):
    """A witness has seen another log than this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """One row of the table."""

    name: str
    key: bytes  # Ed25519 public key
    place: Document  # of `add-checkpoint`


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosigned:
    """The newest LogCheckpoint that witnesses signed, with their lines."""

    note: str
    size: int
    by: frozenset[str]


class Witnesses:
    """The table, and what its witnesses have signed. For one event loop."""

    def __init__(self, rows: Sequence[Witness], path: Path) -> None:
        """`path` is where the cosigned LogCheckpoint is kept."""
        self.rows, self._path = tuple(rows), path
        self.newest: Cosigned | None = None
        self._turn = asyncio.Lock()
        self._seen: dict[str, int] = {}  # size that each has signed last, as far as we know
        self._troubles: dict[str, str] = {}
        self._alarms: dict[str, str] = {}

    def recall(self, journal: Journal, log_key: bytes, node: str) -> None:
        """Take up what was kept before a restart, if it still holds under this table and log."""
        try:
            note = read_private(self._path).decode("utf-8")
            verify_note(note, log_key, origin_of(node))
            size, root = parse_checkpoint(note)
            if size <= journal.durable_size and journal.root(size) == root:
                self._keep(note, size)
        except (GatewayError, UnicodeDecodeError) as cause:
            _log.info("no cosigned LogCheckpoint is taken up: %s", cause)

    @property
    def told(self) -> str:
        """`none`, or `n of m up to size S`, and who refuses this log."""
        if not self.rows:
            return "none"
        found = f"{len(self.newest.by) if self.newest else 0} of {len(self.rows)}"
        if self.newest is not None:
            found += f" up to size {self.newest.size}"
        return "; ".join([found, *(f"{name} refuses: {why}" for name, why in self._alarms.items())])

    async def ask(self, journal: Journal) -> None:
        """Send the newest LogCheckpoint to all, unless all of them have signed it."""
        async with self._turn:
            note = journal.checkpoint()
            size, _ = parse_checkpoint(note)
            await journal.durable(size - 1)
            known = self.newest
            if known and known.size == size and len(known.by) == len(self.rows):
                return
            lines = await asyncio.gather(*(self._asked(row, journal, note) for row in self.rows))
            if any(lines):
                cosigned = note + "".join(line for line in lines if line)
                self._keep(cosigned, size)
                await asyncio.to_thread(self._write, cosigned)

    async def within(self, journal: Journal, seconds: float = SECONDS_MAX) -> Cosigned | None:
        """The newest cosigned LogCheckpoint, after having asked for at most so long."""
        if self.rows:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self.ask(journal)
        return self.newest

    async def _asked(self, row: Witness, journal: Journal, note: str) -> str | None:
        """The witness's line; None, and a word in the log when that is news."""
        try:
            line = await self._sign(row, journal, note)
        except Contradicted as alarm:
            if self._alarms.get(row.name) != alarm.message:
                _log.critical(
                    "a witness refuses our log", extra={"by": row.name, "why": str(alarm)}
                )
            self._alarms[row.name] = alarm.message
            return None
        except (GatewayError, UnicodeError, ValueError) as trouble:
            if self._troubles.get(row.name) != str(trouble):
                _log.warning("a witness does not sign: %s: %s", row.name, trouble)
            self._troubles[row.name] = str(trouble)
            return None
        self._troubles.pop(row.name, None)
        self._alarms.pop(row.name, None)
        return line

    async def _sign(self, row: Witness, journal: Journal, note: str) -> str:
        size, _ = parse_checkpoint(note)
        for _ in range(_TRIES):
            old = self._seen.get(row.name, 0)
            if old > size:
                raise Contradicted(f"it has seen {old} events, and this log has {size}")
            answer = await row.place.post(_request(journal, old, size, note))
            if answer.status == _OK:
                line, _ = verify_cosignature(note + answer.body.decode("utf-8"), row.key, row.name)
                self._seen[row.name] = size
                return line
            self._seen[row.name] = _last_signed(answer, old, size)
        raise Unavailable("it signs something else each time")

    def _keep(self, note: str, size: int) -> None:
        by = {row.name for row in self.rows if _has_signed(row, note)}
        if by:
            self.newest = Cosigned(note=note, size=size, by=frozenset(by))

    def _write(self, note: str) -> None:
        try:
            make_private_dir(self._path.parent)
            replace_private(self._path, note.encode("utf-8"))
        except GatewayError as cause:  # the next round writes again
            _log.warning("the cosigned LogCheckpoint cannot be kept: %s", cause)


def _request(journal: Journal, old: int, size: int, note: str) -> bytes:
    """The body of `add-checkpoint`."""
    path = journal.consistency(old, size) if 0 < old < size else []
    proof = "".join(f"{base64.b64encode(part).decode('ascii')}\n" for part in path)
    return f"old {old}\n{proof}\n{note}".encode()


def _last_signed(answer: Answer, old: int, size: int) -> int:
    """What the witness says that it has signed last, of an answer that is no cosignature."""
    if answer.status == _UNPROVEN:
        raise Contradicted(f"this log does not continue the {old} events that it has seen")
    if answer.status != _CONFLICT:
        raise Unavailable(f"its answer has status {answer.status}")
    if answer.content_type != _SIZE_TYPE or not _SIZE.match(answer.body):
        if old == size:
            raise Contradicted(f"it has seen another log of {size} events")
        raise Unavailable("it does not say what it has signed last")
    said = int(answer.body)
    if said == old:
        raise Contradicted(f"it has seen another log of {said} events")
    return said


def _has_signed(row: Witness, note: str) -> bool:
    try:
        verify_cosignature(note, row.key, row.name)
    except IntegrityError:
        return False
    return True


async def follow(witnesses: Witnesses, journal: Journal) -> None:
    """Ask again and again, until cancelled."""
    while witnesses.rows:
        try:
            await witnesses.ask(journal)
        except Exception:  # noqa: BLE001 - whatever it is, the gateway serves on, and it is tried again
            _log.exception("the witnesses cannot be asked")
        await asyncio.sleep(SECONDS_BETWEEN)


def load(settings: config.Settings) -> Witnesses:
    """Read the table; without the file nobody is asked.

    Raises:
        ConfigError: anything in it is not as documented.
    """
    path = settings.witnesses or settings.config_dir / FILE
    if settings.witnesses is not None and not path.is_file():
        raise ConfigError(f"there is no table of witnesses `{path}`")
    table = config.read_toml(path)
    listed = table.get("witness", [])
    if set(table) - {"witness"} or not isinstance(listed, list) or len(listed) > WITNESSES_MAX:
        raise ConfigError(f"`{path}` has something else than at most {WITNESSES_MAX} `[[witness]]`")
    try:
        rows = [_row(entry, path.parent) for entry in listed]
    except (TypeError, AttributeError, InvalidInput) as cause:
        raise ConfigError(
            f"a witness in `{path}` is not as documented: {cause}",
            advice="see docs/operate/run.md",
        ) from cause
    if len({row.name for row in rows}) != len(rows):
        raise ConfigError(f"`{path}` has a witness twice")
    return Witnesses(rows, settings.state_dir / _KEPT)


def _row(entry: Mapping[str, Any], base: Path) -> Witness:
    if set(entry) - _REACH != _MEMBERS:
        raise InvalidInput("a `[[witness]]` has a `url` and a `key`")
    name, key = parse_witness_key(str(entry["key"]))
    prefix = str(entry["url"]).rstrip("/")
    place = Document.at(f"{prefix}/add-checkpoint", reach_of(entry, base))
    return Witness(name=name, key=key, place=place)
