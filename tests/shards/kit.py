"""Registers tables for the tests the way control does: sealed parts, then `seal_upload`."""

from __future__ import annotations

import io
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gateway.domain.manifest import Manifest
from gateway.shards.ingest import SealedVersion, SealJob, UploadedFile, seal_upload
from gateway.shards.parts import part_place, write_part

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
