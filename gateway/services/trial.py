"""What rules would do, before they count: lint, tests, diff and replay in one answer.

The question is recorded before it is answered; the answer follows from what its asker may see:
his own rules and datasets, and what was recorded about them (threats of replay: policy/replay.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import gateway.wire as W
from gateway.catalog.records import DecisionRecord
from gateway.domain.access import AccessRequest, Limits, Resource, Subject, digest_of
from gateway.domain.dataset import DatasetRef
from gateway.domain.events import EventDraft, EventKind
from gateway.errors import InvalidInput, NotFound, PolicyError
from gateway.policy.bench import problem_of
from gateway.policy.bench_job import BenchJob
from gateway.policy.bundle import PolicyBundle, bundle_digest
from gateway.policy.replay import Recorded
from gateway.services import bench, publish
from gateway.services.house import House
from gateway.services.request_access import Caller, authorize, resource_of
from gateway.wire.times import iso


async def trial(house: House, caller: Caller, tenant: str, wanted: W.TrialRequest) -> W.Trial:
    """Try rules without publishing them.

    Raises:
        InvalidInput: no such part.
        LimitExceeded: the tenant replayed too often in this hour.
    """
    await authorize(house, caller, "publish", tenant)
    parts = wanted.parts or W.TRIAL_PARTS
    unknown = set(parts) - set(W.TRIAL_PARTS)
    if unknown:
        raise InvalidInput(
            f"`{min(unknown)[:40]}` is no part of a trial", advice=f"use {', '.join(W.TRIAL_PARTS)}"
        )
    before = await publish.current(house, caller, tenant)
    files = before.files if wanted.files is None else wanted.files
    if "replay" in parts:
        house.replays.take(tenant, house.now())
        await _recorded(house, caller, tenant, files)
    found = await bench.run(_job(house, before, files, parts))
    if found.problems:
        return found
    try:
        publish.require_publisher(house, PolicyBundle.read(files, tenant))
    except PolicyError as refused:
        return W.Trial(ok=False, problems=(problem_of(refused),))
    return found


def _job(
    house: House, before: PolicyBundle, files: Mapping[str, str], parts: tuple[str, ...]
) -> BenchJob:
    tenant = before.tenant
    recorded = tuple(_requests(house, tenant)) if "replay" in parts else ()
    resources = publish.resources_of(house, tenant)
    judged = [*resources, *(one.resource for _, one in recorded)]
    origins = {a.dataset.tenant for resource in judged for a in resource.ancestors}
    return BenchJob(
        tenant=tenant,
        files=files,
        parts=parts,
        now=house.now(),
        before=before.files,
        beside=bench.beside(house, origins, tenant),
        resources=resources,
        principals=tuple(sorted(publish.principals_of(house, tenant))),
        recorded=tuple(one for _, one in recorded),
        since=iso(min(time for time, _ in recorded)) if recorded else None,
    )


async def _recorded(house: House, caller: Caller, tenant: str, files: Mapping[str, str]) -> None:
    await house.recorded(
        EventDraft(
            kind=EventKind.QuestionAsked,
            owner_tenant=tenant,
            actor_tenant=caller.subject.tenant,
            actor=caller.subject.id,
            facts={
                "question": "policy-replay",
                "parameters_digest": digest_of({"bundle": bundle_digest(tenant, files)}),
            },
        )
    )


def _requests(house: House, tenant: str) -> Iterator[tuple[float, Recorded]]:
    """Requests for the tenant's datasets that the catalogue remembers, with their times."""
    resources: dict[DatasetRef, Resource | None] = {}
    for record in house.catalog.decisions(owner=tenant):
        ref = _ref(record)
        if ref is None:
            continue
        if ref not in resources:
            resources[ref] = _found(house, ref)
        resource = resources[ref]
        request = _request(record, ref)
        if resource is not None and request is not None:
            yield record.time, Recorded(request=request, resource=resource)


def _ref(record: DecisionRecord) -> DatasetRef | None:
    if record.dataset is None or record.version is None:
        return None
    known = DatasetRef.parse(record.dataset)
    return DatasetRef(known.tenant, known.name, record.version)


def _found(house: House, ref: DatasetRef) -> Resource | None:
    try:
        return resource_of(house, ref)
    except NotFound:
        return None  # erased since


def _request(record: DecisionRecord, ref: DatasetRef) -> AccessRequest | None:
    """The request as it was; None when who asked was erased, or is not recorded in full."""
    details = record.details or {}
    who = details.get("subject")
    if record.actor is None or record.actor_tenant is None or who is None:
        return None
    columns = details.get("asked_columns")
    return AccessRequest(
        subject=Subject(
            id=record.actor,
            tenant=record.actor_tenant,
            type=who["type"],
            roles=tuple(who["roles"]),
            attributes=who["attributes"],
        ),
        action=record.action,
        dataset=ref,
        tenant=record.owner_tenant,
        purpose=record.purpose,
        columns=None if columns is None else tuple(columns),
        split=record.split,
        limits=Limits(**details.get("asked_limits", {})),
        run=record.run,
        context=details.get("context", {}),
    )
