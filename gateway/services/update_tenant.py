"""An operator changes what a tenant may use, or suspends it: total, at once, and reversible.

Suspending: (1) one durable event raises the PolicyEpoch, so that no worker starts another chunk
unasked; (2) every open stream is closed that the tenant receives, or that reads its data or what
was made from it; (3) from then on none of its people and jobs can say who they are, whatever
they hold, and the judge denies every data action on its datasets. Nothing is taken away: a
resumed tenant has its identities, Grants and rules, and its streams go on where they were.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import gateway.wire as W
from gateway.domain.events import EventDraft, EventKind
from gateway.domain.retention import DAYS_MIN
from gateway.domain.tenant import TenantLimits
from gateway.errors import InvalidInput, NotFound
from gateway.services import retention, tenants, update
from gateway.services.house import PLATFORM, House
from gateway.services.request_access import Caller
from gateway.services.stopping import Stopped, stop_streams


async def update_tenant(
    house: House, caller: Caller, tenant: str, wanted: W.TenantChanges
) -> W.TenantView:
    """Change what is given and differs; what is None stays. Sent again, it changes nothing.

    Raises:
        AccessDenied: the caller is of the tenant, and no operator.
        NotFound: there is no such tenant, or the caller may not know.
        InvalidInput: nothing is given, or it is the platform.
    """
    await tenants.require_operator(house, caller, tenant)
    found = house.catalog.tenant(tenant)
    if wanted == W.TenantChanges(reason=wanted.reason, dry_run=wanted.dry_run):
        raise InvalidInput("nothing is to be changed", advice="give a limit, or `suspended`")
    if tenant == PLATFORM:
        raise InvalidInput(
            "the platform is neither bounded nor suspended: nobody could undo it",
            advice="stop the server, or disable an identity",
        )
    reason = update.line(wanted.reason or "", update.REASON_CHARS_MAX, "reason")
    limits = _changed(found.limits, wanted)
    expires = await _expiring(house, tenant, limits)
    if wanted.dry_run:
        view = await tenants.view(house, caller, tenant)
        return replace(view, expires=expires, **limits.to_dict())
    if limits != found.limits:
        _record(house, caller, tenant, EventKind.TenantUpdated, reason, limits)
    if wanted.suspended not in (None, found.suspended):
        kind = EventKind.TenantSuspended if wanted.suspended else EventKind.TenantResumed
        _record(house, caller, tenant, kind, reason)
    await house.settled()
    stopped = await _stop_streams(house, tenant) if wanted.suspended else None
    view = replace(await tenants.view(house, caller, tenant), expires=expires)
    if stopped is None:
        return view
    return replace(view, streams_stopped=stopped.streams, slowest_ms=stopped.slowest_ms)


def _changed(limits: TenantLimits, wanted: W.TenantChanges) -> TenantLimits:
    names = TenantLimits.names()
    unknown = sorted(set(wanted.lift) - set(names))
    if unknown:
        raise InvalidInput(
            f"`{unknown[0][:80]}` is not a limit of a tenant", advice=f"it is {', '.join(names)}"
        )
    given = {name: getattr(wanted, name) for name in names}
    given = {name: value for name, value in given.items() if value is not None}
    for name, value in given.items():
        if value < 0 or name in wanted.lift:
            raise InvalidInput(f"`{name}` is a number from 0 on, or it is lifted", field=name)
    if given.get("retention_days", DAYS_MIN) < DAYS_MIN:
        raise InvalidInput(
            f"history keeps its details for at least {DAYS_MIN} days", field="retention_days"
        )
    return replace(limits, **dict.fromkeys(wanted.lift), **given)


async def _expiring(house: House, tenant: str, limits: TenantLimits) -> tuple[str, ...]:
    """Months that the next round lets go under these limits."""
    days = limits.retention_days or house.settings.retention_days or None
    return tuple(await retention.due(house, tenant, days))


def _record(
    house: House,
    caller: Caller,
    tenant: str,
    kind: EventKind,
    reason: str,
    limits: TenantLimits | None = None,
) -> None:
    house.record(
        EventDraft(
            kind=kind,
            owner_tenant=tenant,
            actor_tenant=caller.subject.tenant,
            actor=caller.subject.id,
            facts={"tenant": tenant, **(limits.to_dict() if limits else {})},
            details={"reason": reason},
        )
    )


async def _stop_streams(house: House, tenant: str) -> Stopped:
    """What it receives, and what others receive of its data."""
    its, of_it = [], []
    for lease in house.catalog.leases():
        try:
            grant = house.catalog.grant(lease.grant)
            is_held = house.catalog.is_suspended(grant.plan.dataset)
        except NotFound:  # erased since: its streams have ended
            continue
        if grant.subject_tenant == tenant:
            its.append(lease.id)
        elif is_held:
            of_it.append(lease.id)
    ends = await asyncio.gather(
        stop_streams(house, its, "tenant-suspended"),
        stop_streams(house, of_it, "dataset-suspended"),
    )
    return Stopped(
        streams=sum(end.streams for end in ends), slowest_ms=max(end.slowest_ms for end in ends)
    )
