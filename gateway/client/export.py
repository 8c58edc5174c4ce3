"""Take a dataset out: plain Parquet, or the sealed shards with a file of their keys.

Everything is written into a directory beside the target and renamed when it is whole: what
stands under the name that was asked for is complete, and nothing that is cut off looks so.
A plain copy is a stream like any other (filters, masks, limits, revocation, lineage).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gateway.wire as W
from gateway.client.export_keys import column_paths, key_file
from gateway.client.records import Record
from gateway.client.streaming import granted_token, open_under
from gateway.client.targets import segment
from gateway.errors import Conflict, IntegrityError, InvalidInput, LimitExceeded, StreamBroken
from gateway.wire import codec

if TYPE_CHECKING:
    from gateway.client.client import GatewayClient, Progress

MANIFEST_FORMAT = "gateway-export/v1"
MANIFEST = "manifest.json"
DATA = "data"  # the directory of the files, which can be registered as it is
_BATCH_ROWS = 1024
_GROUP_BYTES = 64 << 20  # Arrow bytes of a row group
_GROUP_ROWS = 1 << 20
_FILE_BYTES = 1 << 30  # Arrow bytes after which a new file begins


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a copy goes, and who is told how far it is."""

    out: Path
    keys_to: Path | None = None
    progress: Progress | None = None

    def require_free(self) -> None:
        """Raise Conflict before anything is asked for."""
        if self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir())):
            raise Conflict(f"`{self.out}` is there already", advice="name a directory that is not")
        if self.keys_to is not None and (self.keys_to.exists() or self.keys_to.is_symlink()):
            raise Conflict(f"`{self.keys_to}` is there already", advice="name another key file")

    def report(self, what: str, done: float) -> None:
        """Tell how far it is."""
        if self.progress is not None:
            self.progress(what, done)


@contextlib.contextmanager
def _growing(out: Path) -> Iterator[Path]:
    """A new directory beside `out`, which takes its name when all went well."""
    out.parent.mkdir(parents=True, exist_ok=True)
    growing = out.with_name(f".{out.name}.{secrets.token_hex(4)}.partial")
    (growing / DATA).mkdir(mode=0o700, parents=True)
    try:
        yield growing
        os.replace(growing, out)  # noqa: PTH105 - onto an empty directory, which Path.rename may refuse
        _sync(out.parent)
    finally:
        shutil.rmtree(growing, ignore_errors=True)


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


# plain


def plain(gateway: GatewayClient, dataset: str, ask: Mapping[str, Any], target: Target) -> Record:
    """Stream what the Plan lets through into Parquet files with the real names and types."""
    target.require_free()
    token = granted_token(gateway.transport, dataset, None, {**ask, "action": "export"})
    how = {"output": "arrow", "batch_size": _BATCH_ROWS, "uneven": "pad"}
    with (
        open_under(gateway.transport, token, how, None, gateway.settings) as stream,
        _growing(target.out) as growing,
    ):
        about = f"/v1/grants/{segment(str(token.grant))}"
        _require_room(gateway.get(about), stream.manifest.rows)
        files = _write(stream, growing / DATA, target)
        grant = gateway.get(about)
        manifest = _manifest(gateway, grant, kind="plain", files=files)
        _write_json(growing / MANIFEST, manifest)
    return Record({**manifest, "out": str(target.out)}, gateway)


def _require_room(grant: Mapping[str, Any], rows: int) -> None:
    """Raise LimitExceeded before the first row when the whole copy is known to be too much.

    How many bytes a view has is not known before; that limit ends the copy where it is reached.
    """
    most = grant["limits"]["max_rows"]
    if most is not None and grant["rows_charged"] + rows > most:
        raise LimitExceeded(
            f"the copy has {rows} rows, and the grant allows {most - grant['rows_charged']} more",
            advice="ask for more rows, or for one split",
            limit="max_rows",
        )


def _write(stream: Any, folder: Path, target: Target) -> list[dict[str, Any]]:
    import pyarrow as pa

    described = stream.manifest
    schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(described.schema or "")))
    writer = _Files(folder, schema)
    with contextlib.closing(writer):
        for batch in stream:
            writer.add(batch)
            target.report(f"export {described.dataset}", writer.rows / max(described.rows, 1))
        files = writer.finish()
    if writer.rows != described.rows:
        raise StreamBroken(f"{writer.rows} rows arrived of {described.rows}")
    return files


