"""A look at the first rows that a Plan lets through; judged and recorded as a stream is.

(1) the ask, action `preview`, becomes a Decision and a Grant of one minute, which says how
many rows; (2) a decoder child builds the view of just these rows: filtered, masked, sealed;
(3) the rules are judged again, for building takes time; (4) lease and intent are durable with
rows and bytes; (5) only then are the frames opened; (6) they go out as the Arrow messages
that the child made, since no serving process decodes them; the view is deleted.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
from pathlib import Path

import gateway.wire as W
from gateway.crypto.pages import open_frame
from gateway.domain.access import Limits, Plan, digest_of
from gateway.domain.events import EventDraft, EventKind
from gateway.domain.lease import Grant, OrderSpec
from gateway.domain.manifest import Manifest
from gateway.errors import IntegrityError, InvalidInput, LimitExceeded, NotFound, Unavailable
from gateway.services import (
    down_scope,
    fetch,
    request_access,
    shapes,
    sources,
    stream,
    tenant_limits,
)
from gateway.services.granted import granted
from gateway.services.house import House
from gateway.services.request_access import Ask, Caller
from gateway.services.storage import load_manifest
from gateway.shards import views
from gateway.shards.views import ViewFile
from gateway.wire.exports import PREVIEW_ROWS_MAX

GRANT_SECONDS = 60
AT_ONCE_MAX = 4  # previews being built; each is a child process
_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_building = 0


async def preview(house: House, caller: Caller, ask: Ask, rows: int) -> W.Preview:
    """Release at most `rows` rows of what the caller may preview.

    Raises:
        AccessDenied, NotFound: as for a stream.
        LimitExceeded: the rows are more bytes than the rules allow.
        Unavailable: too many previews at once.
    """
    if not 1 <= rows <= PREVIEW_ROWS_MAX:
        raise InvalidInput(f"a preview has 1 to {PREVIEW_ROWS_MAX} rows", field="rows")
    within = Limits(max_rows=rows, expires_at=int(house.now()) + GRANT_SECONDS)
    wanted = dataclasses.replace(ask, action="preview", limits=ask.limits.least(within))
    decision, grant = await request_access.request_grant(house, caller, wanted)  # (1)
    try:
        manifest = await house.aside(load_manifest, house, grant.plan.dataset)
        view = await _build(house, _head(manifest, grant.plan, rows), grant)  # (2)
    except (IntegrityError, NotFound) as error:
        raise await stream.refused_as_changed(house, grant, error) from error
    try:
        down_scope.own_grant(house, caller.subject, grant.id)
        await stream.judge_again(house, grant)  # (3)
        lease = await _intend(house, grant, view)  # (4)
        try:
            arrow = _opened(view)  # (5)
            house.record(_confirmation(grant, lease, view))
        finally:
            await house.recorded(
                _about(grant, EventKind.LeaseClosed, lease=lease, reason_code="returned")
            )
    finally:
        sources.delete_view(view)
    plan = shapes.plan_view(grant.plan)
    return W.Preview(
        dataset=plan.dataset,
        decision=decision.id,
        grant=grant.id,
        columns=plan.columns,
        row_filter=plan.row_filter,
        rows=view.rows,
        arrow=base64.b64encode(arrow).decode(),  # (6)
    )


def _head(manifest: Manifest, plan: Plan, rows: int) -> Manifest:
    """Only the shards that the first `rows` rows come from; with a filter nobody knows which."""
    if plan.row_filter is not None:
        return manifest
    kept, left = [], rows
    for shard in manifest.shards_of(plan.split):
        if left > 0:
            kept.append(shard)
        left -= shard.rows
    splits = tuple(
        dataclasses.replace(split, rows=sum(s.rows for s in kept if s.split == split.name))
        for split in manifest.splits
    )
    return dataclasses.replace(manifest, shards=tuple(kept), splits=splits)


async def _build(house: House, manifest: Manifest, grant: Grant) -> ViewFile:
    global _building  # noqa: PLW0603 - one number per process: how many children run for previews
    if _building >= AT_ONCE_MAX:
        raise Unavailable("too many previews at once", advice="try again in a moment")
    _building += 1
    try:
        await fetch.here(house, manifest.shards_of(grant.plan.split))
        job = await house.aside(sources.view_job, house, manifest, grant, house.id("op_"))
        job = dataclasses.replace(job, rows_max=grant.plan.limits.max_rows)
        return await asyncio.to_thread(views.build_view, job, lambda _done, _what: None)
    finally:
        _building -= 1


def _opened(view: ViewFile) -> bytes:
    data = Path(view.path).read_bytes()
    frames = [
        open_frame(
            view.key,
            data[offset : offset + length],
            view=view.view,
            plan_digest=view.plan_digest,
            number=number,
            count=len(view.frames),
        )
        for number, (offset, length, _) in enumerate(view.frames)
    ]
    return b"".join((view.schema, *frames, _END_OF_STREAM))


async def _intend(house: House, grant: Grant, view: ViewFile) -> str:
    """A lease of one segment, and the intent to release it: both durable."""
    bytes_max = grant.plan.limits.max_bytes
    if bytes_max is not None and view.bytes > bytes_max:
        raise LimitExceeded(
            f"the rows are {view.bytes} bytes, the rules allow {bytes_max}",
            advice="ask for fewer rows",
            limit="max_bytes",
        )
    tenant_limits.require_day(house, grant.subject_tenant, view.bytes)
    lease, now = house.id("lease_"), int(house.now())
    house.record(
        _about(
            grant,
            EventKind.LeaseOpened,
            lease=lease,
            grant=grant.id,
            run=None,
            worker=0,
            order=dataclasses.asdict(OrderSpec()),
            segments=1,
            view=True,
            expires_at=now + GRANT_SECONDS,
            policy_epoch=house.catalog.policy_epoch,
            plan_digest=digest_of(grant.plan.cells()),
        )
    )
    counts = {"rows": view.rows, "bytes": view.bytes}
    await house.recorded(
        _about(
            grant, EventKind.SegmentIntent, lease=lease, grant=grant.id, first=0, last=0, **counts
        )
    )
    return lease


def _confirmation(grant: Grant, lease: str, view: ViewFile) -> EventDraft:
    counts = {"rows": view.rows, "bytes": view.bytes}
    return _about(grant, EventKind.SegmentsConfirmed, lease=lease, segments=[0], **counts)


def _about(grant: Grant, kind: EventKind, /, **facts: object) -> EventDraft:
    return granted(kind, grant, facts)
