"""What verifying one file by itself finds, in a child of `verification`: its spans and totals."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson

from gateway.journal.apart import serve
from gateway.journal.reader import Reader
from gateway.journal.spans import Span, spans_of
from gateway.process.channel import Channel

_NICENESS = 5  # old history is verified while streams are served


@dataclass(frozen=True, slots=True)
class FileSpans:
    """One file that holds, as far as it can be known without the files before."""

    spans: list[Span]
    commits: int
    note: str  # its last LogCheckpoint
    event_bytes: int
    roots: dict[int, bytes]  # at the sizes that were asked for

    @classmethod
    def unpacked(cls, data: memoryview) -> FileSpans:
        """What a child packed; ValueError, KeyError or TypeError when it is nothing of the kind."""
        value = orjson.loads(data)
        roots = {int(size): bytes.fromhex(root) for size, root in value["roots"].items()}
        spans = [_span(*fields) for fields in value["spans"]]
        note, size = str(value["note"]), int(value["event_bytes"])
        return cls(spans, int(value["commits"]), note, size, roots)


def main(channel: Channel, options: dict[str, Any]) -> None:
    """Verify files as they are asked for."""
    os.nice(_NICENESS)
    serve(channel, options, partial(_read, sizes=frozenset(options["sizes"])))


def _read(reader: Reader, sizes: frozenset[int]) -> bytes | None:
    spans, roots = list[Any](), dict[str, str]()
    commits, note, size = 0, "", 0
    for commit in reader.rest_of_file():
        for span in spans_of(commit, reader.node):
            if span.damage is not None:
                return None
            spans.append((span.begins, span.ends, span.heads))
        commits, note, size = commits + 1, commit.note, size + sum(map(len, commit.payloads))
        if reader.size in sizes:
            roots[str(reader.size)] = reader.root.hex()
    value = {"spans": spans, "commits": commits, "note": note, "event_bytes": size, "roots": roots}
    return orjson.dumps(value)


def _span(begins: dict[str, Any], ends: dict[str, Any], heads: Any) -> Span:
    return Span(
        {tag: (int(index), str(prev), int(count)) for tag, (index, prev, count) in begins.items()},
        {tag: (int(count), str(leaf)) for tag, (count, leaf) in ends.items()},
        (int(heads[0]), str(heads[1]), int(heads[2])) if heads else None,
    )
