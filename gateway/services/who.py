"""Access review: who could get a dataset's columns, and when each rule was last used."""

from __future__ import annotations

from dataclasses import replace

import gateway.wire as W
from gateway.domain.dataset import DatasetRef
from gateway.errors import NotFound
from gateway.policy.review import review
from gateway.services.house import House
from gateway.services.request_access import Caller, authorize, may, resource_of
from gateway.wire.times import iso


async def who(
    house: House, caller: Caller, tenant: str, wanted: W.WhoRequest
) -> list[W.AccessEntry]:
    """Rules in force, for those who may publish them or audit the tenant.

    Raises:
        NotFound: no such dataset of the tenant, or no such column.
    """
    ref = DatasetRef.parse(wanted.dataset)
    if ref.tenant != tenant:
        raise NotFound(f"no dataset `{ref}` of `{tenant[:80]}`")
    if _publishes(house, caller, ref):
        resource = resource_of(house, ref)
    else:
        resource = await authorize(house, caller, "audit", tenant, ref)
    await house.settled()
    columns = [c for c in resource.columns if wanted.column in (None, c.name)]
    if not columns:
        raise NotFound(f"no column `{str(wanted.column)[:80]}` in `{ref}`")
    rules = [rule for bundle in house.bundles.values() for rule in bundle.rules]
    found = review(rules, resource, columns, house.now())
    used = _last_used(house, tenant, ref)
    return [replace(entry, last_used=used.get(entry.rule)) for entry in found]


def _publishes(house: House, caller: Caller, ref: DatasetRef) -> bool:
    if caller.subject.tenant != ref.tenant or caller.grant is not None:
        return False
    try:
        return may(house, caller, "publish", replace(resource_of(house, ref), dataset=None))
    except NotFound:
        return False


def _last_used(house: House, tenant: str, ref: DatasetRef) -> dict[str, str]:
    """Rule -> newest remembered Grant that rests on it."""
    found: dict[str, str] = {}
    for record in house.catalog.decisions(owner=tenant, effect="allow"):
        if record.grant is not None and record.dataset == str(ref.unversioned):
            for rule in record.rules:
                found.setdefault(rule, iso(record.time))
    return found
