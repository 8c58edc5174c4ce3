"""A small simulator of what can happen, written as real journal events with known answers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from gateway.domain.events import Event, EventKind, canonical, check_facts
from gateway.domain.ids import new_id

BEGIN = 1_780_000_000  # Unix seconds
COLUMNS = ("age", "hr", "diagnosis", "label")


def tag(name: str) -> str:
    """The keyed tag of a subject, as far as lineage can tell."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]


class History:
    """Events in order; each method records one thing and returns its id."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.leaves: list[bytes] = []
        self.subjects: list[str | None] = []
        self.clock = BEGIN
        self._ids = 0
        self._grants: dict[str, tuple[str, str, str, str | None]] = {}
        self._leases: dict[str, str] = {}

    def add(
        self,
        kind: str,
        owner: str,
        actor: str | None = None,
        subject: str | None = None,
        **facts: Any,
    ) -> int:
        index = len(self.events)
        self.clock += 1
        check_facts(EventKind(kind), facts, owner=owner)
        event = Event(
            node="n1", index=index, boot="00" * 16, time_us=self.clock * 1_000_000,
            kind=EventKind(kind), owner_tenant=owner, actor_tenant=actor,
            actor_tag=tag(subject) if subject else None, facts=facts, sealed=None, chains={},
        )  # fmt: skip
        self.events.append(event)
        self.subjects.append(subject)
        self.leaves.append(hashlib.sha256(b"\0" + canonical(event.envelope())).digest())
        return index

    def new_id(self, prefix: str) -> str:
        self._ids += 1
        return new_id(prefix, hashlib.sha256(str(self._ids).encode()).digest()[:16])

    def tail(self, start: int) -> Iterator[tuple[Event, bytes]]:
        """What the journal's reader would give; ends where the durable prefix ends."""
        yield from list(zip(self.events, self.leaves, strict=True))[start:]

    def pairs(self, start: int = 0, stop: int | None = None) -> list[tuple[Event, str]]:
        return [(e, leaf.hex()) for e, leaf in zip(self.events, self.leaves, strict=True)][
            start:stop
        ]

    def version(
        self, dataset: str, version: int = 1, names: tuple[str, ...] = COLUMNS, **more: Any
    ) -> None:
        owner = dataset.partition("/")[0]
        self.add(
            "VersionRegistered", owner, owner, f"{owner}/owner",
            dataset=dataset, dataset_id=dataset.replace("/", "-"), version=version, profile="train",
            columns=[
                {"field_id": n, "name": name, "type": "int64", "nullable": False}
                for n, name in enumerate(names, 1)
            ],
            splits=[{"name": "train", "rows": 1000}], rows=1000, bytes=8000, shards=2,
            manifest_digest="ab" * 32, manifest_key="k1", sheet_generation=1, card_digest=None,
            **more,
        )  # fmt: skip

    def policy(
        self, tenant: str, bundle: str = "cd" * 32, rules: int = 3, *, proposal: int | None = None
    ) -> int:
        return self.add(
            "PolicyPublished", tenant, tenant, f"{tenant}/owner",
            tenant=tenant, bundle=bundle, files=1, rules=rules, proposal=proposal,
        )  # fmt: skip

    def decide(
        self, subject: str, dataset: str, *, allow: bool = True, version: int | None = 1,
        columns: tuple[int, ...] = (1, 2), masks: dict[str, str] | None = None,
        purpose: str = "health-research", run: str | None = "run-1", bundle: str = "cd" * 32,
        region: str | None = None, valid: int = 600,
        rules: tuple[str, ...] = ("r1",), reasons: tuple[str, ...] = (), action: str = "stream",
        parent: str | None = None,
    ) -> str:  # fmt: skip
        owner, actor = dataset.partition("/")[0], subject.partition("/")[0]
        grant = self.new_id("grant_") if allow else None
        self.add(
            "AccessDecided", owner, actor, subject,
            decision=self.new_id("dec_"), action=action, effect="allow" if allow else "deny",
            dataset=dataset, dataset_id=dataset.replace("/", "-"), version=version, split="train",
            purpose=purpose, reasons=list(reasons), rules=list(rules), bundle=bundle,
            policy_epoch=1, catalog_index=len(self.events), columns=list(columns) if allow else [],
            masks=masks or {}, grant=grant, run=run,
            expires_at=self.clock + valid if allow else None, limits={} if allow else None,
            region=region, **({"parent": parent} if parent else {}),
        )  # fmt: skip
        if grant:
            self._grants[grant] = (owner, actor, subject, run)
        return grant or ""

    @property
    def grants(self) -> tuple[str, ...]:
        """Ids of all Grants, the oldest first."""
        return tuple(self._grants)

    def token(self, grant: str, thumbprint: str = "thumb-secret") -> None:
        owner, actor, subject, _ = self._grants[grant]
        self.add(
            "TokenIssued", owner, actor, subject,
            jti=f"jti-{self._ids}", grant=grant, thumbprint=thumbprint,
            expires_at=self.clock + 600,
        )  # fmt: skip

    def lease(
        self, grant: str, segments: int = 10, *, epoch: int = 0, by: str | None = None, **more: Any
    ) -> str:
        owner, actor, subject, run = self._grants[grant]
        lease = self.new_id("lease_")
        self._leases[lease] = grant
        self.add(
            "LeaseOpened", owner, actor, by or subject,
            lease=lease, grant=grant, run=run, worker=0,
            order={"seed": 7, "epoch": epoch, "shuffle": True, "lanes": 1, "window_blocks": 4,
                   "rank": 0, "world": 1},
            segments=segments, view=False, expires_at=self.clock + 600, policy_epoch=1,
            plan_digest="ef" * 32, **more,
        )  # fmt: skip
        return lease

    def intend(self, lease: str, first: int, last: int, rows: int) -> None:
        grant = self._leases[lease]
        owner, actor, subject, _ = self._grants[grant]
        self.add("SegmentIntent", owner, actor, subject, lease=lease, grant=grant, first=first,
                 last=last, rows=rows, bytes=rows * 8)  # fmt: skip

    def confirm(self, lease: str, segments: list[int], rows: int) -> int:
        owner, actor, subject, _ = self._grants[self._leases[lease]]
        return self.add("SegmentsConfirmed", owner, actor, subject, lease=lease, segments=segments,
                 rows=rows, bytes=rows * 8)  # fmt: skip

    def read(self, lease: str, segments: list[int], rows: int) -> int:
        self.intend(lease, min(segments), max(segments), rows)
        return self.confirm(lease, segments, rows)

    def refuse_stream(self, lease: str, error: str = "lease-revoked") -> None:
        owner, actor, subject, _ = self._grants[self._leases[lease]]
        self.add("StreamRefused", owner, actor, subject, lease=lease, segment=3, error=error)

    def revoke(self, grant: str) -> None:
        owner = self._grants[grant][0]
        self.add("GrantRevoked", owner, owner, f"{owner}/owner", grants=[grant],
                 reason_code="revoked")  # fmt: skip

    def finish(self, tenant: str, run: str, model: str | None = "sepsis-v2") -> None:
        self.add("RunFinished", tenant, tenant, f"{tenant}/ml", run=run, model=model,
                 artifact_sha256="12" * 32 if model else None)  # fmt: skip

    def request(self, subject: str, dataset: str, answer: str) -> None:
        owner = dataset.partition("/")[0]
        same = {
            "request": self.new_id("req_"), "dataset": dataset,
            "dataset_id": dataset.replace("/", "-"), "columns": [1, 2],
            "request_digest": "56" * 32, "plan_digest": "78" * 32, "policy_epoch": 1,
            "expires_at": self.clock + 600,
        }  # fmt: skip
        self.add("AccessRequested", owner, subject.partition("/")[0], subject, **same, version=1,
                 action="stream", purpose="health-research", split=None, run=None)  # fmt: skip
        self.add("RequestAnswered", owner, owner, f"{owner}/owner", **same, answer=answer)

    def asked(self, tenant: str, question: str = "who-read") -> None:
        self.add("QuestionAsked", tenant, tenant, f"{tenant}/audit", question=question,
                 parameters_digest="34" * 32)  # fmt: skip


