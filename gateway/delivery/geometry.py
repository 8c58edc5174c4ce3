"""Rows and bytes of a lease's blocks, its segments, and the lease manifest: no file is opened.

Control computes these when it opens a lease, the worker computes them again from the spec.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

from gateway.crypto.pages import FRAME_OVERHEAD_BYTES
from gateway.delivery.spec import DirectSource, LeaseSpec, ViewSource
from gateway.domain.block_table import BlockTable
from gateway.domain.order import Segment, lay_out, order_id, window_key
from gateway.wire.leases import LEASE_MANIFEST_FORMAT, LeaseColumn, LeaseManifest, OrderRequest

Geometry = tuple[list[int], list[int]]  # rows and plaintext bytes of each block


def tables_of(source: DirectSource) -> list[BlockTable]:
    """Read and verify the block tables; raises IntegrityError."""
    return [
        BlockTable.from_bytes(s.table, digest=s.table_sha256, file_bytes=s.file_bytes)
        for s in source.shards
    ]


def direct_geometry(source: DirectSource, tables: Sequence[BlockTable]) -> Geometry:
    """Blocks of all shards, in the version's order."""
    width = sum(column.width for column in source.columns)
    rows = [rows for table in tables for _, _, rows in table.blocks]
    return rows, [count * width for count in rows]


def view_geometry(source: ViewSource) -> Geometry:
    """Frames of a view."""
    rows = [rows for _, _, rows in source.frames]
    return rows, [length - FRAME_OVERHEAD_BYTES for _, length, _ in source.frames]


def segments_of(spec: LeaseSpec) -> tuple[Segment, ...]:
    """Return every segment of the lease, in the order of their numbers."""
    if isinstance(spec.source, ViewSource):
        rows, sizes = view_geometry(spec.source)
    else:
        rows, sizes = direct_geometry(spec.source, tables_of(spec.source))
    return lay_out(spec.order_key, spec.order, rows, sizes)


def manifest_of(
    spec: LeaseSpec,
    segments: Sequence[Segment],
    *,
    dataset: str,
    split: str | None,
    columns: Sequence[LeaseColumn],
    schema: bytes | None = None,
) -> LeaseManifest:
    """Return what the client will verify against; control signs it.

    Args:
        spec: the lease.
        segments: `segments_of(spec)`.
        dataset: reference with version.
        split: as in the Plan.
        columns: in the order of the spec's columns; with dtype and shape when direct.
        schema: of a view: the Arrow schema as encapsulated IPC message.
    """
    lanes: list[list[int]] = [[] for _ in range(spec.order.lanes)]
    for segment in segments:
        lanes[segment.lane].append(segment.rows)
    order = spec.order
    return LeaseManifest(
        format=LEASE_MANIFEST_FORMAT,
        lease=spec.lease,
        dataset=dataset,
        split=split,
        kind=spec.kind,
        plan_digest=spec.plan_digest,
        columns=tuple(columns),
        schema=None if schema is None else base64.b64encode(schema).decode(),
        rows=sum(map(sum, lanes)),
        lanes=tuple(tuple(lane) for lane in lanes),
        order=OrderRequest(
            seed=order.seed,
            epoch=order.epoch,
            shuffle=order.shuffle,
            lanes=order.lanes,
            window_blocks=order.window_blocks,
            rank=order.rank,
            world=order.world,
        ),
        order_id=order_id(spec.order_key, spec.order),
        window_key=window_key(spec.order_key).hex() if order.shuffle else "",
        boot=spec.boot,
    )
