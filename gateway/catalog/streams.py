"""How decisions, grants, leases and charges follow from events.

As in holdings.py each function checks first and changes afterwards. Charges: an intent adds its
rows and bytes to the Grant; a confirmation settles them; what was intended and never
confirmed is given back when the lease closes. Segments that the same Grant already received
in the same order (seed, epoch, rank, …) are delivered again without charge.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from gateway.catalog import asking, charges, runs
from gateway.catalog.ranges import Ranges
from gateway.catalog.records import DecisionRecord, KeyRelease, LeaseState, Vouched
from gateway.catalog.state import CLOSED_LEASES_KEPT, DECISIONS_KEPT, State, planned_key
from gateway.domain.access import Plan
from gateway.domain.combining import Planned, with_planned
from gateway.domain.events import Event
from gateway.domain.lease import Grant, OrderSpec
from gateway.errors import Conflict, InvalidInput, NotFound

CRASHED = ("lost", "restart")  # reasons: its worker, or control, died without a last word
_TOKEN_LEEWAY_SECONDS = 60


def access_decided(state: State, event: Event) -> None:
    """A Decision; with a grant id it is the Grant."""
    f = event.facts
    if f["decision"] in state.decisions:
        raise Conflict(f"decision `{f['decision']}` is recorded already")
    if f.get("grant") is not None:
        _grant(state, event)
    state.decisions[f["decision"]] = decision_of(event)
    while len(state.decisions) > DECISIONS_KEPT:
        del state.decisions[next(iter(state.decisions))]


def decision_of(event: Event) -> DecisionRecord:
    """What an AccessDecided says."""
    f = event.facts
    return DecisionRecord(
        id=f["decision"],
        index=event.index,
        time=event.time,
        owner_tenant=event.owner_tenant,
        actor_tenant=event.actor_tenant,
        actor=event.actor,
        action=f["action"],
        effect=f["effect"],
        dataset=f.get("dataset"),
        dataset_id=f.get("dataset_id"),
        version=f.get("version"),
        split=f.get("split"),
        purpose=f.get("purpose"),
        reasons=tuple(f["reasons"]),
        rules=tuple(f["rules"]),
        bundle=f["bundle"],
        policy_epoch=f["policy_epoch"],
        catalog_index=f["catalog_index"],
        columns=tuple(f["columns"]),
        masks=dict(f["masks"]),
        grant=f.get("grant"),
        run=f.get("run"),
        details=event.details,
    )


def _grant(state: State, event: Event) -> None:
    f = event.facts
    grant_id = f["grant"]
    if grant_id in state.grants or grant_id in state.erased_grants:
        raise Conflict(f"grant `{grant_id}` exists already")
    if f["effect"] != "allow" or f.get("expires_at") is None or event.actor_tenant is None:
        raise InvalidInput("a Grant is an allowed Decision about a known subject, with an end")
    if event.details is None:  # erased: it permits nothing any more, and its id stays taken
        state.erased_grants[grant_id] = event.owner_tenant
        asking.grant_made(state, event)
        return
    plan = _plan(event)
    if event.actor is None:
        raise InvalidInput("a Grant names its subject")
    grant = Grant(
        id=grant_id,
        decision=f["decision"],
        subject=event.actor,
        subject_tenant=event.actor_tenant,
        owner_tenant=event.owner_tenant,
        plan=plan,
        run=f.get("run"),
        granted_at=event.time_us // 1_000_000,
        expires_at=f["expires_at"],
        attributes=event.details.get("subject", {}).get("attributes", {}),
        parent=f.get("parent"),
    )
    _check_parent(state, grant)
    asking.check_approved(state, event, plan)
    state.grants[grant_id] = grant
    asking.grant_made(state, event)
    if grant.subject_tenant != grant.owner_tenant:
        key = planned_key(grant.subject_tenant, f["dataset_id"])
        planned = Planned(plan=plan, unit=_unit(event, plan))
        state.planned[key] = with_planned(state.planned.get(key, ()), planned)
    runs.grant_joined(state, grant, event)


def _check_parent(state: State, grant: Grant) -> None:
    if grant.parent is None:
        return
    parent = _living_grant(state, grant.parent)
    if parent.subject != grant.subject or not grant.plan.is_within(parent.plan):
        raise InvalidInput("a Grant is cut from one of the same subject, and never wider")
    if grant.expires_at > parent.expires_at:
        raise InvalidInput("a Grant does not outlive the one it is cut from")


def _unit(event: Event, plan: Plan) -> Plan:
    """All that the rules would have released at once; the Plan itself where none was kept."""
    unit = (event.details or {}).get("unit")
    return plan if unit is None else Plan.from_dict(unit)


def _plan(event: Event) -> Plan:
    """The sealed plan; it must be the one whose outline stands in clear."""
    f = event.facts
    try:
        plan = Plan.from_dict((event.details or {})["plan"])
    except (KeyError, TypeError, ValueError) as cause:
        raise InvalidInput("a Grant carries its plan in the details") from cause
    masks = {str(c.field_id): c.mask for c in plan.columns if c.mask is not None}
    outline: dict[str, Any] = {
        "dataset": str(plan.dataset.unversioned),
        "version": plan.dataset.version,
        "split": plan.split,
        "purpose": plan.purpose,
        "action": plan.action,
        "columns": [c.field_id for c in plan.columns],
        "masks": masks,
    }
    for name, value in outline.items():
        stated = list(f[name]) if name == "columns" else f.get(name)
        if stated != value:
            raise InvalidInput(f"the plan of a Grant and its clear `{name}` differ")
    return plan


def token_issued(state: State, event: Event) -> None:
    """What an issuer vouches for is kept as long as the token that came of it."""
    now = event.time - _TOKEN_LEEWAY_SECONDS
    while state.vouched and next(iter(state.vouched.values())).expires_at < now:
        del state.vouched[next(iter(state.vouched))]
    attributes = (event.details or {}).get("attributes")
    if attributes:
        f = event.facts
        state.vouched[f["jti"]] = Vouched(attributes=attributes, expires_at=f["expires_at"])


def token_revoked(state: State, event: Event) -> None:
    """The token opens nothing any more; forgotten when it would have run out anyway."""
    now = event.time - _TOKEN_LEEWAY_SECONDS
    for jti in [jti for jti, end in state.revoked_tokens.items() if end < now]:
        del state.revoked_tokens[jti]
    state.revoked_tokens[event.facts["jti"]] = event.facts["expires_at"]


def grant_revoked(state: State, event: Event) -> None:
    """No further segment under these Grants."""
    for grant in event.facts["grants"]:
        if grant not in state.grants and grant not in state.erased_grants:
            raise NotFound(f"no grant `{grant}`")
    for grant in event.facts["grants"]:
        if grant in state.grants:
            state.grants[grant] = replace(
                state.grants[grant], revoked=True, revoked_at=event.time_us // 1_000_000
            )


def lease_opened(state: State, event: Event) -> None:
    """A stream under a living Grant."""
    f = event.facts
    if f["lease"] in state.leases or f["lease"] in state.closed_leases:
        raise Conflict(f"lease `{f['lease']}` exists already")
    if f["grant"] not in state.erased_grants:
        _living_grant(state, f["grant"])
    lease = LeaseState(
        id=f["lease"],
        grant=f["grant"],
        run=f.get("run"),
        order=OrderSpec(**f["order"]),
        opened_at=event.time_us // 1_000_000,
        expires_at=f["expires_at"],
        policy_epoch=f["policy_epoch"],
        plan_digest=f["plan_digest"],
        worker=f["worker"],
        segments=f["segments"],
        view=f["view"],
    )
    state.leases[lease.id] = lease
    _count_pass(state, lease)
    runs.lease_joined(state, lease.run, event)


def _count_pass(state: State, lease: LeaseState) -> None:
    """Note the order under the lease's Grant and all it is cut from, where epochs are limited."""
    grant = state.grants.get(lease.grant)
    while grant is not None:
        if grant.plan.limits.max_epochs is not None:
            known = state.passes.get(grant.id, ())
            state.passes[grant.id] = runs.with_value(known, lease.order.pass_id)
        grant = state.grants.get(grant.parent or "")


