"""How tenants, identities, datasets, rules and keys follow from events.

Each function takes one kind of event. It checks first and changes afterwards, so that what it
refuses leaves the state as it was: the journal then does not record the event.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gateway.catalog import ancestry
from gateway.catalog.records import Bundle, Identity, KeyRecord, ProposedBundle, Tenant
from gateway.catalog.state import State
from gateway.domain.dataset import Column, Dataset, DatasetRef, DatasetVersion, Dealing, Split
from gateway.domain.events import Event
from gateway.domain.proposals import Hint
from gateway.domain.tenant import TenantLimits
from gateway.errors import Conflict, InvalidInput, NotFound


def key_introduced(state: State, event: Event) -> None:
    """A signing key counts from here on."""
    f = event.facts
    state.keys[f["key_id"]] = KeyRecord(
        key_id=f["key_id"],
        use=f["use"],
        public_key=f["public_key"],
        at=event.time,
        index=event.index,
    )


def tenant_added(state: State, event: Event) -> None:
    """A new organisation."""
    name = event.facts["tenant"]
    if name in state.tenants:
        raise Conflict(f"tenant `{name}` exists already", advice="choose another name")
    state.tenants[name] = Tenant(name=name, added_at=event.time)


def tenant_updated(state: State, event: Event) -> None:
    """Its limits from here on, all of them."""
    tenant = state.tenant(event.facts["tenant"])
    limits = TenantLimits(**{name: event.facts.get(name) for name in TenantLimits.names()})
    state.tenants[tenant.name] = replace(tenant, limits=limits)


def tenant_suspended(state: State, event: Event) -> None:
    """Nothing of this tenant is released until it is resumed."""
    tenant = state.tenant(event.facts["tenant"])
    state.tenants[tenant.name] = replace(tenant, suspended=True)


def tenant_resumed(state: State, event: Event) -> None:
    """Undo a suspension."""
    tenant = state.tenant(event.facts["tenant"])
    state.tenants[tenant.name] = replace(tenant, suspended=False)


def identity_added(state: State, event: Event) -> None:
    """A person or job of a tenant, with its public key; neither may be known already."""
    f = event.facts
    state.tenant(event.owner_tenant)
    if f["identity"] in state.identities:
        raise Conflict(f"identity `{f['identity']}` exists already", advice="choose another name")
    _require_new(state, f.get("thumbprint"))
    state.identities[f["identity"]] = Identity(
        id=f["identity"],
        tenant=event.owner_tenant,
        type=f["type"],
        roles=tuple(f["roles"]),
        thumbprint=f.get("thumbprint"),
        public_key=f.get("public_key"),
        added_at=event.time,
    )


def identity_rotated(state: State, event: Event) -> None:
    """Another key takes the place of the one before, which proves nothing any more."""
    f = event.facts
    known = state.identities.get(f["identity"])
    if known is None:
        raise NotFound(f"no identity `{f['identity']}`")
    if known.disabled:
        raise Conflict(f"identity `{known.id}` is disabled", advice="add another identity")
    _require_new(state, f["thumbprint"])
    state.identities[known.id] = replace(
        known,
        thumbprint=f["thumbprint"],
        public_key=f["public_key"],
        rotated_at=event.time,
    )


def _require_new(state: State, thumbprint: str | None) -> None:
    """No key is of two identities."""
    if thumbprint is not None and any(
        known.thumbprint == thumbprint for known in state.identities.values()
    ):
        raise Conflict("this public key belongs to another identity", advice="make a new key")


def identity_disabled(state: State, event: Event) -> None:
    """It proves nothing any more."""
    name = event.facts["identity"]
    if name not in state.identities:
        raise NotFound(f"no identity `{name}`")
    state.identities[name] = replace(state.identities[name], disabled=True)


def version_registered(state: State, event: Event) -> None:
    """The next version of a dataset; compare-and-set on its number."""
    f = event.facts
    state.tenant(event.owner_tenant)
    known = state.datasets.get(f["dataset"])
    expected = state.next_version(f["dataset"])
    if f["version"] != expected:
        raise Conflict(f"the next version of `{f['dataset']}` is {expected}, not {f['version']}")
    if known is None and any(e.dataset_id == f["dataset_id"] for e in state.erasures.values()):
        raise Conflict(f"`{f['dataset']}` was erased meanwhile")
    if known is not None and known.dataset_id != f["dataset_id"]:
        raise Conflict(f"`{f['dataset']}` is another dataset")
    if known is None and any(d.dataset_id == f["dataset_id"] for d in state.datasets.values()):
        raise Conflict("this dataset id is in use")
    erased = known.erased_columns if known else _erased_before(state, f["dataset"])
    version = _version(event, known, erased)
    ancestry.check(state, version, f.get("origins") or ())
    details = event.details or {}
    card = details.get("card") or (known.card if known else {})
    tenant, _, name = f["dataset"].partition("/")
    state.datasets[f["dataset"]] = Dataset(
        tenant=tenant,
        name=name,
        dataset_id=f["dataset_id"],
        tags=known.tags if known else {},
        versions=(*(known.versions if known else ()), version),
        suspended=known.suspended if known else False,
        last_version=f["version"],
        erased_columns=erased,
        card=card,
        hints={**(known.hints if known else {}), **_hints(details.get("hints", ()))},
        owners=known.owners if known else (),
        contact=known.contact if known else "",
        released=known.released if known else {},
    )


def _erased_before(state: State, name: str) -> tuple[tuple[str, int], ...]:
    """Columns of erased datasets of this name; 0 is no field id of the new one."""
    erased = (e for e in state.erasures.values() if e.dataset == name)
    return tuple(sorted({(c.name, 0) for e in erased for v in e.versions for c in v.columns}))


def _version(
    event: Event, known: Dataset | None, erased: tuple[tuple[str, int], ...]
) -> DatasetVersion:
    f = event.facts
    tenant, _, name = f["dataset"].partition("/")
    registered = time.gmtime(event.time_us // 1_000_000)
    return DatasetVersion(
        ref=DatasetRef(tenant, name, f["version"]),
        dataset_id=f["dataset_id"],
        columns=_columns(f["columns"], known, erased),
        splits=tuple(Split(**split) for split in f["splits"]),
        rows=f["rows"],
        bytes=f["bytes"],
        shards=f["shards"],
        profile=f["profile"],
        manifest_digest=f["manifest_digest"],
        sheet_generation=f["sheet_generation"],
        registered_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", registered),
        registered_by=event.actor or "",
        manifest_key=f["manifest_key"],
        card_digest=f.get("card_digest"),
        dealing=_dealing(f.get("dealing")),
        registration=f.get("registration"),
        request_digest=f.get("request_digest"),
        origins=_origins(f.get("origins") or (), known),
    )


def _origins(facts: Sequence[Mapping[str, Any]], known: Dataset | None) -> tuple[DatasetRef, ...]:
    """Those of earlier versions too: nobody sheds them by one more version."""
    given = [replace(DatasetRef.parse(o["dataset"]), version=o["version"]) for o in facts]
    return tuple(dict.fromkeys((*(known.newest.origins if known else ()), *given)))


def _columns(
    facts: Sequence[Mapping[str, Any]],
    known: Dataset | None,
    erased: tuple[tuple[str, int], ...],
) -> tuple[Column, ...]:
    earlier = known.versions if known else ()
    meant = {(c.name, c.field_id) for version in earlier for c in version.columns}
    meant |= set(erased)
    ids: dict[str, set[int]] = {}
    for name, field_id in meant:
        ids.setdefault(name, set()).add(field_id)
    return tuple(
        Column(**fact, renewed=bool(ids.get(fact["name"], set()) - {fact["field_id"]}))
        for fact in facts
    )


def _hints(details: Sequence[Any]) -> dict[int, Hint]:
    hints = [Hint.parse(value) for value in details]
    return {hint.field_id: hint for hint in hints}


def _dealing(fact: Mapping[str, Any] | None) -> Dealing | None:
    if fact is None:
        return None
    return Dealing(
        column=fact["column"],
        names_split=fact["names_split"],
        shares=tuple((s["name"], s["share"]) for s in fact["shares"]),
    )


def columns_classified(state: State, event: Event) -> None:
    """The whole set of tags of each named column."""
    f = event.facts
    dataset = state.dataset(f["dataset"], f["dataset_id"])
    known = {column.field_id for version in dataset.versions for column in version.columns}
    given = {int(field): tuple(sorted(set(tags))) for field, tags in f["tags"].items()}
    if not known.issuperset(given):
        raise InvalidInput(f"`{f['dataset']}` has no column of field id {min(set(given) - known)}")
    state.datasets[f["dataset"]] = replace(dataset, tags={**dataset.tags, **given})


def dataset_updated(state: State, event: Event) -> None:
    """Card, owners and contact as they are from here on; what was erased is empty."""
    f, details = event.facts, event.details or {}
    dataset = state.dataset(f["dataset"], f["dataset_id"])
    state.datasets[f["dataset"]] = replace(
        dataset,
        card=dict(details.get("card", {})),
        owners=tuple(details.get("owners", ())),
        contact=str(details.get("contact", "")),
    )


def derivation_released(state: State, event: Event) -> None:
    """What was made from this dataset inherits nothing of it any more, up to one version."""
    f = event.facts
    dataset = state.dataset(f["dataset"], f["dataset_id"])
    state.dataset(f["derived"], f["derived_id"])
    upto = max(f["version"], dataset.released.get(f["derived_id"], 0))
    released = {**dataset.released, f["derived_id"]: upto}
    state.datasets[f["dataset"]] = replace(dataset, released=released)


def dataset_suspended(state: State, event: Event) -> None:
    """Nothing of this dataset is released until it is resumed."""
    dataset = state.dataset(event.facts["dataset"], event.facts["dataset_id"])
    state.datasets[event.facts["dataset"]] = replace(dataset, suspended=True)


def dataset_resumed(state: State, event: Event) -> None:
    """Undo a suspension."""
    dataset = state.dataset(event.facts["dataset"], event.facts["dataset_id"])
    state.datasets[event.facts["dataset"]] = replace(dataset, suspended=False)


def policy_published(state: State, event: Event) -> None:
    """These rules of a tenant are in force from here on; what waited was about older ones."""
    f = event.facts
    _own_rules(state, event)
    waiting = state.proposed.get(f["tenant"])
    if f.get("proposal") is not None:
        if waiting is None or (waiting.index, waiting.digest) != (f["proposal"], f["bundle"]):
            raise Conflict("these are not the rules that wait for a second person")
        if event.actor is not None and event.actor == waiting.proposer:  # None: erased since
            raise InvalidInput("a second person approves rules, and not who proposed them")
    state.proposed.pop(f["tenant"], None)
    state.bundles[f["tenant"]] = Bundle(
        tenant=f["tenant"],
        digest=f["bundle"],
        files=f["files"],
        rules=f["rules"],
        index=event.index,
        published_at=event.time,
    )


def policy_proposed(state: State, event: Event) -> None:
    """These rules wait for a second person; they take the place of others that waited."""
    f = event.facts
    _own_rules(state, event)
    known = state.bundles.get(f["tenant"])
    if known is None or known.digest != f["base"]:
        raise Conflict("rules are proposed in place of those in force")
    state.proposed[f["tenant"]] = ProposedBundle(
        tenant=f["tenant"],
        digest=f["bundle"],
        files=f["files"],
        rules=f["rules"],
        base=f["base"],
        index=event.index,
        proposed_at=event.time,
        expires_at=f["expires_at"],
        proposer=event.actor,
    )


def _own_rules(state: State, event: Event) -> None:
    if event.facts["tenant"] != event.owner_tenant:
        raise InvalidInput("rules are published by the tenant that they belong to")
    state.tenant(event.facts["tenant"])