class _Files:
    """Parquet files, one after another, each bounded; one row group in memory."""

    def __init__(self, folder: Path, schema: Any) -> None:
        self._folder, self._schema = folder, schema
        self._writer: Any = None
        self._pending: list[Any] = []
        self._bytes = self._file_bytes = self._file_rows = self.rows = 0
        self._done: list[dict[str, Any]] = []

    def add(self, batch: Any) -> None:
        self._pending.append(batch)
        self._bytes += batch.nbytes
        self.rows += batch.num_rows
        if self._bytes >= _GROUP_BYTES or len(self._pending) * _BATCH_ROWS >= _GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq  # the caller's own copy: not the gateway's storage

        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path(), self._schema, compression="zstd")
        table = pa.Table.from_batches(self._pending, self._schema)
        self._writer.write_table(table, row_group_size=_GROUP_ROWS)
        self._file_rows += table.num_rows
        self._file_bytes += self._bytes
        self._pending, self._bytes = [], 0
        if self._file_bytes >= _FILE_BYTES:
            self._close_file()

    def _path(self) -> Path:
        return self._folder / f"part-{len(self._done):05d}.parquet"

    def _close_file(self) -> None:
        path = self._path()
        self.close()
        self._done.append(_described(path, rows=self._file_rows))
        self._file_bytes = self._file_rows = 0

    def finish(self) -> list[dict[str, Any]]:
        """Write what is left; a copy without rows has one file, which has the columns."""
        if self._pending or not (self._done or self._writer):
            self._flush()
        if self._writer is not None:
            self._close_file()
        return self._done

    def close(self) -> None:
        """Close the open file, whole or not."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()


def _described(path: Path, **facts: Any) -> dict[str, Any]:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
        os.fsync(file.fileno())
    name = f"{DATA}/{path.name}"
    return {"name": name, "bytes": path.stat().st_size, "sha256": digest.hexdigest(), **facts}


# encrypted


def encrypted(
    gateway: GatewayClient, dataset: str, ask: Mapping[str, Any], target: Target
) -> Record:
    """Download the shards as they are stored, and write the keys of what was approved."""
    assert target.keys_to is not None
    target.require_free()
    wanted = codec.decode(W.ExportRequest, {"dataset": dataset, **ask})
    released = codec.decode_reply(W.Export, gateway.post("/v1/exports", wanted))
    with _growing(target.out) as growing:
        files = [
            _download(gateway, released, number, growing / DATA, target)
            for number in range(len(released.shards))
        ]
        grant = gateway.get(f"/v1/grants/{segment(released.id)}")
        manifest = _manifest(gateway, grant, kind="encrypted", files=files)
        _write_json(growing / MANIFEST, manifest)
        paths = column_paths(growing / DATA, released)
        _write_keys(target.keys_to, key_file(released, paths))
    return Record(
        {**manifest, "out": str(target.out), "keys_to": str(target.keys_to),
         "keys": len(released.keys)},
        gateway,
    )  # fmt: skip


def _download(
    gateway: GatewayClient, released: W.Export, number: int, folder: Path, target: Target
) -> dict[str, Any]:
    shard = released.shards[number]
    path = folder / f"{file_name_of(shard.id)}.parquet"
    digest, at = hashlib.sha256(), 0
    with path.open("xb") as file:
        while at < shard.bytes:
            url = f"/v1/exports/{segment(released.id)}/shards/{number}"
            part = gateway.transport.request("GET", url, query={"start": at}).body
            if not part or at + len(part) > shard.bytes:
                raise IntegrityError("a shard has another size than the export says")
            file.write(part)
            digest.update(part)
            at += len(part)
            done = (number + at / shard.bytes) / len(released.shards)
            target.report(f"export {released.dataset}", done)
        file.flush()
        os.fsync(file.fileno())
    if digest.hexdigest() != shard.sha256:
        raise IntegrityError("a shard arrived with other bytes than the export says")
    return {"name": f"{DATA}/{path.name}", "bytes": at, "sha256": shard.sha256,
            "rows": shard.rows, "split": shard.split}  # fmt: skip


def file_name_of(shard_id: str) -> str:
    """A shard's id as a file name; whatever a server says, it names nothing elsewhere."""
    if not (shard_id.isascii() and shard_id.isalnum()):
        raise IntegrityError("a shard has an id that is none")
    return shard_id


def _write_keys(path: Path, value: Mapping[str, Any]) -> None:
    """0600, whole or not at all, and never over anything."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            json.dump(value, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.link(partial, path)
        _sync(path.parent)
    except FileExistsError as cause:
        raise Conflict(f"`{path}` is there already", advice="name another key file") from cause
    finally:
        partial.unlink()


# both


def _manifest(
    gateway: GatewayClient, grant: Mapping[str, Any], *, kind: str, files: list[dict[str, Any]]
) -> dict[str, Any]:
    """What the copy is, and where in the log it is proved."""
    names = ("dataset", "subject", "purpose", "columns", "row_filter", "split", "decision", "run")
    return {
        "format": MANIFEST_FORMAT,
        "kind": kind,
        **{name: grant[name] for name in names},
        "grant": grant["id"],
        "granted_at": grant["granted_at"],
        "rows": sum(file["rows"] for file in files),
        "files": files,
        "checkpoint": gateway.get("/v1/lineage/checkpoint")["note"],
    }


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    with path.open("x", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())


def require_sense(*, is_encrypted: bool, keys_to: Path | None) -> None:
    """`encrypted` and `keys_to` belong together."""
    if is_encrypted != (keys_to is not None):
        raise InvalidInput(
            "an encrypted copy needs a key file, and a plain one has none",
            advice="use --encrypted --keys-to FILE, or neither",
        )
