"""Where a lease's bytes come from: pages of the shards, or a view made for the Plan.

A view is derived and bounded: its key lives in this process only, its file dies with the
process, with its dataset, or when it is the least recently used. It is never shared between
recipient tenants.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.crypto.envelope import derive
from gateway.delivery.spec import DirectColumn, DirectShard, DirectSource, ViewSource
from gateway.domain.access import Plan, digest_of
from gateway.domain.events import EventKind
from gateway.domain.layout import width_of
from gateway.domain.lease import Grant
from gateway.domain.manifest import BlockTable, Manifest
from gateway.errors import GatewayError, IntegrityError, LeaseRevoked
from gateway.services import fetch
from gateway.services.granted import granted
from gateway.services.house import House
from gateway.services.operations import Operation, Report
from gateway.services.storage import local_path, open_keys, version_of
from gateway.shards import views
from gateway.shards.geometry import FRAME_BYTES
from gateway.shards.views import ViewFile, ViewJob
from gateway.wire.leases import LeaseColumn

VIEW_BYTES_MAX = 64 << 30  # of all views together
is_direct = views.is_direct


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Rows and plaintext bytes of each block, and how a client reads them."""

    rows: tuple[int, ...]
    sizes: tuple[int, ...]
    columns: tuple[LeaseColumn, ...]
    schema: str | None  # base64 of the Arrow schema message, for a view


def direct_source(house: House, manifest: Manifest, plan: Plan) -> tuple[DirectSource, Geometry]:
    """Pages of the planned leaves, with their keys and nobody else's."""
    version = version_of(house, plan.dataset)
    field_ids = [column.field_id for column in plan.columns]
    shards = manifest.shards_of(plan.split)
    leaves = [leaf for shard in shards for leaf in shard.leaves_of(set(field_ids))]
    keys = open_keys(house, version, leaves)
    stored = [house.store.read(shard.table_key) for shard in shards]
    tables = [
        BlockTable.from_bytes(data, digest=shard.table_sha256, file_bytes=shard.bytes)
        for shard, data in zip(shards, stored, strict=True)
    ]
    widths = _widths(manifest, tables, field_ids)
    columns = tuple(
        DirectColumn(field_id=c.field_id, name=c.name, width=widths[c.field_id])
        for c in plan.columns
    )
    found = tuple(
        DirectShard(
            path=local_path(house, shard),
            file_bytes=shard.bytes,
            table=data,
            table_sha256=shard.table_sha256,
            aad_file_unique=shard.aad_file_unique,
            deks={int(leaf.name): keys[leaf.dek] for leaf in shard.leaves_of(set(field_ids))},
        )
        for shard, data in zip(shards, stored, strict=True)
    )
    rows = tuple(rows for table in tables for _, _, rows in table.blocks)
    width = sum(column.width for column in columns)
    geometry = Geometry(
        rows=rows,
        sizes=tuple(r * width for r in rows),
        columns=tuple(_direct_column(manifest, c.field_id) for c in columns),
        schema=None,
    )
    return DirectSource(columns=columns, shards=found), geometry


def _widths(manifest: Manifest, tables: list[BlockTable], field_ids: list[int]) -> dict[int, int]:
    """Bytes per value: by the type, since a split without rows has no tables."""
    found = {i: width_of(manifest.column(i).type) for i in field_ids}
    for table in tables:
        for column in table.columns:
            if found.get(column.field_id, column.width) != column.width:
                raise IntegrityError("a shard disagrees about the width of a column")
    return found


def _direct_column(manifest: Manifest, field_id: int) -> LeaseColumn:
    column = manifest.column(field_id)
    dtype, shape = views.numpy_layout(column.type)
    return LeaseColumn(
        name=column.name,
        arrow=column.type,
        dtype=dtype,
        shape=shape,
        metadata=dict(manifest.metadata.get(str(field_id), {})),
    )


@dataclass(slots=True)
class Views:
    """Finished and unfinished views, least recently used first."""

    _ready: OrderedDict[str, ViewFile] = field(default_factory=OrderedDict)
    building: dict[str, str] = field(default_factory=dict)  # key -> operation id
    failed: dict[str, GatewayError] = field(default_factory=dict)  # told once, then tried again

    def drop(self, dataset_id: str) -> None:
        """Forget the keys and delete the files of every view of a dataset."""
        for key in [k for k in self._ready if k.startswith(dataset_id)]:
            delete_view(self._ready.pop(key))

    def count(self, dataset_id: str) -> int:
        """How many views of a dataset there are."""
        return sum(key.startswith(dataset_id) for key in self._ready)

    def keep(self, key: str, view: ViewFile) -> None:
        """Add a finished view and evict the least recently used beyond the bound."""
        self._ready[key] = view
        total = sum(v.bytes for v in self._ready.values())
        while total > VIEW_BYTES_MAX and len(self._ready) > 1:
            _, oldest = self._ready.popitem(last=False)
            total -= oldest.bytes
            delete_view(oldest)

    def find(self, key: str) -> ViewFile | None:
        """A finished view, which is now the most recently used."""
        if key in self._ready:
            self._ready.move_to_end(key)
        return self._ready.get(key)


