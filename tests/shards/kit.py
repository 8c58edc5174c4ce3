"""Registers tables for the tests the way control does: sealed parts, then `seal_upload`."""

from __future__ import annotations

import io
import secrets
import socket
import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gateway.domain.manifest import Manifest
from gateway.process.channel import Channel, Message
from gateway.shards import ingest, parser, sealer
from gateway.shards.ingest import SealedVersion, SealJob, UploadedFile, seal_upload
from gateway.shards.parts import part_place, write_part
from gateway.shards.reader import ShardReader, file_plan

SPLIT_KEY = bytes(range(32))


def parquet_bytes(table: Any, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def ipc_bytes(
    table: Any, *, stream: bool = False, rows: int | None = None, compression: str | None = None
) -> bytes:
    sink = io.BytesIO()
    make = pa.ipc.new_stream if stream else pa.ipc.new_file
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with make(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=rows)
    return sink.getvalue()


def job_of(
    folder: Path, contents: Sequence[bytes], *, part_bytes: int = 3 << 20, **options: Any
) -> SealJob:
    key = secrets.token_bytes(32)
    uploads, staging = folder / f"up-{uuid.uuid4().hex}", folder / f"st-{uuid.uuid4().hex}"
    uploads.mkdir()
    staging.mkdir()
    files = []
    for number, content in enumerate(contents):
        pieces = [content[at : at + part_bytes] for at in range(0, len(content), part_bytes)]
        paths = []
        for part, piece in enumerate(pieces or [b""]):
            path = uploads / f"{number}.{part}"
            write_part(path, key, [piece], place=part_place(number, part))
            paths.append(str(path))
        files.append(UploadedFile(name=f"file{number}", parts=tuple(paths)))
    return SealJob(
        dataset_id=uuid.uuid4().hex,
        version=options.pop("version", 1),
        files=tuple(files),
        parts_key=key,
        split_key=SPLIT_KEY,
        staging=str(staging),
        **options,
    )


def seal(folder: Path, *contents: bytes, **options: Any) -> SealedVersion:
    return seal_upload(job_of(folder, contents, **options), lambda _f, _t: None)


@dataclass(frozen=True)
class Registered:
    sealed: SealedVersion
    manifest: Manifest

    def path(self, shard: int = 0) -> str:
        return self.sealed.shards[shard].path

    @property
    def paths(self) -> dict[str, str]:
        return {sealed.shard.id: sealed.path for sealed in self.sealed.shards}

    @property
    def keys(self) -> dict[str, bytes]:
        return {name: dek.key for name, dek in self.sealed.deks.items()}


def register(folder: Path, *contents: bytes, **options: Any) -> Registered:
    sealed = seal(folder, *contents, **options)
    return Registered(sealed, sealed.manifest("clinic/icu", card={}))


class _Here(ingest._Watch):
    """Control's side of a registration, without processes to watch."""

    __slots__ = ("channel",)

    def __init__(self, job: SealJob, channel: Channel) -> None:
        nobody: Any = None
        super().__init__(job, nobody, nobody, lambda _fraction, _text: None)
        self.channel = channel

    def _next(self) -> Message:
        return self.channel.receive()


def register_here(folder: Path, *contents: bytes, **options: Any) -> Registered:
    """Like `register`, parser and sealer being threads of this process: for many small files."""
    job = job_of(folder, contents, **options)
    pairs = {name: socket.socketpair() for name in ("stream", "files", "control")}
    ends = [{n: pairs[n][side].detach() for n in ("stream", "files")} for side in (0, 1)]
    near, far = (Channel(end) for end in pairs["control"])
    near.socket.settimeout(60)  # a child that fails would be seen to end
    told = [{"name": file.name, "partition": file.partition} for file in job.files]
    parsing = {"descriptors": ends[1], "files": told, "profile": job.profile}
    threads = [
        threading.Thread(target=sealer.main, args=(far, {"descriptors": ends[0]})),
        threading.Thread(target=parser.main, args=(_Lives, parsing)),
    ]
    for thread in threads:
        thread.start()
    body, payload = job.to_message()
    near.send("seal", payload, **body)
    try:
        sealed = _Here(job, near).run()
    finally:
        for thread in threads:
            thread.join()
        near.close()
        far.close()
    return Registered(sealed, sealed.manifest("clinic/icu", card={}))


class _Lives:
    """A parser's link to control that never tells it to die."""

    @staticmethod
    def receive() -> None:
        pass


def read_back(registered: Registered, split: str | None = None, *, rows: int = 1000) -> Any:
    """All columns as one table, through the guarded reader."""
    manifest = registered.manifest
    plan = file_plan(manifest)
    ids = tuple(column.field_id for column in manifest.columns)
    batches = []
    for shard in manifest.shards_of(split):
        reader = ShardReader(registered.paths[shard.id], plan, shard, registered.keys)
        batches += list(reader.batches(ids, rows=rows))
        reader.close()
    return pa.Table.from_batches(batches, plan.schema)
