"""Which runs and models received rows of one person: the question with a right of its own.

(1) the rules let the caller `audit-person` of that dataset, or in that tenant; (2) he says for
which purpose; (3) not too often; (4) the question is durable, with a tag in place of the id; (5)
the sealed indexes say which blocks hold the person; (6) where a Plan filters rows, a child looks
whether any of the person's passes; (7) each Grant's deliveries are held against that
(person_delivery.py), and lineage puts runs, times and models to it.

The id comes in the body, lives in this process for the one answer, and goes nowhere else: no
log, journal, message or child has it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import partial
from typing import Any

from gateway.catalog import deliveries
from gateway.domain.access import AccessRequest, Plan, Resource
from gateway.domain.dataset import DatasetRef, DatasetVersion, parse_name
from gateway.domain.lease import Grant
from gateway.domain.manifest import Manifest
from gateway.domain.purpose import PURPOSES, parse_purpose
from gateway.errors import (
    AccessDenied,
    GatewayError,
    InvalidInput,
    LimitExceeded,
    NotFound,
    UnknownName,
)
from gateway.lineage.question import NEAREST_MAX
from gateway.services import consents, fetch, person_index
from gateway.services.house import House
from gateway.services.noted import noted
from gateway.services.person_delivery import Outcome, Use, Verdict, Version, rows_key
from gateway.services.person_index import Rows
from gateway.services.request_access import Caller, decide, record, resource_of
from gateway.services.storage import load_manifest, local_path, open_keys
from gateway.services.stream import order_key_of
from gateway.shards import person_filter
from gateway.shards.person_filter import Search

ACTION = "audit-person"
GRANTS_MAX = 10_000
FILTERS_MAX = 32  # different sets of rows whose filter is read for one answer
_log = logging.getLogger("gateway.persons")


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """Whom a question is about, and what may be written down of it."""

    person: str = field(repr=False)  # the id; never written anywhere
    told: Mapping[str, Any]  # the parameters with the tag instead


def side_of(caller: Caller, parameters: Mapping[str, Any]) -> str:
    """Whose persons are asked about: the tenant named, the dataset's owner, or the caller's own."""
    tenant, dataset = parameters.get("tenant"), parameters.get("dataset")
    if tenant is not None:
        return parse_name(tenant, what="tenant")
    return DatasetRef.parse(dataset).tenant if isinstance(dataset, str) else caller.subject.tenant


async def admitted(
    house: House, caller: Caller, tenant: str, question: tuple[str, Mapping[str, Any]]
) -> About:
    """(1) to (4): whom it is about, once it may be answered.

    Raises:
        AccessDenied, NotFound: no right to ask about persons there.
        InvalidInput: no person, or no purpose.
        LimitExceeded: too many questions of the caller's tenant.
    """
    name, parameters = question
    purpose = parameters.get("purpose")
    known = purpose if isinstance(purpose, str) and purpose in PURPOSES else None
    await _permitted(house, caller, _resource(house, tenant, parameters.get("dataset")), known)
    about = _about(house, tenant, parameters)
    house.persons_asked.take(caller.subject.tenant, house.now())
    await noted(house, caller, tenant, (name, about.told))
    return about


def _resource(house: House, tenant: str, dataset: Any) -> Resource:
    """What is judged: the dataset that is asked about while it is there, else the tenant."""
    if isinstance(dataset, str) and (ref := DatasetRef.parse(dataset)).tenant == tenant:
        with contextlib.suppress(NotFound):
            return resource_of(house, ref.unversioned)
    return Resource(tenant=tenant)


async def _permitted(house: House, caller: Caller, resource: Resource, purpose: str | None) -> None:
    """(1) A denial is recorded; another tenant's question finds nobody."""
    if caller.grant is not None:
        raise AccessDenied("a dataset token opens streams only", advice="use your API token")
    tenant = resource.tenant
    request = AccessRequest(
        subject=caller.subject,
        action=ACTION,
        dataset=resource.dataset,
        tenant=tenant,
        purpose=purpose,
    )
    decision = decide(house, request, resource)
    if decision.is_allowed:
        return
    if tenant != caller.subject.tenant:
        raise NotFound(f"no tenant `{tenant}` whose persons you may ask about")
    await record(house, request, decision)
    decision.require()


def _about(house: House, tenant: str, parameters: Mapping[str, Any]) -> About:
    """(2) The person and the purpose of a question; InvalidInput when one is missing."""
    person, purpose = parameters.get("person"), parameters.get("purpose")
    if not isinstance(person, str):
        raise InvalidInput(
            "`person` is missing", advice="`--person -` reads the id from stdin", field="parameters"
        )
    if not isinstance(purpose, str):
        raise InvalidInput(
            "a question about a person needs its `purpose`",
            advice="say why you ask, for example `legal-obligation`; it is recorded",
            field="parameters",
        )
    told = {
        **parameters,
        "person": consents.tag_of(house, tenant, person),
        "purpose": parse_purpose(purpose),
    }
    return About(person=person, told=told)


