"""Owners publish rules: stored by content, journalled, then swapped in one assignment.

The server never judges by text that is not stored: (1) a confined child reads the whole bundle,
checks every field, runs its suites (bench.py); (2) its files are stored under their digest;
(3) PolicyPublished is recorded, which raises the PolicyEpoch; (4) the new snapshot is swapped.
Between (3) and (4) no await happens, so no decision falls between the two.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path

from gateway.domain.access import AccessRequest, Resource, Subject
from gateway.domain.dataset import DatasetRef
from gateway.domain.events import EventDraft, EventKind
from gateway.errors import IntegrityError, PolicyError, PreconditionFailed
from gateway.policy.bundle import PolicyBundle
from gateway.policy.judge import Judge
from gateway.services import bench
from gateway.services.house import House
from gateway.services.request_access import Caller, authorize, resource_of


async def current(house: House, caller: Caller, tenant: str) -> PolicyBundle:
    """The tenant's bundle in force, for those who may publish or audit it."""
    await authorize(house, caller, "publish", tenant)
    await house.settled()
    return house.bundles.get(tenant) or PolicyBundle.read({}, tenant)


def resources_of(house: House, tenant: str) -> tuple[Resource, ...]:
    """The tenant's datasets at their newest versions, as the judge sees them."""
    return tuple(
        resource_of(house, DatasetRef(dataset.tenant, dataset.name))
        for dataset in house.catalog.datasets()
        if dataset.tenant == tenant
    )


def principals_of(house: House, tenant: str) -> frozenset[str]:
    """Whom rules can mean in the tenant: its people, jobs and their roles."""
    people = [person for person in house.catalog.identities(tenant) if not person.disabled]
    users = {f"{tenant}/user:{person.id.partition('/')[2]}" for person in people}
    return frozenset(users | {f"{tenant}/role:{role}" for p in people for role in p.roles})


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
    await bench.examined(house, tenant, files)
    expected = if_match.strip('"') if if_match is not None else None
    return await store_and_record(house, caller.subject, tenant, files, expected=expected)


def require_publisher(house: House, bundle: PolicyBundle) -> None:
    """Refuse rules under which nobody could ever change them again.

    Raises:
        PolicyError: no identity of the tenant could publish its next bundle.
    """
    tenant = bundle.tenant
    judge = Judge.build({**house.bundles, tenant: bundle}.values())
    people = [person for person in house.catalog.identities(tenant) if not person.disabled]
    for person in people:
        subject = Subject(id=person.id, tenant=tenant, type=person.type, roles=person.roles)
        request = AccessRequest(subject=subject, action="publish", dataset=None, tenant=tenant)
        decision = judge.decide(
            request,
            Resource(tenant=tenant),
            decision_id=house.id("dec_"),
            now=house.now(),
            policy_epoch=house.catalog.policy_epoch,
            catalog_index=house.catalog.index,
        )
        if decision.is_allowed:
            return
    if people:
        raise PolicyError(
            f"under these rules nobody of `{tenant}` could publish rules again",
            advice="a bundle is everything a tenant publishes: add the rules of its roles, which "
            "`gateway policy new … --dir NEW` writes into a new directory with all others in force",
        )


async def store_and_record(
    house: House,
    actor: Subject | None,
    tenant: str,
    files: Mapping[str, str],
    *,
    expected: str | None = None,
) -> PolicyBundle:
    """Steps (2) to (4), of files that the bench has examined or that ship with the gateway.

    Args:
        house: the rooms.
        actor: who publishes; None = the gateway itself (init, `--policies DIR`).
        tenant: whose bundle.
        files: path to text.
        expected: digest that must be in force still; None = whatever is.
    """
    bundle = await asyncio.to_thread(PolicyBundle.read, files, tenant)
    if actor is not None:
        require_publisher(house, bundle)
    await asyncio.to_thread(_store, house.places.bundles, bundle)
    if expected not in (None, house.catalog.bundle(tenant)):
        raise PreconditionFailed(
            "the bundle in force is another one", advice="read it again, then merge"
        )
    bundles = {**house.bundles, tenant: bundle}
    judge = Judge.build(bundles.values())
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
    house.bundles, house.judge = bundles, judge
    await house.journal.durable(index)
    return bundle


def take_in_force(house: House) -> None:
    """Read every tenant's recorded bundle from disk and judge by them (at start)."""
    names = [t.name for t in house.catalog.tenants() if house.catalog.bundle(t.name) is not None]
    house.bundles = {name: load(house, name) for name in names}
    house.judge = Judge.build(house.bundles.values())


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
