"""Opening a journal: survey, cut, replay into the catalogue, anchor, open the end for writing."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import orjson

from gateway.crypto.signing import Signer
from gateway.domain.events import Event
from gateway.domain.merkle import EMPTY_ROOT
from gateway.errors import ConfigError, IntegrityError
from gateway.journal import recovery, segments
from gateway.journal.anchor import Anchor
from gateway.journal.chains import Chains, Tags
from gateway.journal.checkpoint import LogCheckpoint, origin_of
from gateway.journal.commit import CommitFile
from gateway.journal.composer import Composer, Details
from gateway.journal.marks import Marks
from gateway.journal.memory import Memory
from gateway.journal.segments import SEGMENT_BYTES
from gateway.journal.tree import LogTree
from gateway.journal.walk import Found

Apply = Callable[[Event], None]


class ForeignStart(IntegrityError):
    """The catalogue to go on from was folded from another history than these files hold."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where the catalogue stands: the first event it has not seen, and what its snapshot knew."""

    index: int
    memory: Memory | None = None  # of that many events; None: the journal is read from event 0


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalSetup:
    """What an opening needs."""

    directory: Path
    anchor_directory: Path  # another failure domain than `directory` where possible
    node: str  # a name; part of the log's origin
    signer: Signer  # of use `log`
    details: Details
    tag_key: bytes  # 32 bytes, always the same for this journal (`vault.secret`)
    now: Callable[[], float]  # Unix seconds
    on_failure: Callable[[BaseException], None] | None = None  # called once, from any thread
    segment_bytes: int = SEGMENT_BYTES

    def __post_init__(self) -> None:
        """Refuse a setup that could not keep its promises."""
        if self.directory.resolve() == self.anchor_directory.resolve():
            raise ConfigError("the journal and its anchor need two directories")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What an opening hands to the journal."""

    tree: LogTree
    chains: Chains
    composer: Composer
    marks: Marks
    file: CommitFile
    note: str
    boot: str
    cut_bytes: int
    tags: Tags


def recover(setup: JournalSetup, apply: Apply, start: Start) -> Parts:
    """Survey, cut, replay, anchor, and open the end of the journal for writing.

    Raises:
        IntegrityError: acknowledged history was changed; facts: `index`.
        ConfigError: the files are of another format.
        ForeignStart: `start` does not belong to this history; nothing was changed.
    """
    log_key = setup.signer.public_key
    found = recovery.survey(
        setup.directory,
        node=setup.node,
        log_key=log_key,
        anchors=setup.anchor_directory,
        memory=start.memory,
    )
    _check_start(found, start)
    last = recovery.cut(setup.directory, found)
    boot, tags = os.urandom(16).hex(), Tags(setup.tag_key)
    composer = Composer(setup.node, boot, setup.details, tags)
    chains = _replay(found, composer, apply, start)
    note = found.note or LogCheckpoint(
        origin=origin_of(setup.node), size=0, root=EMPTY_ROOT
    ).signed(setup.signer)
    anchor = Anchor(setup.anchor_directory)
    try:
        anchor.take_turn_after(found.anchor_slot)
        anchor.write(note)  # before the first file exists: files without an anchor are refused
        anchor.sync()
        file = _open_end(setup, found, last, anchor)
    except BaseException:
        anchor.close()
        raise
    return Parts(
        tree=found.tree,
        chains=chains,
        composer=composer,
        marks=found.marks,
        file=file,
        note=note,
        boot=boot,
        cut_bytes=found.cut_bytes,
        tags=tags,
    )


def _check_start(found: Found, start: Start) -> None:
    if start.index > found.size:
        raise ForeignStart(
            f"the catalogue has seen {start.index} events, the journal holds {found.size}",
            index=found.size,
        )
    if start.memory is not None and start.memory.size != start.index:
        raise ForeignStart("the catalogue is of another moment than its snapshot says")


def _replay(found: Found, composer: Composer, apply: Apply, start: Start) -> Chains:
    memory = start.memory
    chains = Chains(memory.chains if memory else ())
    for index, data in found.marks.payloads(memory.size if memory else 0, found.size):
        if index < start.index:
            links = orjson.loads(data)["chains"]
        else:
            event = composer.read(data, index)
            links = event.chains
            chains.check(links, index)
            apply(event)
        chains.extend(links, found.tree.leaf(index))
    return chains


def _open_end(
    setup: JournalSetup,
    found: Found,
    last: tuple[segments.Segment, int] | None,
    anchor: Anchor,
) -> CommitFile:
    if last is None:
        edge = found.tree.edge()
        segment, fd = segments.create(setup.directory, first=found.size, node=setup.node, edge=edge)
        offset = os.fstat(fd).st_size
    else:
        segment, offset = last
        fd = os.open(segment.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    return CommitFile(
        directory=setup.directory,
        node=setup.node,
        signer=setup.signer,
        anchor=anchor,
        marks=found.marks,
        segment_bytes=setup.segment_bytes,
        segment=segment,
        fd=fd,
        offset=offset,
    )
