"""`min_group_size: k`: rows are released only when they are about at least k persons.

Counted before the Grant is made, over the sealed shards: the persons of the Plan's rows are k
or more, and they differ from those of each earlier Plan of that tenant on that dataset by
nobody or by k or more; else one person could be found in the difference. Persons are the
values of the column tagged `pii.person-id`; rows, where there is none. What cannot be known
(several such columns, a row about nobody, an erased version) denies. The counts say nothing
of anybody, so they are remembered as long as this process lives.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging

from gateway.domain.access import AccessRequest, Decision, Effect, Plan, Reason, digest_of
from gateway.errors import GatewayError, InvalidInput, TooLarge
from gateway.services import fetch
from gateway.services.house import House
from gateway.services.storage import load_manifest, local_path, open_keys, version_of
from gateway.shards import groups
from gateway.shards.groups import Released

OBLIGATION = "min_group_size"
PERSON_TAG = "pii.person-id"
EARLIER_MAX = 64
_KNOWN_MAX = 65_536
_log = logging.getLogger("gateway.groups")


async def count(house: House, request: AccessRequest, decision: Decision) -> None:
    """Have the numbers at hand that `large_enough` needs; what fails stays unknown."""
    plan, recipient = decision.plan, request.subject.tenant
    if plan is None or _least(plan) is None:
        return
    others = _earlier(house, recipient, plan)
    try:
        me = _key(house, plan)
        keys = [_key(house, other) for other in others]
        if all((me, key) in house.groups for key in (me, *keys)):
            return
        if len(others) > EARLIER_MAX:
            raise TooLarge("too many earlier plans to compare with")
        sets = [await _released(house, each) for each in (plan, *others)]
        counted = await asyncio.to_thread(groups.count, sets)
    except GatewayError as error:
        _log.warning("persons cannot be counted", extra={"why": error.message})
        return
    if len(house.groups) > _KNOWN_MAX:
        house.groups.clear()
    house.groups[me, me] = counted.size
    house.groups |= {(me, key): d for key, d in zip(keys, counted.differences, strict=True)}


def large_enough(house: House, request: AccessRequest, decision: Decision) -> Decision:
    """The Decision, or a denial when its rows are about too few, or nobody knows how many."""
    plan = decision.plan
    least = _least(plan) if plan is not None else None
    if plan is None or least is None:
        return decision
    try:
        me = _key(house, plan)
        keys = [_key(house, other) for other in _earlier(house, request.subject.tenant, plan)]
    except GatewayError:
        return _denied(decision, "group-unknown", "nobody can count whom these rows are about")
    numbers = [house.groups.get((me, me)), *(house.groups.get((me, key)) for key in keys)]
    if any(number is None for number in numbers):
        return _denied(decision, "group-unknown", "nobody can count whom these rows are about")
    size, *differences = (number for number in numbers if number is not None)
    if size < least or any(0 < number < least for number in differences):
        return _denied(decision, "group-too-small", "these rows would tell too few persons apart")
    return decision


def _denied(decision: Decision, code: str, text: str) -> Decision:
    reason = Reason(code=code, text=text)
    return dataclasses.replace(
        decision, effect=Effect.DENY, reasons=(reason,), plan=None, advice=None
    )


def _least(plan: Plan) -> int | None:
    found = dict(plan.obligations).get(OBLIGATION)
    return None if found is None else int(found)


def _earlier(house: House, recipient: str, plan: Plan) -> list[Plan]:
    """Plans of other rows that the tenant was given of this dataset, each set of rows once."""
    found: dict[str, Plan] = {}
    for grant in house.catalog.grants(tenant=recipient, dataset=plan.dataset.unversioned):
        found.setdefault(_rows(grant.plan), grant.plan)
    found.pop(_rows(plan), None)
    return list(found.values())


def _rows(plan: Plan) -> str:
    """Names a set of rows."""
    return digest_of([str(plan.dataset), plan.split, plan.row_filter])


def _key(house: House, plan: Plan) -> str:
    """A set of rows and how its persons are told apart, now."""
    version = version_of(house, plan.dataset)
    return f"{version.dataset_id} {_rows(plan)} {_person(house, plan)}"


def _person(house: House, plan: Plan) -> int | None:
    """The column of persons of the plan's version; InvalidInput when there are several."""
    dataset = house.catalog.dataset(plan.dataset.tenant, plan.dataset.name)
    columns = dataset.columns_of(version_of(house, plan.dataset))
    found = [c.field_id for c in columns if PERSON_TAG in c.tags]
    if len(found) > 1:
        raise InvalidInput(f"several columns are tagged `{PERSON_TAG}`")
    return found[0] if found else None


async def _released(house: House, plan: Plan) -> Released:
    manifest = await house.aside(load_manifest, house, plan.dataset)
    shards = manifest.shards_of(plan.split)
    bare = Released(
        manifest=manifest,
        split=plan.split,
        row_filter=plan.row_filter,
        person=_person(house, plan),
    )
    if not bare.fields():
        return bare
    await fetch.here(house, shards)
    keys = await house.aside(open_keys, house, version_of(house, plan.dataset), bare.leaves())
    paths = {shard.id: local_path(house, shard) for shard in shards}
    return dataclasses.replace(bare, paths=paths, deks=keys)
