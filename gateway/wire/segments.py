"""Frames of a segment: head, body, end (docs/formats/segment-v1.md). Standard library only.

A segment is `head frame | body | end frame`. Both frames are `magic 4 | length 4 (little
endian) | JSON`; the head is padded with spaces so that the body starts at a multiple of 64.
Nothing in here is trusted before the MAC of the end frame holds.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.errors import IntegrityError

SEGMENT_FORMAT = "segment-v1"
HEAD_MAGIC, END_MAGIC = b"GWS1", b"GWE1"
ALIGNMENT = 64  # of the body and of each column in it
CHUNK_BYTES_MAX = 1 << 20
HEAD_BYTES_MAX = 4 << 20
END_BYTES_MAX = 4 << 20
RECEIPT_CHARS_MAX = 512
PREFIX = struct.Struct("<4sI")


def canonical(value: Mapping[str, Any]) -> bytes:
    """Return the JSON of a frame: sorted keys, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")


def head_frame(head: Mapping[str, Any]) -> bytes:
    """Return the head frame, padded to the alignment."""
    text = canonical(head)
    padding = -(PREFIX.size + len(text)) % ALIGNMENT
    return PREFIX.pack(HEAD_MAGIC, len(text) + padding) + text + b" " * padding


def end_frame(end: Mapping[str, Any]) -> bytes:
    """Return the end frame."""
    text = canonical(end)
    return PREFIX.pack(END_MAGIC, len(text)) + text


def frame_length(prefix: bytes | bytearray | memoryview, magic: bytes) -> int:
    """Return how many bytes of JSON follow a frame's prefix; raises IntegrityError."""
    if len(prefix) != PREFIX.size:
        raise IntegrityError("a segment is cut off")
    found, length = PREFIX.unpack(prefix)
    most = HEAD_BYTES_MAX if magic == HEAD_MAGIC else END_BYTES_MAX
    if found != magic or length > most:
        raise IntegrityError("a segment does not begin or end as it must")
    return int(length)


def read_json(text: bytes | bytearray | memoryview) -> dict[str, Any]:
    """Return the JSON object of a frame; raises IntegrityError."""
    try:
        value = json.loads(bytes(text))
    except (ValueError, RecursionError) as cause:
        raise IntegrityError("a frame of a segment is not JSON") from cause
    if not isinstance(value, dict):
        raise IntegrityError("a frame of a segment is not a JSON object")
    if canonical(value) != bytes(text).rstrip(b" "):
        raise IntegrityError("a frame of a segment is not in canonical form")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentHead:
    """What a segment says about itself before its bytes."""

    lease: str
    segment: int
    plan: str  # digest
    kind: str  # `direct` | `view`
    rows: int
    blocks: int
    bytes: int  # of the body
    chunks: tuple[int, ...]  # bytes of each; each has its own seal in the end frame
    parts: tuple[tuple[int, int], ...]  # direct: (offset, bytes) of each column of the lease
    # manifest; view: (offset, bytes) of each Arrow message

    def to_json(self) -> dict[str, Any]:
        """The object of the head frame."""
        return {
            "v": SEGMENT_FORMAT,
            "lease": self.lease,
            "segment": self.segment,
            "plan": self.plan,
            "kind": self.kind,
            "rows": self.rows,
            "blocks": self.blocks,
            "bytes": self.bytes,
            "chunks": list(self.chunks),
            "parts": [list(part) for part in self.parts],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SegmentHead:
        """Read the object; raises IntegrityError when its numbers contradict each other."""
        try:
            fields = dict(value)
            if fields.pop("v") != SEGMENT_FORMAT:
                raise IntegrityError("this segment has another format version")
            fields["chunks"] = tuple(fields["chunks"])
            fields["parts"] = tuple((offset, size) for offset, size in fields["parts"])
            head = cls(**fields)
            head._check()
        except (KeyError, TypeError, ValueError) as cause:
            raise IntegrityError("the head of a segment cannot be read") from cause
        return head

    def _check(self) -> None:
        numbers = (self.segment, self.rows, self.blocks, self.bytes, *self.chunks)
        numbers += tuple(number for part in self.parts for number in part)
        if any(type(number) is not int or number < 0 for number in numbers):
            raise IntegrityError("the head of a segment holds a number that is none")
        if sum(self.chunks) != self.bytes or max(self.chunks, default=0) > CHUNK_BYTES_MAX:
            raise IntegrityError("the chunks of a segment are not its body")
        end = 0
        for offset, size in self.parts:
            if offset < end or offset + size > self.bytes:
                raise IntegrityError("the parts of a segment overlap or leave its body")
            end = offset + size
