"""A random history whose answers are known without lineage: what was done is noted beside it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.lineage.history import COLUMNS, History, tag

DAY = 86_400
SUBJECTS = ("startup/ml", "startup/eve", "lab/bob", "clinic/own")
DATASETS = {"clinic/icu": (1, 2), "clinic/wards": (1,), "rival/xray": (1,)}
SHARDS = 2  # of each version
REGIONS = {"startup": "us", "lab": "eu"}  # clinic says none
PURPOSES = ("health-research", "analytics")
BUNDLES = tuple(f"{n:02x}" * 32 for n in range(1, 5))
SPECIAL = {"clinic/icu": "diagnosis"}  # tagged `health.special`
TERMS = (
    {
        "dataset": "clinic/icu", "legal_basis": "Art. 9(2)(a) explicit consent",
        "licence": "DUA-7", "region": "EU, ch", "retention": "P20D", "retention_days": 20,
        "retention_months": 0, "retention_until": None,
    },
)  # fmt: skip


@dataclass(kw_only=True)
class Grant:
    id: str
    index: int
    dataset: str
    version: int
    subject: str
    run: str | None
    purpose: str
    columns: tuple[str, ...]
    masked: tuple[str, ...]
    bundle: str
    ends_at: int
    revoked_at: int | None = None
    tokens: list[int] = field(default_factory=list)
    leases: list[str] = field(default_factory=list)

    @property
    def owner(self) -> str:
        return self.dataset.partition("/")[0]

    @property
    def actor(self) -> str:
        return self.subject.partition("/")[0]

    def is_seen_by(self, tenant: str) -> bool:
        return tenant in (self.owner, self.actor)


@dataclass(kw_only=True)
class Read:
    grant: Grant
    lease: str
    epoch: int
    index: int
    at: int  # Unix seconds
    segments: list[int]
    rows: int

    @property
    def day(self) -> str:
        return datetime.fromtimestamp(self.at, UTC).strftime("%Y-%m-%d")


class Known:
    """The history, and lists of what was done in it."""

    def __init__(self, seed: int = 7) -> None:
        self.random, self.history = random.Random(seed), History()
        self.grants: list[Grant] = []
        self.reads: list[Read] = []
        self.denials: list[tuple[str, str, str]] = []  # subject, dataset, bundle
        self.publications: list[tuple[int, str, str, bool]] = []  # index, tenant, bundle, alone
        self.heads: list[int] = []  # indexes of TenantHeads
        self.models: list[tuple[str, str, str]] = []  # actor, run, model
        self.registered: dict[tuple[str, int], int] = {}  # Unix seconds
        self.strange_leases: list[tuple[str, str]] = []  # sign, lease
        self.consents: list[tuple[int, int, str, str, str, str | None]] = []
        self.bundle = dict.fromkeys(("clinic", "rival"), BUNDLES[0])
        self.erased_at = 0
        self._tell()

    def _tell(self) -> None:
        h = self.history
        for tenant in ("clinic", "rival"):
            self.publish(tenant, BUNDLES[0])
        for dataset, versions in DATASETS.items():
            for version in versions:
                h.version(dataset, version)
                self.registered[dataset, version] = h.clock
        for dataset, column in SPECIAL.items():
            h.add(
                "ColumnsClassified", "clinic", "clinic", "clinic/own", dataset=dataset,
                dataset_id=dataset.replace("/", "-"),
                tags={str(COLUMNS.index(column) + 1): ["health.special"], "1": ["pii.indirect"]},
            )  # fmt: skip
        for _ in range(60):
            self._day()
        self._misuse()
        self._take_keys()
        self._derive()
        self._erase()
        self._heads()

    def _day(self) -> None:
        draw, h = self.random, self.history
        h.clock += DAY - (h.clock % DAY) + draw.randrange(3600)
        if draw.random() < 0.1:
            tenant = draw.choice(("clinic", "rival"))
            self.publish(tenant, draw.choice(BUNDLES))
        for _ in range(draw.randrange(1, 4)):
            subject, dataset = draw.choice(SUBJECTS), draw.choice(list(DATASETS))
            if draw.random() < 0.2:
                self.deny(subject, dataset)
            else:
                self.grant(subject, dataset)
        if draw.random() < 0.4:
            self.consent(
                f"person-{draw.randrange(5)}", draw.choice(("given", "withdrawn")),
                draw.choice(("research", "health-research", "disease-research")),
                draw.choice((None, "clinic/icu")),
            )  # fmt: skip
        for _ in range(draw.randrange(1, 4)):
            self._stream()
        self._heads()

    def publish(self, tenant: str, bundle: str) -> None:
        alone = self.random.random() < 0.5
        index = self.history.policy(tenant, bundle, proposal=None if alone else 1)
        self.bundle[tenant] = bundle
        self.publications.append((index, tenant, bundle, alone))

    def deny(self, subject: str, dataset: str) -> None:
        bundle = self.bundle[dataset.partition("/")[0]]
        self.history.decide(
            subject, dataset, allow=False, reasons=("no-rule",), rules=(), bundle=bundle
        )
        self.denials.append((subject, dataset, bundle))

    def grant(self, subject: str, dataset: str, **more: Any) -> Grant:
        draw, h = self.random, self.history
        ids = tuple(sorted(draw.sample(range(1, 5), draw.randrange(1, 5))))
        masked = tuple(i for i in ids if draw.random() < 0.4)
        facts: dict[str, Any] = {
            "version": draw.choice(DATASETS[dataset]), "purpose": draw.choice(PURPOSES),
            "run": f"run-{draw.randrange(12)}", "bundle": self.bundle[dataset.partition("/")[0]],
        } | more  # fmt: skip
        index = len(h.events)
        grant_id = h.decide(
            subject, dataset, columns=ids, masks={str(i): "m=1" for i in masked},
            region=REGIONS.get(subject.partition("/")[0]), valid=10 * DAY, **facts,
        )  # fmt: skip
        made = Grant(
            id=grant_id, index=index, dataset=dataset, subject=subject, ends_at=h.clock + 10 * DAY,
            columns=tuple(COLUMNS[i - 1] for i in ids),
            masked=tuple(COLUMNS[i - 1] for i in masked), **facts,
        )  # fmt: skip
        if draw.random() < 0.8:
            made.tokens.append(len(h.events))
            h.token(grant_id)
        self.grants.append(made)
        return made

    def _stream(self) -> None:
        draw, h = self.random, self.history
        usable = [g for g in self.grants[-12:] if h.clock < g.ends_at - DAY and not g.revoked_at]
        if not usable:
            return
        grant, epoch = draw.choice(usable), draw.randrange(2)
        lease = h.lease(grant.id, segments=6, epoch=epoch)
        grant.leases.append(lease)
        for segment in range(0, draw.randrange(2, 7), 2):
            burst = 5000 if draw.random() < 0.03 else 1
            self.read(grant, lease, epoch, [segment, segment + 1], burst * draw.randrange(10, 99))
        if draw.random() < 0.15:
            h.revoke(grant.id)
            grant.revoked_at = h.clock
        if draw.random() < 0.3:
            h.finish(grant.actor, grant.run, f"model-{len(self.models)}")
            self.models.append((grant.actor, grant.run, f"model-{len(self.models)}"))

    def read(self, grant: Grant, lease: str, epoch: int, segments: list[int], rows: int) -> None:
        index = self.history.read(lease, segments, rows)
        self.reads.append(
            Read(
                grant=grant, lease=lease, epoch=epoch, index=index, at=self.history.clock,
                segments=segments, rows=rows,
            )
        )  # fmt: skip

    def _misuse(self) -> None:
        """What the gateway would refuse, written into the journal as if it had not."""
        h = self.history
        lent = self.grant("startup/ml", "clinic/icu")
        self.strange_leases.append(("other-subject", h.lease(lent.id, by="startup/eve")))
        revoked = self.grant("lab/bob", "clinic/icu")
        h.revoke(revoked.id)
        revoked.revoked_at = h.clock
        self.strange_leases.append(("after-revocation", h.lease(revoked.id)))
        ended = self.grant("lab/bob", "clinic/icu")
        h.clock += 11 * DAY
        self.strange_leases.append(("after-end", h.lease(ended.id)))
        for grant, (_, lease) in zip((lent, revoked, ended), self.strange_leases, strict=True):
            grant.leases.append(lease)
        self.two_keys = self.grant("lab/bob", "clinic/icu", run=None)
        ranks = self.grant("lab/bob", "clinic/icu")  # of one run: each has a key of its own
        for grant in (self.two_keys, ranks):
            for key in ("key-one", "key-two"):
                grant.tokens.append(len(h.events))
                h.token(grant.id, key)

    def _take_keys(self) -> None:
        """The keys open every row, unmasked: they count as a read of all of them."""
        grant = self.took_keys = self.grant("lab/bob", "clinic/wards")
        grant.masked = ()
        index = self.history.add(
            "KeysReleased", "clinic", "lab", "lab/bob", dataset=grant.dataset,
            dataset_id="clinic-wards", version=1, grant=grant.id,
            decision=self.history.events[grant.index].facts["decision"], split="train",
            columns=[1, 2], shards=["s1", "s2"], keys=9, rows=1000, bytes=8000,
        )  # fmt: skip
        self.reads.append(
            Read(
                grant=grant, lease="", epoch=0, index=index, at=self.history.clock,
                segments=[], rows=1000,
            )
        )  # fmt: skip

    def consent(self, person: str, state: str, purpose: str, dataset: str | None) -> None:
        at = self.history.clock - self.random.randrange(3 * DAY)  # known a while later
        self.history.add(
            "ConsentGiven" if state == "given" else "ConsentWithdrawn", "clinic", "clinic",
            "clinic/own", purpose=purpose, dataset=dataset,
            persons=[{"person": tag(person), "at": at}],
        )  # fmt: skip
        self.consents.append((at, len(self.consents), person, state, purpose, dataset))

    def _derive(self) -> None:
        """`clinic/icu@1` → run-d → model-d; and `clinic/made@1` from the run."""
        grant = self.grant("clinic/own", "clinic/icu")
        grant_id = self.history.decide(
            "clinic/own", "clinic/icu", run="run-d", version=1, columns=(2,), valid=DAY,
            bundle=self.bundle["clinic"],
        )  # fmt: skip
        self.derived_by = Grant(
            id=grant_id, index=len(self.history.events) - 1, dataset="clinic/icu", version=1,
            subject="clinic/own", run="run-d", purpose="health-research", columns=("hr",),
            masked=(), bundle=grant.bundle, ends_at=self.history.clock + DAY,
        )  # fmt: skip
        self.grants.append(self.derived_by)
        lease = self.history.lease(grant_id, segments=1)
        self.derived_by.leases.append(lease)
        self.read(self.derived_by, lease, 0, [0], 40)
        self.history.finish("clinic", "run-d", "model-d")
        self.models.append(("clinic", "run-d", "model-d"))
        self.history.version("clinic/made", origin_runs=["run-d"], origins=[])
        self.registered["clinic/made", 1] = self.history.clock

    def _erase(self) -> None:
        self.erased_at = self.history.add(
            "DatasetErased", "clinic", "clinic", "clinic/own", dataset="clinic/wards",
            dataset_id="clinic-wards", erasure="op_1", version=None, columns=[], root=1,
            keks=["k"], deks=2, shards=1, shards_kept=0,
        )  # fmt: skip
        self.history.add(
            "ErasureCertified", "clinic", dataset="clinic/wards", dataset_id="clinic-wards",
            erasure="op_1", certificate="ab" * 32, certificate_key="certificates/op_1.json",
        )  # fmt: skip

    def _heads(self) -> None:
        self.heads.append(self.history.add("TenantHeads", "platform", root="ab" * 32, tenants=4))

    # what a tenant sees

    def seen(self, tenant: str) -> list[Read]:
        return [read for read in self.reads if read.grant.is_seen_by(tenant)]

    @property
    def now(self) -> float:
        return float(self.history.clock + 3600)


def tags(subjects: set[str]) -> list[str]:
    return sorted(map(tag, subjects))
