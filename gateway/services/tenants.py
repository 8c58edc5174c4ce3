"""Operators add tenants; a tenant's owner adds its identities. No password exists anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import gateway.wire as W
from gateway.catalog.records import Identity
from gateway.crypto.identity_keys import public_key_of
from gateway.crypto.jws import thumbprint
from gateway.domain.dataset import parse_name
from gateway.domain.events import EventDraft, EventKind
from gateway.errors import Conflict, InvalidInput, NotFound
from gateway.policy import packs
from gateway.policy.bundle import bundle_digest
from gateway.services import publish, refusals, tenant_limits
from gateway.services.house import PLATFORM, House
from gateway.services.request_access import Caller, authorize
from gateway.services.stopping import Stopped, stop_streams
from gateway.wire.times import iso

TYPES = ("person", "job")


async def add_tenant(house: House, caller: Caller, wanted: W.TenantRequest) -> None:
    """Add a tenant with its standard rules (the `tenant` pack); Conflict when it exists.

    With the public key of its first owner, the identity `owner` is added too. The same request
    again does what a killed gateway had left undone: without a key before anybody used the
    tenant, with the key at any time.
    """
    tenant = parse_name(wanted.tenant, what="tenant")
    await authorize(house, caller, "operate", PLATFORM)
    rules = packs.load("tenant", tenant)
    if not _is_begun(house, wanted, rules):
        await house.aside(house.vault.add_tenant, tenant)
        if not _is_begun(house, wanted, rules):  # somebody else may have been faster
            house.record(
                EventDraft(
                    kind=EventKind.TenantAdded,
                    owner_tenant=tenant,
                    actor_tenant=caller.subject.tenant,
                    actor=caller.subject.id,
                    facts={"tenant": tenant},
                )
            )
    if house.catalog.bundle(tenant) is None:
        await publish.store_and_record(house, caller.subject, tenant, rules)
    if wanted.owner_public_key is not None:
        first = W.IdentityRequest(
            identity="owner", type="person", roles=("owner",), public_key=wanted.owner_public_key
        )
        await add_identity(house, caller, tenant, first)
    await house.settled()


def _is_begun(house: House, wanted: W.TenantRequest, rules: Mapping[str, str]) -> bool:
    """Whether it is there as this request makes it, perhaps not all of it yet.

    Raises:
        Conflict: it is there, and another request made it or somebody used it.
    """
    found = next((t for t in house.catalog.tenants() if t.name == wanted.tenant), None)
    if found is None:
        return False
    people = {(person.id, person.public_key) for person in house.catalog.identities(found.name)}
    if wanted.owner_public_key and (f"{found.name}/owner", wanted.owner_public_key) in people:
        return True  # its owner's key says that it is the same one, used since or not
    pack = bundle_digest(found.name, rules)
    if (
        found.suspended
        or people - {(f"{found.name}/owner", wanted.owner_public_key)}
        or house.catalog.bundle(found.name) not in (None, pack)
        or any(dataset.tenant == found.name for dataset in house.catalog.datasets())
    ):
        raise Conflict(f"tenant `{found.name}` exists already", advice="choose another name")
    return True


async def views(house: House, caller: Caller) -> list[W.TenantView]:
    """All tenants for an operator, one's own for everybody else."""
    await house.settled()
    own = caller.subject.tenant
    if own == PLATFORM:
        await authorize(house, caller, "operate", PLATFORM)
    names = [tenant.name for tenant in house.catalog.tenants()]
    return [_view(house, name) for name in sorted(names) if own in {PLATFORM, name}]


async def view(house: House, caller: Caller, tenant: str) -> W.TenantView:
    """One tenant; NotFound for those who are neither of it nor operators."""
    for found in await views(house, caller):
        if found.tenant == tenant:
            return found
    raise NotFound(f"no tenant `{tenant[:80]}` that you may see")


async def show(house: House, caller: Caller, tenant: str) -> W.TenantView:
    """As `view`, with what it uses of its limits."""
    found = await view(house, caller, tenant)
    return replace(
        found,
        open_streams=house.catalog.open_streams(tenant, house.now()),
        bytes_today=tenant_limits.bytes_today(house, tenant),
        stored_bytes=await tenant_limits.stored_bytes(house, tenant),
    )


def _view(house: House, name: str) -> W.TenantView:
    tenant = house.catalog.tenant(name)
    return W.TenantView(
        tenant=name,
        suspended=tenant.suspended,
        datasets=sum(1 for dataset in house.catalog.datasets() if dataset.tenant == name),
        identities=len(house.catalog.identities(name)),
        added_at=iso(tenant.added_at),
        expired=tuple(sorted(house.catalog.state.expired_of(name))),
        **tenant.limits.to_dict(),
    )


async def add_identity(
    house: House, caller: Caller, tenant: str, wanted: W.IdentityRequest
) -> W.IdentityView:
    """Register the public key of a person or job; the private key never leaves its owner.

    Args:
        house: the rooms.
        caller: an owner of the tenant, or an operator.
        tenant: whose identity it will be.
        wanted: name, type, roles and Ed25519 public key.

    Raises:
        Conflict: there is another identity of that name; the very same one is answered again.
    """
    name = parse_name(wanted.identity, what="identity")
    roles = tuple(sorted({parse_name(role, what="role") for role in wanted.roles}))
    if wanted.type not in TYPES or not roles:
        raise InvalidInput("an identity has a type and roles", advice="type is person or job")
    if "operator" in roles and tenant != PLATFORM:
        raise InvalidInput("only the platform has operators", advice=f"use tenant `{PLATFORM}`")
    await _authorize_for(house, caller, tenant)
    house.catalog.tenant(tenant)
    identity = f"{tenant}/{name}"
    for known in house.catalog.identities(tenant):
        if known.id == identity:
            _require_same(known, wanted, roles)
            await house.settled()
            return _identity_view(known)
    await house.recorded(
        EventDraft(
            kind=EventKind.IdentityAdded,
            owner_tenant=tenant,
            actor_tenant=caller.subject.tenant,
            actor=caller.subject.id,
            facts={
                "identity": identity,
                "type": wanted.type,
                "roles": list(roles),
                **_key_facts(wanted.public_key),
            },
        )
    )
    return _identity_view(house.catalog.identity(identity))


