"""A gateway in memory with the facade's shape: it holds state and refuses, but judges simply.

Tokens are the subject's id. It exists so that doors can be tested without a server; the same
tests run against the real services where those are fast enough.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import gateway.wire as W
from gateway.domain.access import ACTIONS, Subject
from gateway.domain.purpose import is_within, parse_purpose
from gateway.errors import (
    AccessDenied,
    InvalidInput,
    NotAuthenticated,
    NotFound,
)
from gateway.wire import tokens
from gateway.wire.leases import LeaseRequest, LeaseView
from tests.api.simulated_datasets import ICU, NOW, SimulatedDatasets
from tests.api.simulated_history import SimulatedHistory
from tests.api.simulated_people import SimulatedPeople
from tests.api.simulated_requests import SimulatedRequests
from tests.api.simulated_rules import SimulatedRules


@dataclass(frozen=True)
class SimulatedCaller:
    subject: Subject
    grant: str | None = None
    jti: str = "jti"


def subject(name: str, *roles: str) -> Subject:
    return Subject(id=name, tenant=name.partition("/")[0], type="person", roles=roles)


@dataclass
class Simulator(
    SimulatedPeople, SimulatedDatasets, SimulatedRequests, SimulatedRules, SimulatedHistory
):
    """State: what was registered, granted, published; `durable` counts recorded acts."""

    subjects: dict[str, Subject] = field(
        default_factory=lambda: {
            s.id: s
            for s in (
                subject("clinic/owner", "owner"),
                subject("startup/ml", "trainer"),
                subject("platform/operator", "operator"),
                subject("clinic/door", "enforcement-point"),
            )
        }
    )
    sets: dict[str, W.DatasetDetail] = field(default_factory=lambda: {"clinic/icu": ICU})
    registrations: dict[str, W.Registration] = field(default_factory=dict)
    requests: dict[str, W.RegistrationRequest] = field(default_factory=dict)
    parts: dict[tuple[str, int, int], bytes] = field(default_factory=dict)
    acts: dict[str, W.Operation] = field(default_factory=dict)
    decisions: dict[str, W.DecisionView] = field(default_factory=dict)
    held: dict[str, W.GrantView] = field(default_factory=dict)
    bundles: dict[str, W.BundleView] = field(default_factory=dict)
    asked: dict[str, W.AccessRequestView] = field(default_factory=dict)
    known_tenants: dict[str, W.TenantView] = field(default_factory=dict)
    known: dict[str, W.IdentityView] = field(default_factory=dict)
    durable: int = 0
    issuer: str = "http://127.0.0.1"

    def _id(self, prefix: str) -> str:
        self.durable += 1
        digest = hashlib.sha256(f"{prefix}{self.durable}".encode()).hexdigest()
        return f"{prefix}{digest[:26]}"

    async def authenticate(
        self, method: str, url: str, authorization: str | None, dpop: str | None
    ) -> SimulatedCaller:
        scheme, _, token = (authorization or "").partition(" ")
        if scheme != "DPoP" or dpop is None or token not in self.subjects:
            raise NotAuthenticated("no valid token came with the request")
        return SimulatedCaller(self.subjects[token])

    async def token(self, form: Mapping[str, str], url: str, dpop: str | None) -> W.TokenResponse:
        if dpop is None:
            raise InvalidInput("a DPoP proof is missing", oauth="invalid_dpop_proof")
        if form["grant_type"] == tokens.GRANT_JWT_BEARER:
            if form.get("assertion") not in self.subjects:
                raise InvalidInput("the assertion is not valid", oauth="invalid_grant")
            return W.TokenResponse(access_token=form["assertion"], expires_in=600)
        who = self.subjects.get(form.get("subject_token", ""))
        if who is None:
            raise NotAuthenticated("the subject token is not valid")
        detail = tokens.parse_details(form.get("authorization_details", "[]"))
        if detail.grant is not None:
            grant = await self.grant(SimulatedCaller(who), detail.grant)
            return self._dataset_token(who, grant)
        view = await self.check(SimulatedCaller(who), detail.ask(), None)
        if view.effect != "allow" or view.plan is None:
            raise AccessDenied(view.reasons[0].text, advice=view.advice, decision=view.decision)
        return self._dataset_token(who, self._grant(who, view, detail.run))

    def _grant(self, who: Subject, view: W.DecisionView, run: str | None) -> W.GrantView:
        assert view.plan
        grant = W.GrantView(
            id=self._id("grant_"),
            decision=view.decision,
            dataset=view.plan.dataset,
            subject=who.id,
            purpose=view.purpose or "",
            action="stream",
            columns=view.plan.columns,
            row_filter=None,
            split=None,
            run=run,
            limits=view.plan.limits,
            rows_charged=0,
            bytes_charged=0,
            granted_at=NOW,
            expires_at=NOW,
            revoked=False,
        )
        self.held[grant.id] = grant
        return grant

    def _dataset_token(self, who: Subject, grant: W.GrantView) -> W.TokenResponse:
        return W.TokenResponse(
            access_token=who.id, expires_in=600, decision=grant.decision, grant=grant.id
        )

    async def check(self, caller: Any, ask: W.AccessAsk, at: str | None) -> W.DecisionView:
        if ask.action not in ACTIONS:
            raise InvalidInput(f"`{ask.action[:40]}` is not an action")
        found = self._seen(caller, ask.dataset)
        purpose = parse_purpose(ask.purpose) if ask.purpose else None
        allowed = purpose is not None and is_within(purpose, "research")
        reason = W.ReasonView(
            code="purpose" if not allowed else "rule", text=f"purpose `{purpose}` is judged"
        )
        columns = tuple(
            W.PlanColumn(name=c.name)
            for c in found.columns
            if ask.columns is None or c.name in ask.columns
        )
        view = W.DecisionView(
            decision=self._id("dec_"),
            effect="allow" if allowed else "deny",
            reasons=(reason,),
            advice=None if allowed else "ask for the purpose `research`",
            plan=W.PlanView(dataset=f"{found.dataset}@1", columns=columns) if allowed else None,
            policy_epoch=1,
            subject=caller.subject.id,
            purpose=purpose,
        )
        self.decisions[view.decision] = view
        return view

    async def explain(self, caller: Any, decision: str) -> W.Explanation:
        if decision not in self.decisions:
            raise NotFound("no such decision")
        view = self.decisions[decision]
        branch = {"text": "purpose within (research)", "truth": "FALSE", "parts": []}
        rule = W.Candidate(
            rule="clinic.icu", kind="allow", outcome="FALSE", place="icu.yaml:3",
            conditions={"parts": [branch]},
        )  # fmt: skip
        return W.Explanation(
            decision=view,
            sentences=(view.reasons[0].text,),
            candidates=(rule,),
            nearest={"rule": rule.rule, "changes": ["purpose must be within `research`"]},
        )

    async def grants(self, caller: Any, filters: Mapping[str, str]) -> Sequence[W.GrantView]:
        return tuple(
            g
            for g in self.held.values()
            if all(str(getattr(g, k, None)) == v for k, v in filters.items() if k != "tenant")
        )

    async def grant(self, caller: Any, grant: str) -> W.GrantView:
        if grant not in self.held:
            raise NotFound("no such grant")
        return self.held[grant]

    async def revoke(self, caller: Any, request: W.RevocationRequest) -> W.Revocation:
        ids = [
            g.id
            for g in self.held.values()
            if not g.revoked
            and request.grant in (None, g.id)
            and request.dataset in (None, g.dataset.partition("@")[0])
            and request.subject in (None, g.subject)
        ]
        for one in ids:
            self.held[one] = replace(self.held[one], revoked=True)
        return W.Revocation(grants=len(ids), streams_stopped=0, slowest_ms=0, grant_ids=tuple(ids))

    async def runs(self, caller: Any) -> Sequence[W.RunView]:
        return ()

    async def run(self, caller: Any, run: str) -> W.RunView:
        raise NotFound("no such run")

    async def finish_run(self, caller: Any, run: str, request: W.RunFinish) -> W.RunView:
        raise NotFound("no such run")

    async def attestation(self, caller: Any, run: str) -> W.Attestation:
        raise NotFound("no such run")

    async def obligations(self, caller: Any, *, overdue: bool) -> Sequence[W.ObligationView]:
        return ()

    async def fulfil(
        self, caller: Any, obligation: str, shown: W.FulfilmentRequest
    ) -> W.ObligationView:
        raise NotFound("no such obligation")

    async def consents(self, caller: Any) -> Sequence[W.ConsentView]:
        return ()

    async def record_consents(self, caller: Any, wanted: W.ConsentRequest) -> W.ConsentReceipt:
        given = sum(entry.state == "given" for entry in wanted.entries)
        self.consents_recorded = [*getattr(self, "consents_recorded", ()), *wanted.entries]
        return W.ConsentReceipt(given=given, withdrawn=len(wanted.entries) - given, index=0)

    async def open_lease(self, caller: Any, request: LeaseRequest) -> LeaseView:
        raise AccessDenied("the simulator streams nothing")

    async def lease(self, caller: Any, lease: str) -> LeaseView:
        raise NotFound("no such lease")

    async def stream_address(self, caller: Any, lease: str, /) -> str:
        raise NotFound("no such lease")

    async def renew_lease(self, caller: Any, lease: str) -> LeaseView:
        raise NotFound("no such lease")

    async def close_lease(self, caller: Any, lease: str) -> None:
        raise NotFound("no such lease")

    async def ready(self) -> W.Readiness:
        return W.Readiness(ready=True, checks={"journal": W.CheckResult(ok=True, detail="")})
