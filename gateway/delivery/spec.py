"""LeaseSpec: everything a data worker needs to serve one lease, and how it crosses the link.

Keys travel as payload bytes over the socketpair, never in argv, environment or logs. Shards
and frames are named by path: control asked the object store for them.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from gateway.domain.lease import OrderSpec
from gateway.errors import IntegrityError

_FRAME = struct.Struct("<QII")  # offset, length, rows


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectColumn:
    """One column whose pages hold nothing but values."""

    field_id: int
    name: str
    width: int  # bytes of one value


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectShard:
    """One sealed shard on this host, its verified block table and the keys of its leaves."""

    path: str
    file_bytes: int  # as the Manifest says
    table: bytes = field(repr=False)  # BlockTable, as stored
    table_sha256: str  # as the Manifest says
    aad_file_unique: str  # hex
    deks: Mapping[int, bytes] = field(repr=False)  # field_id -> 32 bytes; planned leaves only


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectSource:
    """Pages of train-profile shards, in the version's order."""

    columns: tuple[DirectColumn, ...]  # in the Plan's order
    shards: tuple[DirectShard, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewSource:
    """Sealed Arrow frames of one view; frame i is block i."""

    view: str  # id that the frames are bound to
    path: str
    key: bytes = field(repr=False)  # 32 bytes
    frames: tuple[tuple[int, int, int], ...] = field(repr=False)  # offset, length, rows
    plan_digest: str | None = None  # the frames are bound to; None = that of the lease
    schema: bytes = field(default=b"", repr=False)  # Arrow IPC schema message of the frames


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseSpec:
    """One lease as its worker sees it."""

    lease: str
    key: bytes = field(repr=False)  # 32 bytes, shared with the client
    boot: str  # of the gateway; part of every signed request
    plan_digest: str
    policy_epoch: int  # at the last judgement
    expires_at: int  # Unix seconds
    order: OrderSpec
    order_key: bytes = field(repr=False)  # 32 bytes; never sent to the client
    source: DirectSource | ViewSource

    @property
    def kind(self) -> str:
        """`direct` or `view`."""
        return "direct" if isinstance(self.source, DirectSource) else "view"


def encode(spec: LeaseSpec) -> tuple[dict[str, Any], bytes]:
    """Return the head (JSON) and the payload (keys, tables) of an `open` message."""
    blobs: list[bytes] = [spec.key, spec.order_key]
    head: dict[str, Any] = {
        "lease": spec.lease,
        "boot": spec.boot,
        "plan_digest": spec.plan_digest,
        "policy_epoch": spec.policy_epoch,
        "expires_at": spec.expires_at,
        "order": asdict(spec.order),
    }
    if isinstance(spec.source, ViewSource):
        names = ("view", "path", "plan_digest")
        head["view"] = {name: getattr(spec.source, name) for name in names}
        frames = b"".join(_FRAME.pack(*f) for f in spec.source.frames)
        blobs += [spec.source.key, frames, spec.source.schema]
    else:
        head["columns"] = [asdict(column) for column in spec.source.columns]
        head["shards"] = [_shard_head(shard) for shard in spec.source.shards]
        for shard in spec.source.shards:
            blobs += [shard.table, *shard.deks.values()]
    head["blobs"] = [len(blob) for blob in blobs]
    return head, b"".join(blobs)


def _shard_head(shard: DirectShard) -> dict[str, Any]:
    return {
        "path": shard.path,
        "file_bytes": shard.file_bytes,
        "table_sha256": shard.table_sha256,
        "aad_file_unique": shard.aad_file_unique,
        "deks": list(shard.deks),
    }


def decode(head: Mapping[str, Any], payload: bytes | bytearray | memoryview) -> LeaseSpec:
    """Undo `encode`; raises IntegrityError when head and payload do not fit."""
    if sum(head["blobs"]) != len(payload):
        raise IntegrityError("a lease's keys do not fit its head")
    blobs = _cut(bytes(payload), head["blobs"])
    key, order_key = next(blobs), next(blobs)
    source: DirectSource | ViewSource
    if "view" in head:
        view_key, frames, schema = next(blobs), next(blobs), next(blobs)
        cut = tuple(_FRAME.iter_unpack(frames))
        source = ViewSource(**head["view"], key=view_key, frames=cut, schema=schema)
    else:
        columns = tuple(DirectColumn(**column) for column in head["columns"])
        shards = tuple(_shard(shard, blobs) for shard in head["shards"])
        source = DirectSource(columns=columns, shards=shards)
    names = ("lease", "boot", "plan_digest", "policy_epoch", "expires_at")
    return LeaseSpec(
        **{name: head[name] for name in names},
        key=key,
        order_key=order_key,
        order=OrderSpec(**head["order"]),
        source=source,
    )


def _cut(payload: bytes, lengths: list[int]) -> Any:
    at = 0
    for length in lengths:
        yield payload[at : at + length]
        at += length


def _shard(head: Mapping[str, Any], blobs: Any) -> DirectShard:
    table = next(blobs)
    deks = {field_id: next(blobs) for field_id in head["deks"]}
    return DirectShard(**{**head, "table": table, "deks": deks})
