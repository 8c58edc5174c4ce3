"""Owners publish rules: stored by content, journalled, then swapped in one assignment.

The server never judges by text that is not stored: (1) the bundle is read whole, every field
checked, its suites run; (2) its files are stored under their digest; (3) PolicyPublished is
recorded, which raises the PolicyEpoch; (4) the new snapshot is swapped. Between (3) and (4)
no await happens, so no decision falls between the two.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from gateway.domain.access import Subject
from gateway.domain.events import EventDraft, EventKind
from gateway.errors import IntegrityError, PolicyError, PreconditionFailed
from gateway.policy.bundle import PolicyBundle
from gateway.policy.judge import Judge
from gateway.policy.suite import SuiteResult, run_suites
from gateway.services.house import House
from gateway.services.request_access import Caller, authorize


async def current(house: House, caller: Caller, tenant: str) -> PolicyBundle:
    """The tenant's bundle in force, for those who may publish or audit it."""
    await authorize(house, caller, "publish", tenant)
    await house.settled()
    return load(house, tenant)


async def trial(
    house: House, caller: Caller, tenant: str, files: Mapping[str, str]
) -> tuple[PolicyBundle, list[SuiteResult]]:
    """Read and test a bundle without publishing it; PolicyError says where it is wrong."""
    await authorize(house, caller, "publish", tenant)
    bundle = PolicyBundle.read(files, tenant)
    return bundle, run_suites(bundle)


async def publish(
    house: House,
    caller: Caller,
    tenant: str,
    files: Mapping[str, str],
    if_match: str | None,
) -> PolicyBundle:
    """Put a new bundle in force; takes effect for the next segment of running streams.

    Raises:
        PreconditionFailed: `if_match` is given and not the digest in force.
        PolicyError: a rule is wrong or a suite fails; the old bundle stays.
    """
    await authorize(house, caller, "publish", tenant)
    if if_match is not None and if_match.strip('"') != house.catalog.bundle(tenant):
        raise PreconditionFailed(
            "the bundle in force is another one", advice="`gateway policy pull`, then merge"
        )
    return await store_and_record(house, caller.subject, tenant, files)


async def store_and_record(
    house: House, actor: Subject | None, tenant: str, files: Mapping[str, str]
) -> PolicyBundle:
    """Steps (1) to (4); `actor` None = the gateway itself, at `init`."""
    bundle = PolicyBundle.read(files, tenant)
    failed = [result for result in run_suites(bundle) if not result.ok]
    if failed:
        first = failed[0]
        raise PolicyError(
            f"the test at {first.place} fails: {'; '.join(first.problems)[:400]}",
            advice="correct the rule or its test; the old bundle stays in force",
        )
    judge = build_judge(house, {tenant: bundle})
    _store(house.places.bundles, bundle)
    index = house.record(
        EventDraft(
            kind=EventKind.PolicyPublished,
            owner_tenant=tenant,
            actor_tenant=actor.tenant if actor else tenant,
            actor=actor.id if actor else None,
            facts={
                "tenant": tenant,
                "bundle": bundle.digest,
                "files": len(bundle.files),
                "rules": len(bundle.rules),
            },
        )
    )
    house.judge = judge
    await house.journal.durable(index)
    return bundle


def build_judge(house: House, changed: Mapping[str, PolicyBundle] | None = None) -> Judge:
    """Compile every tenant's bundle in force, with `changed` in place of the old ones."""
    changed = changed or {}
    names = {tenant.name for tenant in house.catalog.tenants()} | set(changed)
    bundles = [
        changed[name] if name in changed else load(house, name)
        for name in sorted(names)
        if name in changed or house.catalog.bundle(name)
    ]
    return Judge.build(bundles)


def load(house: House, tenant: str) -> PolicyBundle:
    """Read a stored bundle; IntegrityError when it is not the one that was recorded."""
    digest = house.catalog.bundle(tenant)
    if digest is None:
        return PolicyBundle.read({}, tenant)
    try:
        files = json.loads((house.places.bundles / f"{digest}.json").read_text("utf-8"))
        bundle = PolicyBundle.read(files, tenant)
    except (OSError, ValueError, AttributeError) as cause:
        raise IntegrityError(f"the policy bundle of `{tenant}` cannot be read") from cause
    if bundle.digest != digest:
        raise IntegrityError(f"the policy bundle of `{tenant}` is not the recorded one")
    return bundle


def _store(directory: Path, bundle: PolicyBundle) -> None:
    """Write the files under their digest, durably; the same content twice is one file."""
    path = directory / f"{bundle.digest}.json"
    if path.exists():
        return
    temporary = path.with_suffix(".new")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(dict(bundle.files), file, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
