"""Read the closed files of a journal in several processes; their answers come in file order.

Each child reads one file by itself, from its header to its end: frames, tree, every signature,
and whatever its module makes of the commits. Whether the next file continues it is for the
caller, who joins the answers. A child that dies, or a file that does not hold, gives None: the
caller then reads on from there by itself, so every refusal is worded by one reader in one place.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from gateway.errors import IntegrityError
from gateway.journal.reader import FileRead, Reader
from gateway.journal.segments import Segment
from gateway.process.channel import Channel, ChannelClosed
from gateway.process.spawn import Child, Confinement, Launch, spawn

PROCESSES_MAX = 8
APART_BYTES_MIN = 128 << 20  # two files; below, starting processes takes longer than reading
_CHILD_BYTES_MAX = 2 << 30


@dataclass(frozen=True, slots=True)
class Answer:
    """What a child makes of one file that holds."""

    read: FileRead
    payload: memoryview


def processes_for(files: Sequence[Segment]) -> int:
    """How many processes are worth their start; 0 = read in this one."""
    if sum(file.path.stat().st_size for file in files[:-1]) < APART_BYTES_MIN:
        return 0
    return min(len(os.sched_getaffinity(0)), len(files) - 1, PROCESSES_MAX)


def answers(
    files: Sequence[Segment], processes: int, module: str, log_key: bytes, **options: Any
) -> Generator[Answer | None]:
    """What children make of every file but the last, in order; None = see for yourself.

    Args:
        files: all of the journal; the last one is still written to, and read by nobody here.
        processes: how many children.
        module: whose `main` calls `serve`.
        log_key: 32-byte public key of the journal.
        options: further ones for its `main`, JSON values.
    """
    asked = [(file.first, following.first) for file, following in pairwise(files)]
    processes = min(processes, len(asked))
    with ExitStack() as stack:
        options |= {"directory": str(files[0].path.parent.resolve()), "log_key": log_key.hex()}
        children = [stack.enter_context(_start(module, options)) for _ in range(processes)]
        for child, question in zip(children, asked, strict=False):
            _ask(child, question)
        for number in range(len(asked) if children else 0):
            child = children[number % processes]
            answer = _answer(child)
            if answer is not None and number + processes < len(asked):
                _ask(child, asked[number + processes])
            yield answer


def serve(
    channel: Channel, options: dict[str, Any], read: Callable[[Reader], bytes | None]
) -> None:
    """In a child: read files as they are asked for; ends when the channel closes.

    Args:
        channel: to the parent.
        options: as `answers` gave them.
        read: makes its answer of the `rest_of_file` of a Reader; None = it does not hold.
    """
    while True:
        asked = channel.receive().body
        reader = Reader(Path(options["directory"]), bytes.fromhex(options["log_key"]))
        try:
            answer = read(reader) if reader.seek(asked["first"]) else None
            done = reader.read() if answer is not None else None
        except (IntegrityError, OSError):
            answer = done = None
        if answer is None or done is None or (done.first, done.size) != tuple(asked.values()):
            channel.send("unread")
        else:
            channel.send("read", answer, **_packed(done))


def _start(module: str, options: dict[str, Any]) -> Child:
    limits = Confinement(
        data_bytes_max=_CHILD_BYTES_MAX, file_bytes_max=0, read_paths=(options["directory"],)
    )
    launch = Launch(module=module, confinement=limits, options=options)
    return spawn(launch, stderr=subprocess.DEVNULL)


def _ask(child: Child, question: tuple[int, int]) -> None:
    first, stop = question
    try:
        child.channel.send("file", first=first, stop=stop)
    except ChannelClosed:
        return  # and so there will be no answer


def _answer(child: Child) -> Answer | None:
    try:
        message = child.channel.receive()
        if message.kind == "read":
            return Answer(_unpacked(message.body), memoryview(message.payload))
    except (ChannelClosed, IntegrityError, ValueError, KeyError, TypeError):
        pass  # what it says is no answer
    return None


def _packed(read: FileRead) -> dict[str, Any]:
    edges = {"edge": read.edge, "before": read.before}
    return asdict(read) | {name: [part.hex() for part in edge] for name, edge in edges.items()}


def _unpacked(body: dict[str, Any]) -> FileRead:
    edges = {name: tuple(map(bytes.fromhex, body[name])) for name in ("edge", "before")}
    return FileRead(**(body | edges))
