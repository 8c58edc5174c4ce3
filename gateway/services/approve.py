"""A second person puts in force what somebody else proposed.

A tenant demands it by `second_person: true` in its own `bundle.yaml`. What is pushed then is
stored and recorded and waits; the approval names its hash, holds only over the bundle that it
was proposed in place of, and is never given by who proposed it, nor by a job.
"""

from __future__ import annotations

from gateway.catalog.records import ProposedBundle
from gateway.errors import AccessDenied, Conflict, NotFound
from gateway.policy.bundle import PolicyBundle
from gateway.services import bench, publish, refusals
from gateway.services.house import House
from gateway.services.request_access import Caller, authorize


async def approve(house: House, caller: Caller, tenant: str, digest: str) -> PolicyBundle:
    """Publish the proposed bundle of this hash.

    Raises:
        NotFound: no such bundle waits.
        AccessDenied: the caller proposed it, or is no person; recorded.
        Conflict: it waited too long, or other rules came in force meanwhile.
        PolicyError: it cannot be built any more.
    """
    await authorize(house, caller, "publish", tenant)
    waiting = house.catalog.proposed(tenant)
    if waiting is None or waiting.digest != digest:
        raise NotFound(f"no bundle `{digest[:80]}` of `{tenant}` waits for a second person")
    await _require_second(house, caller, waiting)
    if waiting.expires_at <= house.now():
        raise Conflict("this bundle waited too long", advice="push it again")
    if house.catalog.bundle(tenant) != waiting.base:
        raise Conflict("other rules came in force meanwhile", advice="pull, merge, push again")
    files = publish.stored_files(house, tenant, digest)
    await bench.examined(house, tenant, files)
    return await publish.store_and_record(house, caller.subject, tenant, files, approves=waiting)


async def _require_second(house: House, caller: Caller, waiting: ProposedBundle) -> None:
    if caller.subject.type == "person" and waiting.proposer not in (None, caller.subject.id):
        return
    await refusals.record(
        house, caller.subject, f"/v1/policies/{waiting.tenant}/approvals", AccessDenied.code
    )
    raise AccessDenied(
        "rules are approved by a second person, and never by who proposed them",
        advice="ask another person of your tenant who may publish",
    )
