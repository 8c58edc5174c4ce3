"""What an opening finds: the longest signed prefix; a torn tail is cut, the rest is tampering.

Follows docs/formats/journal-v0.md §5. Bytes after the last authentic LogCheckpoint were never
acknowledged: they are cut. A damaged place before one, a header, root or chain that does not
fit, or a journal shorter than its anchor was acknowledged history: IntegrityError, and
nothing is changed on disk.
"""

from __future__ import annotations

import os
from pathlib import Path

from gateway.errors import IntegrityError
from gateway.journal import segments
from gateway.journal.anchor import read_anchor, sync_directory
from gateway.journal.checkpoint import LogCheckpoint, find_beyond, open_checkpoint, origin_of
from gateway.journal.memory import Memory
from gateway.journal.resume import take_up
from gateway.journal.segments import Segment
from gateway.journal.walk import ENDS_KEPT, Found, walk

_ADVICE = "stop here: keep the files, and compare with a backup and with pinned LogCheckpoints"


def survey(
    directory: Path, *, node: str, log_key: bytes, anchors: Path, memory: Memory | None = None
) -> Found:
    """Read and judge all files, or those that a snapshot does not vouch for; changes nothing.

    Args:
        directory: of the journal.
        node: whose journal it must be.
        log_key: 32-byte public key.
        anchors: directory of the anchor.
        memory: of the snapshot: what came before it is not read again (resume.py).

    Raises:
        IntegrityError: acknowledged history is damaged, missing or replaced; `index` of the
            facts names the first bad event.
        ConfigError: the files are of another format.
    """
    origin = origin_of(node)
    anchored = read_anchor(anchors, log_key, origin)
    files = segments.listed(directory)
    if files and anchored is None:
        raise _refusal("the journal has lost its anchor", 0)
    found = take_up(memory, files, node, log_key) if memory else Found()
    for segment in files[files.index(found.ends[-1].segment) if found.ends else 0 :]:
        if found.first_bad is None:
            walk(found, segment, node)
    _choose(found, log_key, origin)
    _judge(found, files, log_key, origin)
    if anchored is not None:
        found.anchor_slot = anchored[1]
        _compare(found, anchored[0])
    return found


def _choose(found: Found, log_key: bytes, origin: str) -> None:
    """Walk back to the newest LogCheckpoint whose signature holds."""
    while found.ends:
        end = found.ends[-1]
        try:
            note = end.note.decode("utf-8")
            open_checkpoint(note, log_key, origin)
        except (IntegrityError, UnicodeDecodeError):
            found.ends.pop()
            continue
        found.note, found.size = note, end.size
        return
    if found.commits > ENDS_KEPT:
        raise _refusal("the last LogCheckpoints of the journal are not authentic", 0)


def _judge(found: Found, files: list[Segment], log_key: bytes, origin: str) -> None:
    """Refuse unless everything behind the chosen LogCheckpoint is the tail of one commit."""
    last = found.ends[-1] if found.ends else None
    behind = files[files.index(last.segment) :] if last else files
    bad = found.size if found.first_bad is None else found.first_bad
    own_tail = 0
    for segment in behind:
        offset = last.offset if last and segment == last.segment else 0
        with segment.path.open("rb") as file:
            file.seek(offset)
            data = file.read()
        if find_beyond(data, log_key, origin, found.size):
            raise _refusal(f"the journal was changed at event {bad}", bad)
        if last and segment == last.segment:
            own_tail = len(data)
        found.cut_bytes += len(data)
    begun = len(behind) - (1 if last else 0)  # files that end without any LogCheckpoint
    if begun > 1 or (begun and own_tail):  # a next file begins only behind a whole commit
        raise _refusal(f"the journal is damaged at event {bad}", bad)


def _compare(found: Found, anchor: LogCheckpoint) -> None:
    if found.size < anchor.size:
        bad = found.size if found.first_bad is None else min(found.first_bad, anchor.size)
        raise _refusal(
            f"the journal holds {found.size} signed events; its anchor has seen {anchor.size}", bad
        )
    if found.tree.root(anchor.size) != anchor.root:
        raise _refusal(f"the first {anchor.size} events are not those the anchor has seen", 0)


def _refusal(message: str, index: int) -> IntegrityError:
    return IntegrityError(message, advice=_ADVICE, index=index)


def cut(directory: Path, found: Found) -> tuple[Segment, int] | None:
    """Remove, durably, what `survey` allows to be cut.

    Returns:
        The file to go on in and its size in bytes; None when a new one has to begin.
    """
    last = found.ends[-1] if found.ends else None
    for segment in segments.listed(directory):
        if last is None or segment.first > last.segment.first:
            segment.path.unlink()
    if last is not None and last.segment.path.stat().st_size != last.offset:
        fd = os.open(last.segment.path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.ftruncate(fd, last.offset)
            os.fsync(fd)
        finally:
            os.close(fd)
    sync_directory(directory)
    found.tree.truncate(found.size)
    found.marks.truncate(found.size)
    return (last.segment, last.offset) if last else None
