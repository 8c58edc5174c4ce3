"""The rows of one closed file of the journal, made in a child of `rebuild`; no DuckDB here.

Payload: for each batch a head (JSON) and one Arrow IPC stream per table, each behind its
length (u64, little endian).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Iterator
from typing import Any

import orjson
import pyarrow as pa

from gateway.journal.apart import serve
from gateway.journal.reader import Reader
from gateway.lineage.batch import Batch, Prepared
from gateway.lineage.recorded import recorded
from gateway.process.channel import Channel

_LENGTH = struct.Struct("<Q")


def main(channel: Channel, options: dict[str, Any]) -> None:
    """Make the rows of files as they are asked for."""
    serve(channel, options, lambda reader: packed(_batches(reader)))


def _batches(reader: Reader) -> Iterator[Prepared]:
    batch, leaf = Batch(), b""
    for commit in reader.rest_of_file():
        pairs = zip(commit.payloads, commit.leaves, strict=True)
        for index, (payload, leaf) in enumerate(pairs, commit.first):
            batch.add(recorded(payload, index, reader.node))
            if batch.is_full:
                yield batch.prepared(leaf.hex())
                batch = Batch()
    if batch.events:
        yield batch.prepared(leaf.hex())


def packed(batches: Iterable[Prepared]) -> bytes:
    """Several batches as bytes."""
    sink = io.BytesIO()
    for batch in batches:
        head = {"first": batch.first, "size": batch.size, "time": batch.time, "leaf": batch.leaf,
                "tables": list(batch.tables), "expiring": batch.expiring}  # fmt: skip
        _put(sink, orjson.dumps(head))
        for table in batch.tables.values():
            stream = io.BytesIO()
            with pa.ipc.new_stream(stream, table.schema) as writer:
                writer.write_table(table)
            _put(sink, stream.getbuffer())
    return sink.getvalue()


def unpacked(data: memoryview) -> Iterator[Prepared]:
    """The batches again."""
    while data:
        text, data = _next(data)
        head = orjson.loads(text)
        tables = {}
        for name in head.pop("tables"):
            stream, data = _next(data)
            with pa.ipc.open_stream(pa.py_buffer(stream)) as reader:
                tables[name] = reader.read_all()
        expiring = [tuple(line) for line in head.pop("expiring")]
        yield Prepared(**head, tables=tables, expiring=expiring)


def _put(sink: io.BytesIO, part: bytes | memoryview) -> None:
    sink.write(_LENGTH.pack(len(part)))
    sink.write(part)


def _next(data: memoryview) -> tuple[memoryview, memoryview]:
    (size,) = _LENGTH.unpack_from(data)
    begin = _LENGTH.size
    return data[begin : begin + size], data[begin + size :]