def _require_same(known: Identity, wanted: W.IdentityRequest, roles: tuple[str, ...]) -> None:
    """Let a request pass that says what stands already: the answer to it was lost."""
    said = (wanted.type, roles, wanted.public_key, False)
    if said != (known.type, tuple(known.roles), known.public_key, known.disabled):
        raise Conflict(f"identity `{known.id}` exists already", advice="choose another name")


async def identities(house: House, caller: Caller, tenant: str) -> list[W.IdentityView]:
    """The identities of a tenant, for its owner or an operator."""
    await _authorize_for(house, caller, tenant)
    await house.settled()
    return [_identity_view(found) for found in house.catalog.identities(tenant)]


def _key_facts(public_key: str | None) -> dict[str, str | None]:
    if public_key is None:
        return {"thumbprint": None, "public_key": None}
    return {"thumbprint": thumbprint(public_key_of(public_key)), "public_key": public_key}


async def change_identity(
    house: House, caller: Caller, tenant: str, wanted: W.IdentityChange
) -> W.IdentityChanged:
    """Disable it, or give it another key."""
    act = disable_identity if wanted.public_key is None else rotate_identity
    return await act(house, caller, tenant, wanted)


async def rotate_identity(
    house: House, caller: Caller, tenant: str, wanted: W.IdentityChange
) -> W.IdentityChanged:
    """Another key for the same identity: the one before, and tokens had with it, are refused.

    Its Grants stay, and its streams run on to their next renewal, which needs the new key. The
    key that it has already is answered as done.

    Raises:
        Conflict: the identity is disabled, or the key is another one's.
        NotFound: there is none of that name, or the caller may not know.
    """
    name = f"{tenant}/{parse_name(wanted.identity, what='identity')}"
    await _authorize_for(house, caller, tenant)
    if house.catalog.identity(name).public_key != wanted.public_key:
        house.record(
            EventDraft(
                kind=EventKind.IdentityRotated,
                owner_tenant=tenant,
                actor_tenant=caller.subject.tenant,
                actor=caller.subject.id,
                facts={"identity": name, **_key_facts(wanted.public_key)},
            )
        )
    await house.settled()
    return _changed(house.catalog.identity(name), Stopped(streams=0, slowest_ms=0.0))


def _changed(found: Identity, stopped: Stopped) -> W.IdentityChanged:
    return W.IdentityChanged(
        identity=found.id,
        disabled=found.disabled,
        thumbprint=found.thumbprint,
        streams_stopped=stopped.streams,
        slowest_ms=stopped.slowest_ms,
    )


async def disable_identity(
    house: House, caller: Caller, tenant: str, wanted: W.IdentityChange
) -> W.IdentityChanged:
    """End an identity: its keys, tokens and streams, now and for good.

    Its Grants stay recorded and are of no more use. One that is disabled already is answered
    as done: the answer to it was lost.

    Raises:
        InvalidInput: it is the caller's own: a tenant must not lock itself out.
        NotFound: there is none of that name, or the caller may not know.
    """
    name = f"{tenant}/{parse_name(wanted.identity, what='identity')}"
    await _authorize_for(house, caller, tenant)
    if not house.catalog.identity(name).disabled:
        if name == caller.subject.id:
            raise InvalidInput("this is yourself", advice="another owner or an operator can do it")
        house.record(
            EventDraft(
                kind=EventKind.IdentityDisabled,
                owner_tenant=tenant,
                actor_tenant=caller.subject.tenant,
                actor=caller.subject.id,
                facts={"identity": name},
            )
        )
    await house.settled()
    stopped = await _stop_streams(house, name)
    return _changed(house.catalog.identity(name), stopped)


async def _stop_streams(house: House, identity: str) -> Stopped:
    grants = {grant.id for grant in house.catalog.grants(subject=identity)}
    leases = [lease.id for lease in house.catalog.leases() if lease.grant in grants]
    return await stop_streams(house, leases, "revoked")


def _identity_view(found: Identity) -> W.IdentityView:
    return W.IdentityView(
        identity=found.id,
        type=found.type,
        roles=tuple(found.roles),
        thumbprint=found.thumbprint,
        disabled=found.disabled,
        added_at=iso(found.added_at),
    )


async def require_operator(house: House, caller: Caller, tenant: str) -> None:
    """`operate` on the platform; to people of other tenants there is no such tenant."""
    if caller.subject.tenant in (PLATFORM, tenant):
        await authorize(house, caller, "operate", PLATFORM)
        return
    await refusals.record(house, caller.subject, "/v1/tenants", NotFound.code)
    raise NotFound(f"no tenant `{tenant[:80]}` that you may see")


async def _authorize_for(house: House, caller: Caller, tenant: str) -> None:
    """`update` on the tenant itself for its owner, `operate` on the platform for operators."""
    if caller.subject.tenant == PLATFORM:
        await authorize(house, caller, "operate", PLATFORM)
    elif caller.subject.tenant == tenant:
        await authorize(house, caller, "update", tenant)
    else:
        raise NotFound(f"no tenant `{tenant[:80]}` that you may see")
