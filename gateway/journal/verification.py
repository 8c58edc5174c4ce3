"""Verify a whole journal: every byte of it, and that it extends what was seen of it before."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from gateway.errors import NotFound
from gateway.journal import apart, file_spans, segments
from gateway.journal.anchor import read_anchor
from gateway.journal.chains import Chains
from gateway.journal.checkpoint import open_checkpoint, origin_of
from gateway.journal.file_spans import FileSpans
from gateway.journal.reader import Reader, damage
from gateway.journal.segments import Segment
from gateway.journal.spans import join, spans_of

Progress = Callable[[float, str], None]  # 0..1 and words


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What `verify` found true."""

    size: int  # events
    root: bytes
    note: str  # the newest LogCheckpoint
    commits: int
    unsigned_bytes: int  # behind it: a commit in progress, or a tail to be cut


def verify(
    directory: Path,
    log_key: bytes,
    anchor: Path | None = None,
    progress: Progress | None = None,
    pinned: str | None = None,
    *,
    processes: int | None = None,
) -> Verified:
    """Read everything: frames, canonical events, chains, TenantHeads, tree, every signature.

    Args:
        directory: of the journal.
        log_key: 32-byte public key, from a place that the journal's owner cannot write.
        anchor: directory of the anchor; the journal must extend what it has seen.
        progress: called now and then with the share done and words.
        pinned: a LogCheckpoint note kept elsewhere; the journal must extend it too.
        processes: that read files that are closed; 0 = none but this one, None = as is worth it.

    Raises:
        IntegrityError: something does not hold; `index` is the first bad event.
        NotFound: there is no journal.
    """
    reader, chains = Reader(directory, log_key), Chains()
    files = _files(directory)
    found = _Totals(sum(s.path.stat().st_size for s in files))
    wanted = _pins(reader, log_key, anchor, pinned)
    if processes is None:
        processes = apart.processes_for(files)
    children = apart.answers(files, processes, file_spans.__name__, log_key, sizes=list(wanted))
    with closing(children):
        for answer in children:
            part = _part(answer)
            if answer is None or part is None or not reader.take_over(answer.read):
                break  # this one reads on and finds out
            for span in part.spans:
                join(chains, span)
            found.take(part.note, part.event_bytes, part.commits, part.roots)
            _tell(progress, found, reader)
            if not reader.enter_next():
                break
    for commit in reader.commits():
        for span in spans_of(commit, reader.node):
            join(chains, span)
        root = {reader.size: reader.root} if reader.size in wanted else {}
        found.take(commit.note, sum(map(len, commit.payloads)), 1, root)
        _tell(progress, found, reader)
    _check_pins(wanted, found.roots, reader.size)
    return Verified(
        size=reader.size,
        root=reader.root,
        note=found.note,
        commits=found.commits,
        unsigned_bytes=reader.unsigned_bytes(),
    )


@dataclass(slots=True)
class _Totals:
    bytes_all: int
    bytes_done: int = 0
    note: str = ""
    commits: int = 0
    roots: dict[int, bytes] = field(default_factory=dict)

    def take(self, note: str, size: int, commits: int, roots: dict[int, bytes]) -> None:
        self.note = note
        self.bytes_done += size
        self.commits += commits
        self.roots |= roots

    @property
    def share(self) -> float:
        return min(self.bytes_done / max(self.bytes_all, 1), 1.0)


def _part(answer: apart.Answer | None) -> FileSpans | None:
    try:
        return FileSpans.unpacked(answer.payload) if answer else None
    except (ValueError, KeyError, TypeError):
        return None


def _tell(progress: Progress | None, found: _Totals, reader: Reader) -> None:
    if progress is not None:
        progress(found.share, f"{reader.size} events")


def _files(directory: Path) -> list[Segment]:
    files = segments.listed(directory) if directory.is_dir() else []
    if not files:
        raise NotFound(f"there is no journal in `{directory}`")
    if files[0].first != 0:
        raise damage("the first file of the journal is missing", 0)
    return files


def _pins(
    reader: Reader, log_key: bytes, anchor: Path | None, pinned: str | None
) -> dict[int, bytes]:
    """Size to root of every LogCheckpoint from outside that the journal must extend."""
    if not reader.seek(0):
        raise damage("the journal has no readable beginning", 0)
    origin = origin_of(reader.node)
    wanted = [open_checkpoint(pinned, log_key, origin)] if pinned else []
    if anchor is not None:
        seen = read_anchor(anchor, log_key, origin)
        if seen is None:
            raise damage("the journal has lost its anchor", 0)
        wanted.append(seen[0])
    roots: dict[int, bytes] = {}
    for checkpoint in wanted:
        if roots.setdefault(checkpoint.size, checkpoint.root) != checkpoint.root:
            raise damage("two LogCheckpoints from outside contradict each other", 0)
    return {size: root for size, root in roots.items() if size}


def _check_pins(wanted: dict[int, bytes], known: dict[int, bytes], size: int) -> None:
    for pinned, root in wanted.items():
        if pinned > size:
            raise damage(f"the journal ends at event {size}; {pinned} were seen", size)
        if known.get(pinned) != root:
            raise damage(f"the first {pinned} events are not those that were seen", 0)