async def held(house: House, tenant: str, dataset: Any, about: About) -> list[dict[str, Any]]:
    """(5) to (7) What each Grant on a dataset of the tenant's had of the person.

    Raises:
        UnknownName: there is and was no such dataset.
        InvalidInput: no version of it can hold such an id.
        LimitExceeded: too many Grants.
    """
    if not isinstance(dataset, str):
        raise InvalidInput("`dataset` is missing", field="parameters")
    ref = DatasetRef.parse(dataset)
    grants = house.catalog.grants(owner=tenant, dataset=ref)
    versions = _versions(house, ref)
    if ref.tenant != tenant or not (grants or versions or house.catalog.erasures(ref)):
        own = [f"{d.tenant}/{d.name}" for d in house.catalog.datasets() if d.tenant == tenant]
        raise UnknownName.near(
            f"there is no dataset `{ref}` in the history of `{tenant}`",
            get_close_matches(str(ref.unversioned), own, NEAREST_MAX),
            parameter="dataset",
        )
    if len(grants) > GRANTS_MAX:
        raise LimitExceeded(
            f"there are more than {GRANTS_MAX} grants on it",
            advice="ask about one version",
            limit=GRANTS_MAX,
        )
    uses = _uses(house, grants, {version.dataset_id for version in versions.values()})
    known = await _located(house, versions, uses, about.person)
    verdicts = await asyncio.to_thread(_verdicts, known, uses)
    return [
        {
            "grant": use.grant.id,
            "outcome": verdict.outcome.word,
            "because": verdict.because,
            "strength": int(verdict.outcome),
        }
        for use, verdict in zip(uses, verdicts, strict=True)
    ]


def _versions(house: House, ref: DatasetRef) -> dict[int, DatasetVersion]:
    try:
        dataset = house.catalog.dataset(ref.tenant, ref.name)
    except NotFound:
        return {}
    return {
        version.ref.version or 0: version
        for version in dataset.versions
        if ref.version in (None, version.ref.version)
    }


def _uses(house: House, grants: list[Grant], dataset_ids: set[str]) -> list[Use]:
    ids = {grant.id for grant in grants}
    by_grant: dict[str, list[Any]] = {}
    for delivery in deliveries.under(house.catalog.state, ids):
        by_grant.setdefault(delivery.grant, []).append(delivery)
    keys: dict[str, set[str]] = {}
    for dataset_id in dataset_ids:
        for release in house.catalog.key_releases(dataset_id):
            if release.grant in ids:
                keys.setdefault(release.grant, set()).update(release.shards)
    return [
        Use(
            grant=grant,
            deliveries=by_grant.get(grant.id, ()),
            keys_of=frozenset(keys.get(grant.id, ())),
            order_key=partial(order_key_of, house, grant),
        )
        for grant in grants
    ]


async def _located(
    house: House, versions: Mapping[int, DatasetVersion], uses: list[Use], person: str
) -> dict[int, Version]:
    """(5) and (6) of every version that was read."""
    found: dict[int, Version] = {}
    refusals = []
    for number in sorted({use.plan.dataset.version or 0 for use in uses} & versions.keys()):
        manifest, rows, refusal = await house.aside(_look_up, house, versions[number], person)
        found[number] = Version(manifest=manifest, rows=rows)
        refusals.append(refusal)
    refused = next(filter(None, refusals), None)
    if refused is not None and None not in refusals:  # no version knows such ids
        raise refused
    filters = 0
    for use in uses:
        version = found.get(use.plan.dataset.version or 0)
        if version is None or not _must_be_read(version, use):
            continue
        filters += 1
        if filters <= FILTERS_MAX:
            await _read_filter(house, versions[version.manifest.version], version, use.plan)
    return found


def _look_up(
    house: House, version: DatasetVersion, person: str
) -> tuple[Manifest, Rows, InvalidInput | None]:
    """The person's rows in a version; with the reason, when its ids are of another kind."""
    manifest = load_manifest(house, version.ref)
    try:
        return manifest, person_index.rows_of(house, version, manifest, person), None
    except InvalidInput as refusal:
        return manifest, Rows(), refusal


def _must_be_read(version: Version, use: Use) -> bool:
    return bool(
        use.plan.row_filter is not None
        and use.deliveries
        and version.held(use.plan)
        and rows_key(use.plan) not in version.passes
    )


async def _read_filter(house: House, of: DatasetVersion, version: Version, plan: Plan) -> None:
    """(6) What cannot be read any more (an erased column) stays unknown, and the answer says so."""
    rows, shards = version.rows, tuple(version.held(plan))
    if plan.row_filter is None or rows.field_id is None:
        return
    search = Search(
        manifest=version.manifest,
        shards=shards,
        row_filter=plan.row_filter,
        person=rows.field_id,
        tag=rows.tag,
        tag_key=person_index.key_of(house, version.manifest.dataset_id),
    )
    try:
        await fetch.here(house, shards)
        keys = await house.aside(open_keys, house, of, search.leaves())
        paths = {shard.id: local_path(house, shard) for shard in shards}
        ready = replace(search, deks=keys, paths=paths)
        version.passes[rows_key(plan)] = await asyncio.to_thread(person_filter.passes, ready)
    except GatewayError as error:
        _log.warning("a row filter cannot be read", extra={"why": error.code})


def _verdicts(known: Mapping[int, Version], uses: list[Use]) -> list[Verdict]:
    return [_verdict(known.get(use.plan.dataset.version or 0), use) for use in uses]


def _verdict(version: Version | None, use: Use) -> Verdict:
    if version is None:
        return Verdict(outcome=Outcome.UNKNOWN, because="erased")
    return version.verdict(use)