def _living_grant(state: State, grant_id: str) -> Grant:
    grant = state.grants.get(grant_id)
    if grant is None:
        raise NotFound(f"no grant `{grant_id}`")
    if grant.revoked:
        raise Conflict(f"grant `{grant_id}` is revoked", advice="ask the owner")
    return grant


def _open_lease(state: State, lease_id: str) -> LeaseState:
    lease = state.lease(lease_id)
    if lease.closed is not None:
        raise Conflict(f"lease `{lease_id}` is closed")
    return lease


def lease_renewed(state: State, event: Event) -> None:
    """Judged again: it lives longer, under a newer PolicyEpoch."""
    lease = _open_lease(state, event.facts["lease"])
    lease.expires_at = event.facts["expires_at"]
    lease.policy_epoch = event.facts["policy_epoch"]


def lease_closed(state: State, event: Event) -> None:
    """The stream ended; what was intended and never confirmed is given back. Once is enough.

    After a crash nobody can say what was sent: all stays charged, and comes again for nothing.
    """
    lease = state.lease(event.facts["lease"])
    if lease.closed is not None:
        return
    lease.closed = event.facts["reason_code"]
    if lease.closed in CRASHED:
        delivered = state.delivered.setdefault(order_key(lease), Ranges(of=lease.segments))
        for number in lease.pending:
            delivered.add(number)
        lease.free |= lease.pending
    else:
        lease.free.clear()
        for number in lease.pending:  # given back, though a part of it may have left
            state.unsettled.setdefault(order_key(lease), Ranges(of=lease.segments)).add(number)
        rows = lease.charged_rows - lease.settled_rows
        size = lease.charged_bytes - lease.settled_bytes
        charges.of_lease(state, lease, event, -max(rows, 0), -max(size, 0))
    del state.leases[lease.id]
    state.closed_leases[lease.id] = lease
    while len(state.closed_leases) > CLOSED_LEASES_KEPT:
        del state.closed_leases[next(iter(state.closed_leases))]


