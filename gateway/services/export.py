"""A copy of the sealed shards as they are stored, and the release of the keys that open them.

(1) the ask, action `export`, becomes a Decision and a Grant; (2) keys cannot filter, mask or
stop at a limit, so a Plan that needs any of these is denied here, and the denial is recorded;
(3) the keys of the footers and of the approved leaves are opened, no others; (4) the release
is durable; (5) only then does the reply carry the keys, once: no idempotent replay keeps them.
The shards are ciphertext and follow in parts, judged again part by part.

The reply travels as every secret of the API does (tokens, lease keys): to the holder of the
DPoP key of a sender-bound token, over TLS, or over loopback on this machine. A second sealing
to the same caller's key would protect against nobody who could not also ask.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses

import gateway.wire as W
from gateway.domain.access import Decision, Effect, Limits, Plan, Reason
from gateway.domain.events import EventDraft, EventKind
from gateway.domain.lease import Grant
from gateway.domain.manifest import Leaf, Manifest, Shard
from gateway.errors import InvalidInput, LimitExceeded, NotFound
from gateway.services import down_scope, request_access, stream, tenant_limits
from gateway.services.granted import granted
from gateway.services.house import House
from gateway.services.request_access import Ask, Caller
from gateway.services.storage import load_manifest, open_keys, version_of
from gateway.wire.exports import EXPORT_PART_BYTES
from gateway.wire.times import iso

KEYS_MAX = 50_000  # of one release
SHARDS_MAX = 10_000  # they stand in one event
REFERENCE = "ref:"  # how a sealed file calls its keys (shards/pme.py)
_PLAIN = "export without --encrypted: the gateway filters and masks, and no key leaves"


async def release(house: House, caller: Caller, ask: Ask) -> W.Export:
    """Decide, record, and hand out the keys of exactly the planned leaves.

    Raises:
        AccessDenied: no rule allows it, or its Plan filters, masks or limits.
        LimitExceeded: the budget of the run's Grant is used up.
    """
    decision, grant = await request_access.request_grant(
        house,
        caller,
        dataclasses.replace(ask, action="export"),
        lambda decision: _whole_columns_only(house, decision),
    )
    plan = grant.plan
    manifest = load_manifest(house, plan.dataset)
    shards = manifest.shards_of(plan.split)
    _require_budget(house, grant, shards)
    leaves = {shard.id: _leaves(shard, plan) for shard in shards}  # (3)
    opened = open_keys(
        house, version_of(house, plan.dataset), [leaf for some in leaves.values() for leaf in some]
    )
    draft = _draft(grant, manifest, shards, len(opened))
    await house.recorded(draft)  # (4)
    return W.Export(
        id=grant.id,
        decision=decision.id,
        dataset=str(plan.dataset),
        dataset_id=manifest.dataset_id,
        purpose=plan.purpose,
        split=plan.split,
        recipient=grant.subject,
        released_at=iso(house.now()),
        columns=tuple(_column(manifest, column.field_id) for column in plan.columns),
        shards=tuple(_shard(shard, leaves[shard.id]) for shard in shards),
        keys={REFERENCE + name: base64.b64encode(key).decode() for name, key in opened.items()},
    )


def _whole_columns_only(house: House, decision: Decision) -> Decision:
    """(2) The Decision, or a denial when its Plan needs somebody between keys and reader."""
    plan = decision.plan
    assert plan is not None
    masked = [column.name for column in plan.columns if column.mask is not None]
    if plan.row_filter is not None:
        return _denied(decision, "keys-cannot-filter", "the rules let only some rows through")
    if masked:
        return _denied(decision, "keys-cannot-mask", "the rules mask columns")
    if not plan.columns:
        return _denied(decision, "keys-of-nothing", "the rules release no column")
    shards = load_manifest(house, plan.dataset).shards_of(plan.split)
    if sum(len(_leaves(shard, plan)) for shard in shards) > KEYS_MAX or len(shards) > SHARDS_MAX:
        return _denied(
            decision, "too-many-keys", f"more than {KEYS_MAX} keys or {SHARDS_MAX} shards"
        )
    if not _fits(plan.limits, _counts(shards)):
        return _denied(decision, "keys-cannot-stop", "whole shards exceed the rules' limits")
    return decision


def _denied(decision: Decision, code: str, why: str) -> Decision:
    text = f"{why}, and a key opens whole columns of whole shards"
    return dataclasses.replace(
        decision,
        effect=Effect.DENY,
        reasons=(Reason(code=code, text=text),),
        plan=None,
        advice=_PLAIN,
    )


def _require_budget(house: House, grant: Grant, shards: tuple[Shard, ...]) -> None:
    """All ranks of a run share a Grant, and its budget."""
    rows, size = _counts(shards)
    if not _fits(grant.plan.limits, (grant.rows_charged + rows, grant.bytes_charged + size)):
        raise LimitExceeded(
            "the budget of the grant is used up", advice="ask the owner for more", limit="max_rows"
        )
    tenant_limits.require_day(house, grant.subject_tenant, size)


def _counts(shards: tuple[Shard, ...]) -> tuple[int, int]:
    return sum(shard.rows for shard in shards), sum(shard.bytes for shard in shards)


def _fits(limits: Limits, counts: tuple[int, int]) -> bool:
    pairs = zip((limits.max_rows, limits.max_bytes), counts, strict=True)
    return all(most is None or count <= most for most, count in pairs)


def _leaves(shard: Shard, plan: Plan) -> tuple[Leaf, ...]:
    return (shard.footer, *shard.leaves_of({column.field_id for column in plan.columns}))


def _column(manifest: Manifest, field_id: int) -> W.ExportedColumn:
    column = manifest.column(field_id)
    return W.ExportedColumn(
        name=column.name, field_id=field_id, physical=f"f{field_id}", type=column.type
    )


def _shard(shard: Shard, leaves: tuple[Leaf, ...]) -> W.ExportedShard:
    return W.ExportedShard(
        id=shard.id,
        split=shard.split,
        rows=shard.rows,
        bytes=shard.bytes,
        sha256=shard.sha256,
        footer_key=REFERENCE + shard.footer.dek,
        column_keys={leaf.name: REFERENCE + leaf.dek for leaf in leaves[1:]},
    )


def _draft(grant: Grant, manifest: Manifest, shards: tuple[Shard, ...], keys: int) -> EventDraft:
    rows, size = _counts(shards)
    return granted(
        EventKind.KeysReleased,
        grant,
        {
            "dataset": str(grant.plan.dataset.unversioned),
            "dataset_id": manifest.dataset_id,
            "version": manifest.version,
            "grant": grant.id,
            "decision": grant.decision,
            "split": grant.plan.split,
            "columns": [column.field_id for column in grant.plan.columns],
            "shards": [shard.id for shard in shards],
            "keys": keys,
            "rows": rows,
            "bytes": size,
        },
    )


async def part(house: House, caller: Caller, export: str, number: int, start: int) -> bytes:
    """Sealed bytes of one shard of an export, from `start` on; judged again.

    Raises:
        NotFound: it is no export of the caller's own, or has no such shard.
        LeaseRevoked, AccessDenied, DatasetSuspended: it has ended; the keys that left, have not.
    """
    grant = down_scope.own_grant(house, caller.subject, export)
    dataset = house.catalog.dataset(grant.plan.dataset.tenant, grant.plan.dataset.name)
    if not house.catalog.key_releases(dataset.dataset_id, grant.id):
        raise NotFound(f"no export `{export[:80]}` of yours")
    await stream.judge_again(house, grant)
    shards = load_manifest(house, grant.plan.dataset).shards_of(grant.plan.split)
    if number >= len(shards):
        raise NotFound(f"the export has {len(shards)} shards")
    shard = shards[number]
    if start >= shard.bytes:
        raise InvalidInput(f"the shard has {shard.bytes} bytes", field="start")
    length = min(EXPORT_PART_BYTES, shard.bytes - start)
    return await asyncio.to_thread(house.store.read, shard.object_key, start, length)
