"""Read the closed files of a journal in several processes; their results come in file order.

Each child verifies one file by itself, from its header to the header of the next: frames,
events, tree, every signature. What needs the files before (chains, TenantHeads) it gives back
as spans. A child that dies, or a file that does not hold, gives None: the caller then reads on
from there by itself, and so every refusal is worded by one reader in one place.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Generator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson

from gateway.errors import IntegrityError
from gateway.journal.reader import FileRead, Reader
from gateway.journal.segments import Segment
from gateway.journal.spans import Span, spans_of
from gateway.process.channel import Channel, ChannelClosed
from gateway.process.spawn import Child, Confinement, Launch, spawn

PROCESSES_MAX = 8
APART_BYTES_MIN = 128 << 20  # two files; below, starting processes takes longer than reading
_CHILD_BYTES_MAX = 2 << 30
_NICENESS = 5  # old history may be read while streams are served


@dataclass(frozen=True, slots=True)
class Part:
    """One file that holds, as far as it can be known without the files before."""

    read: FileRead
    spans: list[Span]
    commits: int
    note: str  # its last LogCheckpoint
    event_bytes: int
    roots: dict[int, bytes]  # at the sizes that were asked for


def processes_for(files: Sequence[Segment]) -> int:
    """How many processes are worth their start; 0 = read in this one."""
    if sum(file.path.stat().st_size for file in files[:-1]) < APART_BYTES_MIN:
        return 0
    return min(len(os.sched_getaffinity(0)), len(files) - 1, PROCESSES_MAX)


def parts(
    directory: Path, log_key: bytes, files: Sequence[Segment], sizes: Sequence[int], processes: int
) -> Generator[Part | None]:
    """What children make of every file but the last, in order; None = see for yourself.

    Args:
        directory: of the journal.
        log_key: its 32-byte public key.
        files: all of them; the last one is still written to, and read by nobody here.
        sizes: of LogCheckpoints whose roots are wanted.
        processes: how many children.
    """
    asked = [
        {"first": file.first, "stop": following.first, "sizes": list(sizes)}
        for file, following in pairwise(files)
    ]
    with ExitStack() as stack:
        children = [
            stack.enter_context(_start(directory, log_key))
            for _ in range(min(processes, len(asked)))
        ]
        for child, question in zip(children, asked, strict=False):
            _ask(child, question)
        for number in range(len(asked) if children else 0):
            child = children[number % len(children)]
            part = _answer(child)
            if part is not None and number + len(children) < len(asked):
                _ask(child, asked[number + len(children)])
            yield part


def main(channel: Channel, options: dict[str, Any]) -> None:
    """Verify files as they are asked for; ends when the channel closes."""
    os.nice(_NICENESS)
    directory, log_key = Path(options["directory"]), bytes.fromhex(options["log_key"])
    while True:
        asked = channel.receive().body
        try:
            part = _part(Reader(directory, log_key), asked["first"], asked["stop"], asked["sizes"])
        except (IntegrityError, OSError):
            part = None
        channel.send("part", b"" if part is None else _packed(part))


def _part(reader: Reader, first: int, stop: int, sizes: list[int]) -> Part | None:
    wanted, roots = set(sizes), dict[int, bytes]()
    spans, commits, note, size = list[Span](), 0, "", 0
    if not reader.seek(first):
        return None
    for commit in reader.rest_of_file():
        spans += spans_of(commit, reader.node)
        commits, note, size = commits + 1, commit.note, size + sum(map(len, commit.payloads))
        if reader.size in wanted:
            roots[reader.size] = reader.root
        if spans and spans[-1].damage is not None:
            return None
    read = reader.read()
    if read.first != first or read.size != stop:
        return None
    return Part(read, spans, commits, note, size, roots)


def _start(directory: Path, log_key: bytes) -> Child:
    place = str(directory.resolve())
    return spawn(
        Launch(
            module=__name__,
            confinement=Confinement(
                data_bytes_max=_CHILD_BYTES_MAX, file_bytes_max=0, read_paths=(place,)
            ),
            options={"directory": place, "log_key": log_key.hex()},
        ),
        stderr=subprocess.DEVNULL,
    )


def _ask(child: Child, question: dict[str, Any]) -> None:
    try:
        child.channel.send("part", **question)
    except ChannelClosed:
        return  # and so there will be no answer


def _answer(child: Child) -> Part | None:
    try:
        payload = child.channel.receive().payload
        return _unpacked(bytes(payload)) if payload else None
    except (ChannelClosed, IntegrityError, ValueError, KeyError, TypeError):
        return None


def _packed(part: Part) -> bytes:
    spans = [(s.begins, s.ends, s.heads) for s in part.spans]
    roots = {str(size): root.hex() for size, root in part.roots.items()}
    read = {**asdict(part.read), "edge": _hex(part.read.edge), "before": _hex(part.read.before)}
    value = {"read": read, "spans": spans, "commits": part.commits, "note": part.note,
             "bytes": part.event_bytes, "roots": roots}  # fmt: skip
    return orjson.dumps(value)


def _unpacked(data: bytes) -> Part:
    value = orjson.loads(data)
    read = value["read"]
    for edge in ("edge", "before"):
        read[edge] = tuple(bytes.fromhex(part) for part in read[edge])
    return Part(
        FileRead(**read),
        [_span(*fields) for fields in value["spans"]],
        int(value["commits"]),
        str(value["note"]),
        int(value["bytes"]),
        {int(size): bytes.fromhex(root) for size, root in value["roots"].items()},
    )


def _span(begins: dict[str, Any], ends: dict[str, Any], heads: Any) -> Span:
    return Span(
        {tag: (int(index), str(prev), int(count)) for tag, (index, prev, count) in begins.items()},
        {tag: (int(count), str(leaf)) for tag, (count, leaf) in ends.items()},
        (int(heads[0]), str(heads[1]), int(heads[2])) if heads else None,
    )


def _hex(edge: Sequence[bytes]) -> list[str]:
    return [part.hex() for part in edge]
