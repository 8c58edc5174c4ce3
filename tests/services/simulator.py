"""Short words for tests: who calls, what is registered, which rules are in force."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from gateway.domain.access import Subject
from gateway.domain.events import EventDraft, EventKind
from gateway.policy import packs
from gateway.services import publish
from gateway.services.house import House
from gateway.services.request_access import Caller


def caller(tenant: str, user: str, *roles: str) -> Caller:
    subject = Subject(id=f"{tenant}/{user}", tenant=tenant, type="person", roles=roles)
    return Caller(subject=subject, jti="jti-of-a-test-token")


OPERATOR = caller("platform", "operator", "operator")


async def add_tenant(house: House, tenant: str, *people: tuple[str, str]) -> None:
    """A tenant with its standard rules and identities (name, role); keys are of nobody."""
    house.vault.add_tenant(tenant)
    _record(house, tenant, EventKind.TenantAdded, {"tenant": tenant})
    for name, role in people:
        facts = {
            "identity": f"{tenant}/{name}",
            "type": "person",
            "roles": [role],
            "thumbprint": uuid.uuid4().hex,
            "public_key": "A" * 43,
        }
        _record(house, tenant, EventKind.IdentityAdded, facts)
    await publish.store_and_record(house, None, tenant, packs.load("tenant", tenant))


async def add_rules(house: House, tenant: str, text: str) -> None:
    files = {**publish.load(house, tenant).files, "test.yaml": text}
    await publish.store_and_record(house, None, tenant, files)


def add_version(
    house: House, tenant: str, name: str, names: Sequence[str], **changes: object
) -> None:
    """A version that exists in the catalogue only: enough to be judged."""
    facts = {
        "dataset": f"{tenant}/{name}",
        "dataset_id": uuid.uuid4().hex,
        "version": 1,
        "profile": "train",
        "columns": [
            {"field_id": i, "name": column, "type": "int64", "nullable": False}
            for i, column in enumerate(names, 1)
        ],
        "splits": [{"name": "all", "rows": 10}],
        "rows": 10,
        "bytes": 100,
        "shards": 1,
        "manifest_digest": "0" * 64,
        "manifest_key": "manifests/x.json",
        "sheet_generation": 1,
        "card_digest": None,
        **changes,
    }
    _record(house, tenant, EventKind.VersionRegistered, facts)


def _record(house: House, tenant: str, kind: EventKind, facts: dict[str, object]) -> None:
    house.record(
        EventDraft(kind=kind, owner_tenant=tenant, actor_tenant=tenant, actor=None, facts=facts)
    )
