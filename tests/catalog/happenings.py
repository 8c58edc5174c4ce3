"""Drafts of every kind of event, as services write them, for one small world."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from gateway.domain.access import Limits, Plan, PlannedColumn
from gateway.domain.dataset import DatasetRef
from gateway.domain.events import EventDraft, EventKind
from gateway.domain.ids import new_id

DATASET = {"dataset": "clinic/icu", "dataset_id": "d0" * 16}
ORDER = {
    "seed": 7,
    "epoch": 0,
    "shuffle": True,
    "lanes": 4,
    "window_blocks": 64,
    "rank": 0,
    "world": 1,
}


def named(prefix: str, name: object) -> str:
    return new_id(prefix, hashlib.sha256(str(name).encode()).digest()[:16])


def sha(name: object) -> str:
    return hashlib.sha256(str(name).encode()).hexdigest()


def tenant(name: str) -> EventDraft:
    return EventDraft(kind=EventKind.TenantAdded, owner_tenant=name, facts={"tenant": name})


def identity(name: str = "startup/ml", key: str = "k1") -> EventDraft:
    facts = {
        "identity": name,
        "type": "job",
        "roles": ["trainer"],
        "thumbprint": f"thumb-{key}",
        "public_key": key,
    }
    return EventDraft(
        kind=EventKind.IdentityAdded, owner_tenant=name.partition("/")[0], facts=facts
    )


def version(number: int = 1, **changes: Any) -> EventDraft:
    facts = {
        **DATASET,
        "version": number,
        "profile": "train",
        "columns": [
            {"field_id": 1, "name": "age", "type": "int64", "nullable": False},
            {"field_id": 2, "name": "größe", "type": "double", "nullable": True},
        ],
        "splits": [{"name": "train", "rows": 80}, {"name": "test", "rows": 20}],
        "rows": 100,
        "bytes": 4096,
        "shards": 2,
        "manifest_digest": sha("manifest"),
        "manifest_key": "objects/m1",
        "sheet_generation": 1,
        "card_digest": None,
        **changes,
    }
    return EventDraft(
        kind=EventKind.VersionRegistered,
        owner_tenant=facts["dataset"].partition("/")[0],
        actor_tenant="clinic",
        actor="clinic/anna",
        facts=facts,
        details={"card": {"title": "ICU stays", "licence": None, "years": [2020, 2021]}},
    )


def classified(**tags: list[str]) -> EventDraft:
    given = {field.removeprefix("f"): value for field, value in tags.items()}
    return EventDraft(
        kind=EventKind.ColumnsClassified, owner_tenant="clinic", facts={**DATASET, "tags": given}
    )


def updated(**details: Any) -> EventDraft:
    return EventDraft(
        kind=EventKind.DatasetUpdated,
        owner_tenant="clinic",
        actor_tenant="clinic",
        actor="clinic/anna",
        facts={**DATASET, "card_digest": sha("card"), "changed": sorted(details), "owners": 1},
        details={"card": {"title": "ICU"}, "owners": ["clinic/anna"], "contact": "", **details},
    )


def derivation_released() -> EventDraft:
    own = {"derived": DATASET["dataset"], "derived_id": DATASET["dataset_id"]}
    return EventDraft(
        kind=EventKind.DerivationReleased,
        owner_tenant="clinic",
        facts={**DATASET, **own, "version": 1},
    )


REQUEST = named("req_", 1)


def requested(**changes: Any) -> EventDraft:
    """The startup asks the clinic for a plan that needs an approval."""
    facts = {
        **DATASET,
        "request": REQUEST,
        "version": 1,
        "action": "stream",
        "purpose": "health-research",
        "split": "train",
        "run": None,
        "columns": [1, 2],
        "request_digest": sha("request"),
        "plan_digest": sha("plan"),
        "policy_epoch": 1,
        "expires_at": 2_000_000_000,
        **changes,
    }
    details = {"plan": plan().to_dict(), "asked_columns": ["age"], "limits": {}, "reason": "IRB"}
    return EventDraft(
        kind=EventKind.AccessRequested,
        owner_tenant="clinic",
        actor_tenant="startup",
        actor="startup/ml",
        facts=facts,
        details=details,
    )


def answered(who: str = "clinic/anna", answer: str = "approve", **changes: Any) -> EventDraft:
    facts = {
        **DATASET,
        "request": REQUEST,
        "answer": answer,
        "columns": [1],
        "request_digest": sha("request"),
        "plan_digest": sha("plan"),
        "policy_epoch": 1,
        "expires_at": 1_900_000_000,
        **changes,
    }
    return EventDraft(
        kind=EventKind.RequestAnswered,
        owner_tenant="clinic",
        actor_tenant=who.partition("/")[0],
        actor=who,
        facts=facts,
        details={"reason": "fine"},
        concerns=("startup",),
    )


def erased(erasure: str = "op_1", **facts: Any) -> EventDraft:
    return EventDraft(
        kind=EventKind.DatasetErased,
        owner_tenant="clinic",
        actor_tenant="clinic",
        actor="clinic/anna",
        facts={
            **DATASET,
            "erasure": erasure,
            "version": None,
            "columns": [],
            "root": 1,
            "keks": [],
            "deks": 4,
            "shards": 2,
            "shards_kept": 0,
            **facts,
        },
        details={"reason": "the consent ended"},
    )


def certified(erasure: str = "op_1") -> EventDraft:
    facts = {**DATASET, "erasure": erasure, "certificate": sha("c"), "certificate_key": "c/1"}
    return EventDraft(kind=EventKind.ErasureCertified, owner_tenant="clinic", facts=facts)


def rotated(root: int = 1, ring_generation: int = 3, **sheets: int) -> EventDraft:
    return EventDraft(
        kind=EventKind.KeysRotated,
        owner_tenant="clinic",
        facts={
            "ring": "clinic",
            "kind": "kek",
            "root": root,
            "ring_generation": ring_generation,
            "keys": 2,
            "sheets": [
                {"dataset_id": DATASET["dataset_id"], "version": int(v[1:]), "generation": g}
                for v, g in sheets.items()
            ],
        },
    )


def consent(kind: EventKind) -> EventDraft:
    persons = [{"person": "0a" * 16, "at": 1_700_000_000}]
    facts = {"purpose": "research", "dataset": None, "persons": persons}
    return EventDraft(kind=kind, owner_tenant="clinic", facts=facts)


def on_dataset(kind: EventKind) -> EventDraft:
    return EventDraft(kind=kind, owner_tenant="clinic", facts=dict(DATASET))


def policy(tenant_name: str = "clinic", bundle: str = "b1") -> EventDraft:
    facts = {"tenant": tenant_name, "bundle": sha(bundle), "files": 3, "rules": 9}
    return EventDraft(kind=EventKind.PolicyPublished, owner_tenant=tenant_name, facts=facts)


def plan(**changes: Any) -> Plan:
    fields: dict[str, Any] = {
        "dataset": DatasetRef("clinic", "icu", 1),
        "split": "train",
        "columns": (
            PlannedColumn(field_id=1, name="age", mask="x-bucket:10"),
            PlannedColumn(field_id=2, name="größe"),
        ),
        "row_filter": ("and", ("cmp", ">=", "age", ("int", 18)), ("null", "größe")),
        "limits": Limits(max_rows=1000),
        "obligations": (("delete_after", "P30D"),),
        "purpose": "health-research",
        "action": "stream",
    }
    return Plan(**{**fields, **changes})


def decided(
    name: str = "1", *, grant: bool = True, run: str | None = "r1", **changes: Any
) -> EventDraft:
    what = plan()
    facts: dict[str, Any] = {
        "decision": named("dec_", name),
        "action": what.action,
        "effect": "allow",
        "dataset": str(what.dataset.unversioned),
        "dataset_id": DATASET["dataset_id"],
        "version": what.dataset.version,
        "split": what.split,
        "purpose": what.purpose,
        "reasons": ["allowed"],
        "rules": ["clinic/research.yaml#1"],
        "bundle": sha("b1"),
        "policy_epoch": 1,
        "catalog_index": 5,
        "columns": [1, 2],
        "masks": {"1": "x-bucket:10"},
        "grant": named("grant_", name) if grant else None,
        "run": run,
    }
    if grant:
        facts |= {"expires_at": 1_900_000_000, "limits": what.limits.to_dict()}
    return EventDraft(
        kind=EventKind.AccessDecided,
        owner_tenant="clinic",
        actor_tenant="startup",
        actor="startup/ml",
        facts={**facts, **changes},
        details={"plan": what.to_dict(), "advice": None},
    )


def approved(
    name: str = "approved", columns: tuple[int, ...] = (1,), who: str = "startup/ml", **changes: Any
) -> EventDraft:
    """The Grant of the request that was answered."""
    kept = tuple(column for column in plan().columns if column.field_id in columns)
    what = plan(columns=kept, obligations=(("require_approval", True),))
    draft = decided(name, run=None)
    facts = {"request": REQUEST, "columns": list(columns), **changes}
    return replace(
        draft, actor=who, facts={**draft.facts, **facts}, details={"plan": what.to_dict()}
    )


def denied(name: str = "no") -> EventDraft:
    return EventDraft(
        kind=EventKind.AccessDecided,
        owner_tenant="clinic",
        actor_tenant="startup",
        actor="startup/ml",
        facts={
            **decided(name, grant=False).facts,
            "effect": "deny",
            "reasons": ["purpose-not-allowed"],
            "columns": [],
            "masks": {},
        },
        details={"plan": None, "advice": "ask for health-research"},
    )


def streamed(kind: EventKind, **facts: Any) -> EventDraft:
    return EventDraft(
        kind=kind,
        owner_tenant="clinic",
        actor_tenant="startup",
        actor="startup/ml",
        facts=facts,
    )


def opened(name: str = "1", *, grant: str = "1", **changes: Any) -> EventDraft:
    facts = {
        "lease": named("lease_", name),
        "grant": named("grant_", grant),
        "run": "r1",
        "worker": 0,
        "order": ORDER,
        "segments": 100,
        "view": False,
        "expires_at": 1_790_000_600,
        "policy_epoch": 1,
        "plan_digest": plan().digest,
    }
    return streamed(EventKind.LeaseOpened, **{**facts, **changes})


def intent(first: int, last: int, rows: int, *, lease: str = "1", grant: str = "1") -> EventDraft:
    return streamed(
        EventKind.SegmentIntent,
        lease=named("lease_", lease),
        grant=named("grant_", grant),
        first=first,
        last=last,
        rows=rows,
        bytes=rows * 10,
    )


def confirmed(*segments: int, rows: int, lease: str = "1") -> EventDraft:
    return streamed(
        EventKind.SegmentsConfirmed,
        lease=named("lease_", lease),
        segments=list(segments),
        rows=rows,
        bytes=rows * 10,
    )


def closed(lease: str = "1", reason: str = "returned") -> EventDraft:
    return streamed(EventKind.LeaseClosed, lease=named("lease_", lease), reason_code=reason)


def revoked(*grants: str) -> EventDraft:
    ids = [named("grant_", grant) for grant in grants]
    return EventDraft(
        kind=EventKind.GrantRevoked,
        owner_tenant="clinic",
        facts={"grants": ids, "reason_code": "revoked"},
        details={"reason": "contract ended"},
        concerns=("startup",),
    )


WORLD = (
    tenant("platform"),
    tenant("clinic"),
    tenant("startup"),
    identity(),
    version(),
    classified(f1=["pii.indirect"], f2=["health.special", "health"]),
    policy(),
)
