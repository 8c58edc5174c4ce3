"""A narrower Grant cut from one's own: never wider, never longer, ended and charged together.

RFC 8693 calls the wider one the subject token's; here the Grant carries it, since tokens are
short-lived and Grants are what is revoked. The rules judge the narrower ask like any other;
then its Plan must lie within the parent's.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from gateway.domain.access import Decision, Effect, Limits, Reason, Subject
from gateway.domain.lease import Grant
from gateway.errors import LeaseExpired, LeaseRevoked, NotFound
from gateway.services import refusals
from gateway.services.house import House

if TYPE_CHECKING:
    from gateway.services.request_access import Ask


def own_grant(house: House, subject: Subject, grant_id: str) -> Grant:
    """A living Grant of the subject's own; NotFound for anybody else's.

    Raises:
        LeaseRevoked, LeaseExpired: it, or one that it is cut from, has ended.
    """
    try:
        grant = house.catalog.grant(grant_id)
    except NotFound:
        grant = None
    if grant is None or grant.subject != subject.id:
        raise NotFound(f"no grant `{grant_id[:80]}` of yours")
    for link in house.lineage_of(grant):
        if link.revoked:
            raise LeaseRevoked("the owner revoked this grant")
        if link.expires_at <= house.now():
            raise LeaseExpired("the grant ran out")
    return grant


async def required(house: House, subject: Subject, grant_id: str) -> Grant:
    """`own_grant` of whoever asks for a token with it; that there is none is recorded."""
    try:
        return own_grant(house, subject, grant_id)
    except (NotFound, LeaseRevoked, LeaseExpired) as error:
        await refusals.record(house, subject, "POST /oauth/token", error.code)
        raise


def cut(ask: Ask, parent: Grant) -> Ask:
    """What is not said is as in the parent; what is said wider, the judge's Plan shows."""
    plan = parent.plan
    return dataclasses.replace(
        ask,
        dataset=str(plan.dataset),
        purpose=ask.purpose or plan.purpose,
        columns=ask.columns if ask.columns is not None else plan.names,
        split=ask.split if ask.split is not None else plan.split,
        limits=ask.limits.least(plan.limits).least(Limits(expires_at=parent.expires_at)),
        run=ask.run or parent.run,
    )


def narrowed(decision: Decision, parent: Grant, run: str | None) -> Decision:
    """The Decision with the Plan cut to the parent's limits, or a denial when it is wider.

    A Grant that names a run is for that one: its parts are, too.
    """
    assert decision.plan is not None
    within = parent.plan.limits.least(Limits(expires_at=parent.expires_at))
    plan = dataclasses.replace(decision.plan, limits=decision.plan.limits.least(within))
    if plan.is_within(parent.plan) and parent.run in (None, run):
        return dataclasses.replace(decision, plan=plan)
    reason = Reason(code="wider-than-parent", text="this is not within the grant it is cut from")
    return dataclasses.replace(
        decision,
        effect=Effect.DENY,
        reasons=(reason,),
        plan=None,
        advice="stay within columns, purpose, split, action and run of the parent, or ask anew",
    )
