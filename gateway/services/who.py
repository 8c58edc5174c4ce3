"""Access review: who could get a dataset's columns, now or at some time, and who used it last."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import gateway.wire as W
from gateway.catalog.catalog import Catalog
from gateway.domain.dataset import DatasetRef
from gateway.errors import NotFound
from gateway.policy.bundle import PolicyBundle
from gateway.policy.review import review
from gateway.services import publish, recorded
from gateway.services.house import House
from gateway.services.request_access import Caller, authorize, may, resource_in, resource_of
from gateway.wire.times import iso, moment

_INDEX_DIGITS_MAX = 15


async def who(
    house: House, caller: Caller, tenant: str, wanted: W.WhoRequest
) -> list[W.AccessEntry]:
    """Rules in force, for those who may publish them or audit the tenant.

    Raises:
        NotFound: no such dataset of the tenant, or no such column.
        LimitExceeded: what was so long ago takes too long to read.
    """
    ref = DatasetRef.parse(wanted.dataset)
    if ref.tenant != tenant:
        raise NotFound(f"no dataset `{ref}` of `{tenant[:80]}`")
    if not _publishes(house, caller, ref):
        await authorize(house, caller, "audit", tenant, ref)
    house.reviews.take(tenant, house.now())
    asked = {"dataset": wanted.dataset, "column": wanted.column, "as_of": wanted.as_of}
    await recorded.ask(house, caller, tenant, "access-review", asked)
    catalog, at, bundles = house.catalog, house.now(), list(house.bundles.values())
    if wanted.as_of is not None:
        catalog, at, bundles = await asyncio.to_thread(_as_of, house, wanted.as_of)
    resource = resource_in(catalog, ref)
    columns = [c for c in resource.columns if wanted.column in (None, c.name)]
    if not columns:
        raise NotFound(f"no column `{str(wanted.column)[:80]}` in `{ref}`")
    rules = [rule for bundle in bundles for rule in bundle.rules]
    found = review(rules, resource, columns, at)
    used, back_to = await asyncio.to_thread(_last_used, house, ref, {e.rule for e in found}, at)
    return [
        replace(
            entry,
            last_used=used.get(entry.rule),
            looked_back_to=None if entry.rule in used else back_to,
        )
        for entry in found
    ]


def _publishes(house: House, caller: Caller, ref: DatasetRef) -> bool:
    if caller.subject.tenant != ref.tenant or caller.grant is not None:
        return False
    try:
        return may(house, caller, "publish", replace(resource_of(house, ref), dataset=None))
    except NotFound:
        return False


def _as_of(house: House, text: str) -> tuple[Catalog, float, list[PolicyBundle]]:
    """The catalogue as it was then, when that was (Unix seconds), and the rules in force."""
    if text.isascii() and text.isdecimal() and len(text) <= _INDEX_DIGITS_MAX:
        index = int(text)
        past = recorded.catalog_at(house, index=index)
        (last,) = house.journal.read(index - 1, index) if index else (None,)
        at = last.time if last is not None else 0.0
    else:
        at = moment(text, now=house.now())
        past = recorded.catalog_at(house, at=at)
    return past, at, _bundles(house, past)


def _bundles(house: House, catalog: Catalog) -> list[PolicyBundle]:
    """Every tenant's rules, as this catalogue names them."""
    found = []
    for tenant in catalog.tenants():
        digest = catalog.bundle(tenant.name)
        present = house.bundles.get(tenant.name)
        if present is not None and present.digest == digest:
            found.append(present)
        elif digest is not None:
            files = publish.stored_files(house, tenant.name, digest)
            found.append(PolicyBundle.read(files, tenant.name))
    return found


def _last_used(
    house: House, ref: DatasetRef, rules: set[str], at: float
) -> tuple[dict[str, str], str | None]:
    """(rule -> newest Grant that rests on it, time before which nobody looked or None)."""
    reach = recorded.Reach()
    found: dict[str, str] = {}
    for record in recorded.decisions(house, ref.tenant, reach):
        if (
            record.grant is not None
            and record.time <= at
            and record.dataset == str(ref.unversioned)
        ):
            for rule in rules.intersection(record.rules):
                found.setdefault(rule, iso(record.time))
        if len(found) == len(rules):
            break
    return found, None if reach.since is None else iso(reach.since)
