"""The simulator's part about rules: kept as they come, tried without judging."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import gateway.wire as W
from gateway.errors import (
    NotFound,
    PreconditionFailed,
)


class SimulatedRules:
    """Bundles by tenant."""

    bundles: dict[str, W.BundleView]
    durable: int

    async def bundle(self, caller: Any, tenant: str) -> W.BundleView:
        empty = W.BundleView(tenant=tenant, hash="0" * 64, files={}, rules=0)
        return self.bundles.get(tenant, empty)

    async def publish(
        self, caller: Any, tenant: str, files: Mapping[str, str], if_match: str
    ) -> W.BundleView:
        if if_match != (await self.bundle(caller, tenant)).hash:
            raise PreconditionFailed("the bundle was changed since it was read")
        digest = hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()
        made = W.BundleView(tenant=tenant, hash=digest, files=dict(files), rules=len(files))
        self.bundles[tenant] = made
        return made

    async def who(self, caller: Any, tenant: str, wanted: W.WhoRequest) -> Sequence[W.AccessEntry]:
        return (
            W.AccessEntry(
                column=wanted.column or "age", subject="startup/role:trainer", actions=("stream",),
                access="raw", condition="for research", unless=(), rule="clinic.icu",
                owner="=cmd()", ticket="", expires_at=None,
            ),
        )  # fmt: skip

    async def approve(self, caller: Any, tenant: str, bundle: str) -> W.BundleView:
        present = await self.bundle(caller, tenant)
        if present.proposed is None or present.proposed.hash != bundle:
            raise NotFound("no such bundle waits")
        waiting = present.proposed
        self.bundles[tenant] = W.BundleView(
            tenant=tenant, hash=waiting.hash, files=waiting.files, rules=len(waiting.files)
        )
        return self.bundles[tenant]

    async def trial(self, caller: Any, tenant: str, wanted: W.TrialRequest) -> W.Trial:
        files = (await self.bundle(caller, tenant)).files if wanted.files is None else wanted.files
        problems = tuple(
            W.PolicyProblem(file=name, line=1, column=1, message=f"{name}:1:1: empty")
            for name, text in files.items()
            if not text.strip()
        )
        if problems:
            return W.Trial(ok=False, problems=problems)
        effect = W.AccessChange(
            kind="newly-denied",
            subject="startup/role:trainer",
            action="stream",
            dataset="clinic/icu",
            purposes=("research",),
            example={"type": "job"},
            before="columns age",
            after="denied (no-rule)",
        )
        change = W.ReplayedChange(
            kind="newly-denied",
            dataset="clinic/icu",
            run="clinic:study",
            subject="clinic/ana",
            action="stream",
            purpose="research",
            requests=3,
            before="columns age",
            after="denied (no-rule)",
        )
        others = W.ForeignChange(
            kind="newly-denied", dataset="clinic/icu", tenant="startup", subjects=7
        )
        return W.Trial(
            ok=True,
            suites=(W.SuiteResult(name="icu_test.yaml", passed=2, failed=0),),
            diff=W.PolicyDiff(rules=(), effects=(effect,), tried=9, exhaustive=True),
            replay=W.PolicyReplay(judged=12, since=None, changes=(change,), foreign=(others,)),
        )