def clinic_and_startup(history: History | None = None) -> History:
    """The story most tests tell: one owner, two trainers of other tenants, one denial."""
    h = history or History()
    h.add("Boot", "platform", boot="00" * 16, format="gateway-event/v0", log_key="aa" * 32)
    h.policy("clinic")
    h.version("clinic/icu")
    h.version("clinic/icu", 2)
    h.decide("startup/ml", "clinic/icu", allow=False, purpose="marketing", reasons=("no-rule",),
             rules=("secret-rule",))  # fmt: skip
    grant = h.decide("startup/ml", "clinic/icu", columns=(1, 2, 4), masks={"1": "x-bucket:10"},
                     rules=("secret-rule",))  # fmt: skip
    h.token(grant)
    lease = h.lease(grant)
    h.read(lease, [0, 1], 200)
    h.read(lease, [2], 100)
    h.intend(lease, 3, 4, 200)  # killed before it was confirmed
    h.revoke(grant)
    h.refuse_stream(lease)
    h.add(
        "LeaseClosed", "clinic", "startup", "startup/ml", lease=lease, reason_code="lease-revoked"
    )
    h.finish("startup", "run-1")
    other = h.decide("lab/bob", "clinic/icu", version=2, columns=(3,), run="run-1")
    h.read(h.lease(other), [0], 50)
    h.finish("lab", "run-1", model="lab-model")
    h.asked("clinic")
    h.request("startup/ml", "clinic/icu", answer="approve")
    return h
