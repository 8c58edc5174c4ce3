"""A parser that hostile bytes have taken over: it speaks the protocol and lies.

Started in the parser's place with `{"lie": name}`; every public function here is one lie.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from gateway.process.channel import Channel

SCHEMA = pa.schema([("a", pa.int64()), ("t", pa.string())])


def main(channel: Channel, options: dict[str, Any]) -> None:
    """Tell one lie."""
    del channel
    stream = Channel(socket.socket(fileno=options["descriptors"]["stream"]))
    files = Channel(socket.socket(fileno=options["descriptors"]["files"]))
    globals()[options["lie"]](stream, files)
    time.sleep(600)


def _plan(stream: Channel, schema: Any = SCHEMA, **body: Any) -> None:
    said = {"rows": 10, "whole": [], "formats": ["csv"], **body}
    stream.send("plan", memoryview(schema.serialize()).cast("B"), **said)


def _batch(rows: int = 3, texts: Any = None) -> Any:
    texts = texts if texts is not None else pa.array(["x"] * rows)
    return pa.RecordBatch.from_arrays([pa.array(range(rows)), texts], schema=SCHEMA)


def _send(stream: Channel, batch: Any) -> None:
    stream.send("batch", memoryview(batch.serialize()).cast("B"))
    stream.send("done")


def _text(offsets: bytes, data: bytes = b"abc", rows: int = 3, nulls: int = 0) -> Any:
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.string(), rows, buffers, null_count=nulls)


def _honest(stream: Channel, _files: Channel) -> None:
    _plan(stream)
    _send(stream, _batch())


def offsets_beyond_their_data(stream: Channel, _files: Channel) -> None:
    _plan(stream)
    _send(stream, _batch(texts=_text(struct.pack("<4i", 0, 1, 2, 1 << 30))))


def offsets_that_go_back(stream: Channel, _files: Channel) -> None:
    _plan(stream)
    _send(stream, _batch(texts=_text(struct.pack("<4i", 0, 3, 1, 3))))


def negative_offsets(stream: Channel, _files: Channel) -> None:
    _plan(stream)
    _send(stream, _batch(texts=_text(struct.pack("<4i", -100, 1, 2, 3))))


def text_that_is_not_utf8(stream: Channel, _files: Channel) -> None:
    _plan(stream)
    _send(stream, _batch(texts=_text(struct.pack("<4i", 0, 1, 2, 3), b"\xff\xfe\xfd")))


def lengths_and_null_counts_of_all_kinds(stream: Channel, _files: Channel) -> None:
    _plan(stream)
    frame = bytearray(memoryview(_batch().serialize()).cast("B"))
    # the FieldNode (length 3, nulls 0) of a column: a flatbuffer struct of two int64
    node = struct.pack("<qq", 3, 0)
    at = frame.find(node)
    assert at > 0
    frame[at : at + 16] = struct.pack("<qq", 1 << 40, -7)
    stream.send("batch", bytes(frame))


def more_nulls_than_there_are(stream: Channel, _files: Channel) -> None:
    _plan(stream)
    frame = bytearray(memoryview(_batch().serialize()).cast("B"))
    at = frame.rfind(struct.pack("<qq", 3, 0), 0, len(frame) // 2 + 200)
    frame[at : at + 16] = struct.pack("<qq", 3, 3)
    stream.send("batch", bytes(frame))


def another_schema_than_declared(stream: Channel, _files: Channel) -> None:
    _plan(stream)
    other = pa.record_batch({"a": ["x", "y"], "t": [1.5, 2.5]})
    _send(stream, other)


def fewer_columns_than_declared(stream: Channel, _files: Channel) -> None:
    _plan(stream)
    _send(stream, pa.record_batch({"a": [1, 2]}))


def missing_values_where_none_are_declared(stream: Channel, _files: Channel) -> None:
    _plan(stream, whole=[0, 1])
    _send(stream, _batch(texts=pa.array(["x", None, "y"])))


def a_schema_that_is_rubbish(stream: Channel, _files: Channel) -> None:
    stream.send(
        "plan", b"\xff\xff\xff\xff\x10\0\0\0" + b"\xee" * 64, rows=1, whole=[], formats=["x"]
    )


def a_schema_of_types_that_never_enter(stream: Channel, _files: Channel) -> None:
    union = pa.sparse_union([pa.field("x", pa.int8())])
    _plan(stream, pa.schema([("a", union)]))


def a_plan_of_other_words(stream: Channel, _files: Channel) -> None:
    _plan(stream, rows="many", whole={"a": 1})


def columns_without_missing_values_that_do_not_exist(stream: Channel, _files: Channel) -> None:
    _plan(stream, whole=[-1, 99, 1 << 60])
    _send(stream, _batch(texts=pa.array(["x", None, "y"])))
    stream.send("batch", b"")


def a_batch_without_rows(stream: Channel, _files: Channel) -> None:
    _plan(stream)
    while True:
        stream.send("batch", memoryview(_batch(0, pa.array([], pa.string())).serialize()).cast("B"))


def batches_without_end(stream: Channel, _files: Channel) -> None:
    _plan(stream, rows=1 << 40)
    frame = memoryview(_batch(100_000).serialize()).cast("B")
    while True:
        stream.send("batch", frame)


def a_frame_larger_than_allowed(stream: Channel, _files: Channel) -> None:
    _plan(stream)
    stream.socket.sendall(struct.pack(">IQ", 16, 1 << 40))


def a_head_that_is_not_json(stream: Channel, _files: Channel) -> None:
    stream.socket.sendall(struct.pack(">IQ", 4, 0) + b"\xff\xff{}")


def a_head_nested_without_end(stream: Channel, _files: Channel) -> None:
    head = b'{"kind":' + b"[" * 100_000
    stream.socket.sendall(struct.pack(">IQ", len(head), 0) + head)


def bytes_of_files_there_are_not(stream: Channel, files: Channel) -> None:
    files.send("read", file=7, at=-1, length=1 << 62)
    files.receive()


def progress_that_is_no_number(stream: Channel, _files: Channel) -> None:
    for said in ("x", None, float("nan"), float("inf"), -5.0, [1]):
        stream.send("working", fraction=said)
    _plan(stream)
    _send(stream, _batch(0, pa.array([], pa.string())))


def a_refusal_with_a_terminal_in_it(stream: Channel, _files: Channel) -> None:
    stream.send("refused", message="\x1b[2J\u202eevil" + "x" * 5000, advice="\x07" * 10)


def nothing_and_the_end(_stream: Channel, _files: Channel) -> None:
    os._exit(0)


def a_crash(_stream: Channel, _files: Channel) -> None:
    os.abort()


def a_loop(_stream: Channel, _files: Channel) -> None:
    while True:
        pass


def a_flood_on_stderr(_stream: Channel, _files: Channel) -> None:
    for _ in range(1000):
        sys.stderr.write("flood " * 10_000)
    os._exit(1)


def memory_without_end(_stream: Channel, _files: Channel) -> None:
    held = []
    while True:
        held.append(bytearray(os.urandom(1 << 20)))


def silence(_stream: Channel, _files: Channel) -> None:
    time.sleep(600)


def one_row_now_and_then(stream: Channel, _files: Channel) -> None:
    _plan(stream, rows=1 << 40)
    while True:
        time.sleep(0.05)
        stream.send("batch", memoryview(_batch(1).serialize()).cast("B"))


def _reach_out(stream: Channel, _files: Channel) -> None:
    """Try what a file could make a parser do, and tell what worked."""
    import pyarrow.parquet as pq

    tries: dict[str, Callable[[], Any]] = {
        "a file": lambda: Path("/etc/passwd").read_bytes(),
        "a file by Arrow": lambda: pa.OSFile("/etc/passwd").read(),
        "file:// by Parquet": lambda: pq.read_table("file:///etc/passwd"),
        "a file to write": lambda: Path("/tmp/reached").write_bytes(b"x"),  # noqa: S108
        "the network": lambda: socket.create_connection(("127.0.0.1", 9), timeout=2),
        "a program": lambda: subprocess.run(["/bin/true"], check=True),
        "the memory of its parent": lambda: Path(f"/proc/{os.getppid()}/mem").open("rb").close(),
    }
    worked = []
    for name, attempt in tries.items():
        try:
            attempt()
        except ConnectionRefusedError:
            worked.append(name)  # there was a network that could refuse
        except Exception:  # noqa: BLE001, S112 - that it fails is the point
            continue
        else:
            worked.append(name)
    stream.send("refused", message="reached: " + (", ".join(worked) or "nothing"), advice="-")