def segment_intent(state: State, event: Event) -> None:
    """Segments that are about to be released: charged now."""
    f = event.facts
    lease = _open_lease(state, f["lease"])
    if f["grant"] != lease.grant or f["first"] > f["last"] or f["last"] >= lease.segments:
        raise InvalidInput("these are not segments of this lease")
    if lease.grant not in state.erased_grants:
        _living_grant(state, lease.grant)
    delivered = state.delivered.get(order_key(lease))
    if delivered is not None and delivered.covers(f["first"], f["last"]):
        lease.free.update(range(f["first"], f["last"] + 1))
        return
    lease.pending.update(range(f["first"], f["last"] + 1))
    lease.charged_rows += f["rows"]
    lease.charged_bytes += f["bytes"]
    charges.of_lease(state, lease, event, f["rows"], f["bytes"])


def segments_confirmed(state: State, event: Event) -> None:
    """Handed to the kernel or ring: settled. After the close, charged again."""
    f = event.facts
    lease = state.lease(f["lease"])
    if any(number >= lease.segments for number in f["segments"]):
        raise InvalidInput("these are not segments of this lease")
    delivered = state.delivered.setdefault(order_key(lease), Ranges(of=lease.segments))
    for number in f["segments"]:
        delivered.add(number)
    is_charged = not lease.free.issuperset(f["segments"])
    lease.confirmed.update(f["segments"])
    lease.pending.difference_update(f["segments"])
    if is_charged and lease.closed is None:
        lease.settled_rows += f["rows"]
        lease.settled_bytes += f["bytes"]
    elif is_charged:  # its refund at the close was too much: released after all
        charges.of_lease(state, lease, event, f["rows"], f["bytes"])
    runs.rows_confirmed(state, lease.run, f["rows"], event)


def order_key(lease: LeaseState) -> str:
    """Which Grant, run and order: what comes again under the same is charged once."""
    order = lease.order
    place = [order.seed, order.epoch, order.shuffle, order.lanes, order.window_blocks]
    return json.dumps([lease.grant, lease.run, lease.view, *place, order.rank, order.world])


def segments_acknowledged(state: State, event: Event) -> None:
    """What the client says it has, in all, under this lease (rows, cumulative)."""
    lease = state.lease(event.facts["lease"])
    more = event.facts["rows"] - lease.rows_acknowledged
    if more <= 0:
        return
    lease.rows_acknowledged += more
    runs.rows_acknowledged(state, lease.run, order_key(lease), more, event)


def keys_released(state: State, event: Event) -> None:
    """Data keys leave for good, under a living Grant to export: charged, never given back."""
    f = event.facts
    if f["grant"] not in state.erased_grants:
        grant = _living_grant(state, f["grant"])
        names = (str(grant.plan.dataset.unversioned), grant.plan.dataset.version)
        columns = {column.field_id for column in grant.plan.columns}
        if (
            grant.plan.action != "export"
            or names != (f["dataset"], f["version"])
            or not columns.issuperset(f["columns"])
        ):
            raise InvalidInput("keys are released under a Grant to export just these columns")
        charges.of_grant(state, grant.id, f["rows"], f["bytes"])
        charges.of_day(state, event, f["bytes"])
    release = KeyRelease(
        grant=f["grant"],
        decision=f["decision"],
        dataset=f["dataset"],
        version=f["version"],
        recipient=event.actor,
        recipient_tenant=event.actor_tenant or "",
        columns=tuple(f["columns"]),
        shards=tuple(f["shards"]),
        keys=f["keys"],
        rows=f["rows"],
        bytes=f["bytes"],
        at=event.time,
    )
    known = state.key_releases.get(f["dataset_id"], ())
    state.key_releases[f["dataset_id"]] = (*known, release)