def delete_view(view: ViewFile) -> None:
    """Remove its file; harmless twice."""
    with contextlib.suppress(FileNotFoundError):
        Path(view.path).unlink()


def view_source(
    house: House, manifest: Manifest, grant: Grant
) -> tuple[ViewSource, Geometry] | str:
    """The view of a Grant's Plan, or the id of the Operation that builds it.

    Raises:
        GatewayError: building it failed; the next call tries again.
    """
    plan = grant.plan
    key = (
        f"{manifest.dataset_id}/{manifest.version}/{digest_of(plan.cells())}/{grant.subject_tenant}"
    )
    known = house.views
    found = known.find(key)
    if found is not None:
        return _source(
            found,
            tuple(
                LeaseColumn(name=c.name, arrow=manifest.column(c.field_id).type)
                for c in plan.columns
            ),
        )
    if key in known.failed:
        raise known.failed.pop(key)
    shards = manifest.shards_of(plan.split)
    if key not in known.building and (
        fetching := fetch.under_way(house, shards, grant.subject_tenant)
    ):
        return fetching
    if key not in known.building:
        operation = Operation(
            id=house.id("op_"),
            kind="view",
            tenant=grant.subject_tenant,
            started_at=house.now(),
            detail="waiting",
        )
        known.building[key] = operation.id

        async def act(report: Report) -> dict[str, Any]:
            return await _build(house, manifest, grant, (key, operation.id), report)

        house.operations.start(operation, act)
    return known.building[key]


def view_job(house: House, manifest: Manifest, grant: Grant, operation_id: str) -> ViewJob:
    """Keys of the planned and filtered leaves only; a mask key for this recipient alone."""
    plan = grant.plan
    keys = open_keys(house, version_of(house, plan.dataset), views.needed_leaves(manifest, plan))
    return ViewJob(
        view=operation_id.replace("op_", "view_"),
        manifest=manifest,
        plan=plan,
        plan_digest=digest_of(plan.cells()),
        paths={s.id: local_path(house, s) for s in manifest.shards_of(plan.split)},
        deks=keys,
        mask_key=derive(
            house.vault.secret("masks"), "mask", manifest.dataset_id, grant.subject_tenant
        ),
        out=str(house.places.views / operation_id),
    )


def _source(view: ViewFile, columns: tuple[LeaseColumn, ...]) -> tuple[ViewSource, Geometry]:
    source = ViewSource(
        view=view.view, path=view.path, key=view.key, frames=view.frames, schema=view.schema
    )
    geometry = Geometry(
        rows=tuple(rows for _, _, rows in view.frames),
        sizes=tuple(length for _, length, _ in view.frames),
        columns=columns,
        schema=base64.b64encode(view.schema).decode(),
    )
    return source, geometry


def bound_to_frames(order_key: bytes, source: DirectSource | ViewSource) -> bytes:
    """A view's order is of its frames: cut otherwise, it would be another under the same id."""
    return derive(order_key, "frames", FRAME_BYTES) if isinstance(source, ViewSource) else order_key


def _require_unrevoked(house: House, grant: Grant, view: ViewFile) -> None:
    """What was revoked, or erased, while its view was built leaves no view."""
    if house.catalog.grant(grant.id).revoked:
        delete_view(view)
        raise LeaseRevoked("the grant of this view was revoked")


async def _build(
    house: House, manifest: Manifest, grant: Grant, names: tuple[str, str], report: Report
) -> dict[str, Any]:
    key, operation_id = names
    try:
        job = await house.aside(view_job, house, manifest, grant, operation_id)
        view = await asyncio.to_thread(views.build_view, job, report)
        await house.recorded(
            granted(
                EventKind.ViewBuilt,
                grant,
                {
                    "view": view.view,
                    "dataset_id": manifest.dataset_id,
                    "version": manifest.version,
                    "plan_digest": view.plan_digest,
                    "rows": view.rows,
                },
            )
        )
        _require_unrevoked(house, grant, view)
        house.views.keep(key, view)
    except GatewayError as error:
        house.views.failed[key] = error
        raise
    except Exception:  # whoever waits must hear of it, or would ask for the view for ever
        house.views.failed[key] = GatewayError("the view could not be built")
        raise
    finally:
        house.views.building.pop(key, None)
    return {"view": view.view, "rows": view.rows}
