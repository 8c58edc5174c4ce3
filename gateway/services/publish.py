"""Owners publish rules: stored by content, journalled, then swapped in one assignment.

The server never judges by text that is not stored: (1) a confined child reads the whole bundle,
checks every field, runs its suites (bench.py); (2) its files are stored under their digest;
(3) PolicyPublished is recorded, which raises the PolicyEpoch; (4) the new snapshot is swapped.
Between (3) and (4) no await happens, so no decision falls between the two. The snapshot is built
beside the decisions, in a thread, and one publication after the other.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.catalog.records import ProposedBundle
from gateway.domain.access import AccessRequest, Resource, Subject
from gateway.domain.dataset import DatasetRef
from gateway.domain.events import EventDraft, EventKind
from gateway.errors import Conflict, IntegrityError, PolicyError, PreconditionFailed
from gateway.policy.bundle import PolicyBundle, bundle_digest
from gateway.policy.judge import Judge
from gateway.services import bench, compiled_rules
from gateway.services.house import House
from gateway.services.request_access import Caller, authorize, resource_of

PROPOSAL_SECONDS = 14 * 24 * 3600


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
    present = house.bundles.get(tenant)
    if present is not None and present.second_person:
        return await _propose(house, caller, present, files, expected)
    return await store_and_record(house, caller.subject, tenant, files, expected=expected)


async def _propose(
    house: House,
    caller: Caller,
    present: PolicyBundle,
    files: Mapping[str, str],
    expected: str | None,
) -> PolicyBundle:
    """Store the rules and let them wait; what is in force stays, and is returned."""
    bundle = await asyncio.to_thread(PolicyBundle.read, files, present.tenant)
    require_publisher(house, bundle, await snapshot_with(house, bundle))
    await asyncio.to_thread(_store, house.places.bundles, bundle)
    if expected not in (None, present.digest) or house.bundles[present.tenant] is not present:
        raise _another_in_force()
    await house.recorded(
        EventDraft(
            kind=EventKind.PolicyProposed,
            owner_tenant=bundle.tenant,
            actor_tenant=caller.subject.tenant,
            actor=caller.subject.id,
            facts={
                **_bundle_facts(bundle),
                "base": present.digest,
                "expires_at": int(house.now()) + PROPOSAL_SECONDS,
            },
        )
    )
    return present


def _bundle_facts(bundle: PolicyBundle) -> dict[str, Any]:
    return {
        "tenant": bundle.tenant,
        "bundle": bundle.digest,
        "files": len(bundle.files),
        "rules": len(bundle.rules),
    }


def _another_in_force() -> PreconditionFailed:
    return PreconditionFailed(
        "the bundle in force is another one", advice="read it again, then merge"
    )


async def snapshot_with(house: House, bundle: PolicyBundle) -> Judge:
    """What would judge with it in place of its predecessor; of many rules it takes seconds."""
    bundles = {**house.bundles, bundle.tenant: bundle}
    return await asyncio.to_thread(Judge.build, bundles.values())


def require_publisher(house: House, bundle: PolicyBundle, judge: Judge) -> None:
    """Refuse rules under which nobody could ever change them again.

    Args:
        house: the rooms.
        bundle: the rules.
        judge: a snapshot with them in place.

    Raises:
        PolicyError: no identity of the tenant could publish its next bundle.
    """
    tenant = bundle.tenant
    people = [person for person in house.catalog.identities(tenant) if not person.disabled]
    able = 0
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
        able += decision.is_allowed and (not bundle.second_person or person.type == "person")
        if able > bundle.second_person:
            return
    if able:
        raise PolicyError(
            f"under these rules nobody else of `{tenant}` could be the second person",
            advice="add a second person who may publish, or leave out `second_person`",
        )
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
    approves: ProposedBundle | None = None,
) -> PolicyBundle:
    """Steps (2) to (4), of files that the bench has examined or that ship with the gateway.

    Args:
        house: the rooms.
        actor: who publishes; None = the gateway itself (init, `--policies DIR`).
        tenant: whose bundle.
        files: path to text.
        expected: digest that must be in force still; None = whatever is.
        approves: what waited for the actor as second person.
    """
    bundle = await asyncio.to_thread(PolicyBundle.read, files, tenant)
    async with house.publishing:
        judge = await snapshot_with(house, bundle)
        if actor is not None:
            require_publisher(house, bundle, judge)
        await asyncio.to_thread(_store, house.places.bundles, bundle)
        if expected not in (None, house.catalog.bundle(tenant)):
            raise _another_in_force()
        _require_approved(house, tenant, approves)
        index = house.record(_published(bundle, actor, approves))
        house.bundles, house.judge = {**house.bundles, tenant: bundle}, judge
    await house.journal.durable(index)
    await asyncio.to_thread(compiled_rules.keep, house, bundle)
    return bundle


def _published(
    bundle: PolicyBundle, actor: Subject | None, approves: ProposedBundle | None
) -> EventDraft:
    return EventDraft(
        kind=EventKind.PolicyPublished,
        owner_tenant=bundle.tenant,
        actor_tenant=actor.tenant if actor else bundle.tenant,
        actor=actor.id if actor else None,
        facts={
            **_bundle_facts(bundle),
            **({"proposal": approves.index} if approves else {}),
        },
    )


def _require_approved(house: House, tenant: str, approves: ProposedBundle | None) -> None:
    """Nothing comes in force past the second person, by whatever way; no await follows.

    Raises:
        Conflict: what is in force demands one, and there is none.
    """
    present = house.bundles.get(tenant)
    if approves is not None:
        if (
            house.catalog.proposed(tenant) != approves
            or present is None
            or (present.digest != approves.base)
        ):
            raise _another_in_force()
    elif present is not None and present.second_person:
        raise Conflict(
            f"rules of `{tenant}` need a second person",
            advice="push them, then another person runs `gateway policy approve`",
        )


def take_in_force(house: House) -> None:
    """Read every tenant's recorded bundle from disk and judge by them (at start)."""
    names = [t.name for t in house.catalog.tenants() if house.catalog.bundle(t.name) is not None]
    house.bundles = {name: load(house, name) for name in names}
    house.judge = Judge.build(house.bundles.values())
    gc.freeze()  # a collection that looks through all rules in force stops a decision for long


def load(house: House, tenant: str) -> PolicyBundle:
    """Read a stored bundle; IntegrityError when it is not the one that was recorded."""
    digest = house.catalog.bundle(tenant)
    if digest is None:
        return PolicyBundle.read({}, tenant)
    files = stored_files(house, tenant, digest)
    known = compiled_rules.load(house, tenant, digest, files)
    if known is None:
        known = PolicyBundle.read(files, tenant)
        compiled_rules.keep(house, known)
    return known


def stored_files(house: House, tenant: str, digest: str) -> dict[str, str]:
    """The files of a stored bundle; IntegrityError when they are not those of this digest."""
    try:
        files = json.loads((house.places.bundles / f"{digest}.json").read_text("utf-8"))
        found = bundle_digest(tenant, files)
    except (OSError, ValueError, TypeError, AttributeError) as cause:
        raise IntegrityError(f"the policy bundle of `{tenant}` cannot be read") from cause
    if found != digest:
        raise IntegrityError(f"the policy bundle of `{tenant}` is not the recorded one")
    return dict(files)


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
