"""What rules would do, before they count: lint, tests, diff and replay in one answer.

The question is recorded before it is answered; the answer follows from what its asker may see:
his own rules and datasets, and what was recorded about them (threats of replay: policy/replay.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict

import gateway.wire as W
from gateway.domain.access import AccessRequest, Resource, digest_of
from gateway.domain.dataset import DatasetRef
from gateway.errors import InvalidInput, NotFound, PolicyError
from gateway.policy.bench import problem_of
from gateway.policy.bench_job import BenchJob
from gateway.policy.bundle import PolicyBundle, bundle_digest
from gateway.policy.replay import Recorded
from gateway.services import bench, publish, recorded
from gateway.services.house import House
from gateway.services.request_access import Caller, authorize, resource_of
from gateway.wire.times import iso

REQUESTS_MAX = 100_000  # different ones; the child judges more than 20,000 a second


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
    if {"diff", "replay"} & set(parts):
        what = "policy-replay" if "replay" in parts else "policy-diff"
        await recorded.ask(house, caller, tenant, what, {"bundle": bundle_digest(tenant, files)})
    asked = await asyncio.to_thread(_Replayed, house, tenant) if "replay" in parts else None
    found = await bench.run(_job(house, before, files, parts, asked))
    if found.problems:
        return found
    try:
        bundle = await asyncio.to_thread(PolicyBundle.read, files, tenant)
        judge = await publish.snapshot_with(house, bundle)
        publish.require_publisher(house, bundle, judge)
    except PolicyError as refused:
        return W.Trial(ok=False, problems=(problem_of(refused),))
    return found


def _job(
    house: House,
    before: PolicyBundle,
    files: Mapping[str, str],
    parts: tuple[str, ...],
    asked: _Replayed | None,
) -> BenchJob:
    tenant = before.tenant
    requests = asked.of_data(house) if asked is not None else ()
    resources = publish.resources_of(house, tenant)
    judged = [*resources, *(one.resource for one in requests)]
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
        recorded=requests,
        since=iso(asked.oldest) if asked is not None and asked.oldest is not None else None,
        is_cut=asked is not None and not asked.reach.is_complete,
    )


class _Replayed:
    """Recorded requests for the tenant's datasets; the same one asked again is counted."""

    def __init__(self, house: House, tenant: str) -> None:
        """Read them; for a thread of its own."""
        self.reach = recorded.Reach()
        self.oldest: float | None = None
        self._times: dict[str, int] = {}
        self._requests: dict[str, AccessRequest] = {}
        for record in recorded.decisions(house, tenant, self.reach):
            request = recorded.request_of(record)
            if request is None:
                continue
            key = digest_of(asdict(request))
            self._requests.setdefault(key, request)
            self._times[key] = self._times.get(key, 0) + 1
            self.oldest = record.time
            if len(self._requests) >= REQUESTS_MAX:
                self.reach.since = record.time
                break

    def of_data(self, house: House) -> tuple[Recorded, ...]:
        """Those whose data is still there, as the catalogue knows it now."""
        refs = {r.dataset for r in self._requests.values() if r.dataset is not None}
        resources = {ref: _found(house, ref) for ref in refs}
        return tuple(
            Recorded(request=request, resource=resource, times=self._times[key])
            for key, request in self._requests.items()
            if request.dataset and (resource := resources[request.dataset]) is not None
        )


def _found(house: House, ref: DatasetRef) -> Resource | None:
    try:
        return resource_of(house, ref)
    except NotFound:
        return None  # erased since
