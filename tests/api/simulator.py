"""A gateway in memory with the facade's shape: it holds state and refuses, but judges simply.

Tokens are the subject's id. It exists so that doors can be tested without a server; the same
tests run against the real services where those are fast enough.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import gateway.wire as W
from gateway.domain.access import ACTIONS, Subject
from gateway.domain.dataset import DatasetRef, parse_name, parse_tag
from gateway.domain.purpose import is_within, parse_purpose
from gateway.domain.tenant import TenantLimits
from gateway.errors import (
    AccessDenied,
    Conflict,
    InvalidInput,
    NotAuthenticated,
    NotFound,
    PreconditionFailed,
)
from gateway.wire import codec, openlineage, tokens
from gateway.wire.leases import LeaseRequest, LeaseView
from tests.api.simulated_requests import SimulatedRequests

NOW = "2026-11-23T10:00:00Z"


@dataclass(frozen=True)
class SimulatedCaller:
    subject: Subject
    grant: str | None = None
    jti: str = "jti"


def subject(name: str, *roles: str) -> Subject:
    return Subject(id=name, tenant=name.partition("/")[0], type="person", roles=roles)


ICU = W.DatasetDetail(
    dataset="clinic/icu",
    dataset_id="0" * 32,
    version=1,
    columns=(
        W.ColumnView(
            field_id=1,
            name="age",
            type="int64",
            nullable=False,
            tags=("restricted",),
            proposed=W.ProposedTag(tag="pii.indirect", reason="name", percent=None),
        ),
        W.ColumnView(field_id=2, name="hr", type="double", nullable=True, tags=("restricted",)),
    ),
    splits=(W.SplitView(name="train", rows=80), W.SplitView(name="test", rows=20)),
    rows=100,
    bytes=4096,
    shards=2,
    profile="train",
    manifest_digest="ab" * 32,
    registered_at=NOW,
    registered_by="clinic/owner",
    suspended=False,
    versions=(1,),
)


@dataclass
class Simulator(SimulatedRequests):
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

    async def revoke_token(self, caller: Any, token: str) -> None:
        self.durable += 1

    async def introspect(self, caller: Any, token: str) -> W.Introspection:
        who = self.subjects.get(token)
        if who is None or who.id != caller.subject.id:
            return W.Introspection(active=False)
        return W.Introspection(active=True, sub=who.id, scope="api")

    async def whoami(self, caller: Any) -> W.WhoAmI:
        who = caller.subject
        return W.WhoAmI(
            subject=who.id,
            tenant=who.tenant,
            type=who.type,
            roles=who.roles,
            expires_at=NOW,
            server_time=NOW,
        )

    def public_keys(self) -> W.KeySet:
        return W.KeySet(issuer=self.issuer, keys=({"kty": "OKP", "crv": "Ed25519", "x": "AA"},))

    def login_providers(self) -> tuple[W.LoginProvider, ...]:
        return ()

    async def tenants(self, caller: Any) -> Sequence[W.TenantView]:
        return tuple(self.known_tenants.values())

    async def tenant(self, caller: Any, tenant: str) -> W.TenantView:
        if tenant not in self.known_tenants:
            raise NotFound(f"no tenant `{tenant}`")
        return self.known_tenants[tenant]

    async def add_tenant(self, caller: Any, request: W.TenantRequest) -> W.TenantView:
        if "operator" not in caller.subject.roles:
            raise AccessDenied("only an operator adds tenants", decision="dec_x")
        name = parse_name(request.tenant, what="tenant")
        if name in self.known_tenants:
            raise Conflict(f"`{name}` is there already")
        view = W.TenantView(tenant=name, suspended=False, datasets=0, identities=0, added_at=NOW)
        self.known_tenants[name] = view
        self.durable += 1
        return view

    async def update_tenant(
        self, caller: Any, tenant: str, changes: W.TenantChanges
    ) -> W.TenantView:
        found = await self.tenant(caller, tenant)
        if "operator" not in caller.subject.roles:
            raise AccessDenied("only an operator changes tenants", decision="dec_x")
        given = {name: getattr(changes, name) for name in TenantLimits.names()}
        if changes.suspended is not None:
            given["suspended"] = changes.suspended
        given = {name: value for name, value in given.items() if value is not None}
        changed = replace(found, **dict.fromkeys(changes.lift), **given)
        self.known_tenants[tenant] = changed
        return replace(changed, streams_stopped=0, slowest_ms=0.0) if changes.suspended else changed

    async def identities(self, caller: Any, tenant: str) -> Sequence[W.IdentityView]:
        return tuple(v for k, v in self.known.items() if k.startswith(tenant + "/"))

    async def change_identity(
        self, caller: Any, tenant: str, change: W.IdentityChange
    ) -> W.IdentityChanged:
        name = f"{tenant}/{parse_name(change.identity, what='identity')}"
        if name not in self.known:
            raise NotFound(f"no identity `{name[:80]}`")
        return W.IdentityChanged(
            identity=name,
            disabled=bool(change.disabled),
            thumbprint=change.public_key,
            streams_stopped=0,
            slowest_ms=0.0,
        )

    async def add_identity(
        self, caller: Any, tenant: str, request: W.IdentityRequest
    ) -> W.IdentityView:
        name = f"{tenant}/{parse_name(request.identity, what='identity')}"
        view = W.IdentityView(
            identity=name,
            type=request.type,
            roles=request.roles,
            thumbprint="t",
            disabled=False,
            added_at=NOW,
        )
        self.known[name] = view
        return view

    def _seen(self, caller: Any, ref: str) -> W.DatasetDetail:
        at = DatasetRef.parse(ref)
        found = self.sets.get(str(at.unversioned))
        if found is None or at.version not in (None, *found.versions):
            raise NotFound(f"no dataset `{ref}`")
        return found

    async def datasets(
        self, caller: Any, tag: str | None, text: str | None
    ) -> Sequence[W.DatasetSummary]:
        return tuple(
            W.DatasetSummary(
                dataset=d.dataset,
                version=d.version,
                rows=d.rows,
                columns=len(d.columns),
                tags=tuple(sorted({t for c in d.columns for t in c.tags})),
                suspended=d.suspended,
                registered_at=NOW,
            )
            for d in self.sets.values()
            if (text or "") in d.dataset and (not tag or any(tag in c.tags for c in d.columns))
        )

    async def dataset(self, caller: Any, ref: str) -> W.DatasetDetail:
        return self._seen(caller, ref)

    async def columns(self, caller: Any, ref: str) -> Sequence[W.ColumnView]:
        return self._seen(caller, ref).columns

    async def versions(self, caller: Any, ref: str) -> Sequence[W.VersionView]:
        d = self._seen(caller, ref)
        return (
            W.VersionView(
                version=d.version,
                rows=d.rows,
                bytes=d.bytes,
                shards=d.shards,
                profile=d.profile,
                splits=d.splits,
                manifest_digest=d.manifest_digest,
                registered_at=NOW,
                registered_by=d.registered_by,
            ),
        )

    async def manifest(self, caller: Any, ref: str) -> Mapping[str, Any]:
        return {"digest": self._seen(caller, ref).manifest_digest}

    async def classify(
        self, caller: Any, ref: str, tags: Mapping[str, Sequence[str]], if_match: str | None
    ) -> W.DatasetDetail:
        found = self._seen(caller, ref)
        if if_match not in (None, "*", W.etag_of(found)):
            raise PreconditionFailed("the dataset is another one now")
        if caller.subject.tenant != found.dataset.partition("/")[0]:
            raise AccessDenied("only the owner classifies columns", decision="dec_x")
        names = {c.name for c in found.columns}
        unknown = [name for name in tags if name not in names]
        if unknown:
            raise InvalidInput(f"`{unknown[0]}` is not a column")
        columns = tuple(
            replace(c, tags=tuple(sorted(parse_tag(t) for t in tags.get(c.name, c.tags))))
            for c in found.columns
        )
        self.sets[found.dataset] = replace(found, columns=columns)
        self.durable += 1
        return self.sets[found.dataset]

    async def update_dataset(
        self, caller: Any, ref: str, changes: W.DatasetChanges, if_match: str | None
    ) -> W.DatasetDetail:
        found = self._seen(caller, ref)
        if caller.subject.tenant != found.dataset.partition("/")[0]:
            raise AccessDenied("only the owner changes a dataset", decision="dec_x")
        if if_match not in (None, "*", W.etag_of(found)):
            raise PreconditionFailed("the dataset is another one now")
        given = {
            name: value
            for name in ("card", "owners", "contact", "suspended")
            if (value := getattr(changes, name)) is not None
        }
        if not given:
            raise InvalidInput("nothing is to be changed")
        self.sets[found.dataset] = replace(found, **given)
        self.durable += 1
        return self.sets[found.dataset]

    async def erase_dataset(self, caller: Any, ref: str, request: W.ErasureRequest) -> W.Operation:
        found = self._seen(caller, ref)
        if caller.subject.tenant != found.dataset.partition("/")[0]:
            raise AccessDenied("only the owner erases a dataset", decision="dec_x")
        if request.yes:
            del self.sets[found.dataset]
        act = W.Operation(
            id=self._id("op_"),
            kind="erase" if request.yes else "erase-plan",
            state="done",
            progress=1.0,
            result={"dataset": found.dataset, "versions": [1]},
        )
        self.acts[act.id] = act
        return act

    async def keys(self, caller: Any) -> list[W.KeyView]:
        tenant = caller.subject.tenant
        return [W.KeyView(id="root", kind="root", name=tenant, state="in use", generation=1)]

    async def rotate_keys(self, caller: Any, key: str) -> W.Operation:
        if key not in {"root", "kek"}:
            raise NotFound(f"no key `{key[:80]}` that can be rotated")
        act = W.Operation(
            id=self._id("op_"),
            kind=f"rotate-{key}",
            state="done",
            progress=1.0,
            result={"kind": key, "root": 2, "keys": 3},
        )
        self.acts[act.id] = act
        return act

    async def begin_registration(
        self, caller: Any, request: W.RegistrationRequest, key: str | None
    ) -> W.Registration:
        ref = DatasetRef.parse(request.dataset)
        if ref.tenant != caller.subject.tenant:
            raise AccessDenied("only its owner registers a dataset", decision="dec_x")
        made = W.Registration(
            id=self._id("reg_"),
            dataset=str(ref),
            part_bytes_max=1 << 16,
            parts_received=(),
            state="open",
            expires_at=NOW,
            request=request,
        )
        self.registrations[made.id] = made
        self.requests[made.id] = request
        return made

    async def put_part(
        self, caller: Any, registration: str, file: int, n: int, stream: AsyncIterator[bytes]
    ) -> W.PartReceipt:
        found = await self.registration(caller, registration)
        data = b"".join([chunk async for chunk in stream])
        receipt = W.PartReceipt(
            file=file, n=n, bytes=len(data), sha256=hashlib.sha256(data).hexdigest()
        )
        self.parts[registration, file, n] = data
        self.registrations[registration] = replace(
            found, parts_received=(*found.parts_received, receipt)
        )
        return receipt

    async def registration(self, caller: Any, registration: str) -> W.Registration:
        if registration not in self.registrations:
            raise NotFound("no such registration")
        return self.registrations[registration]

    async def abort_registration(self, caller: Any, registration: str) -> None:
        await self.registration(caller, registration)
        del self.registrations[registration]

    async def commit_registration(self, caller: Any, registration: str) -> W.Operation:
        found = await self.registration(caller, registration)
        request = self.requests[registration]
        for i, source in enumerate(request.files):
            got = sum(len(v) for (r, f, _), v in self.parts.items() if (r, f) == (registration, i))
            if source.bytes is not None and got != source.bytes:
                raise Conflict(f"file {i} has {got} of {source.bytes} bytes")
        self.sets[found.dataset] = replace(ICU, dataset=found.dataset)
        made = W.Operation(
            id=self._id("op_"),
            kind="register",
            state="done",
            progress=1.0,
            result={"dataset": f"{found.dataset}@1", "rows": 100},
        )
        self.acts[made.id] = made
        return made

    async def operations(self, caller: Any) -> Sequence[W.Operation]:
        return tuple(self.acts.values())

    async def operation(self, caller: Any, operation: str) -> W.Operation:
        if operation not in self.acts:
            raise NotFound("no such operation")
        return self.acts[operation]

    async def cancel_operation(self, caller: Any, operation: str) -> W.Operation:
        found = await self.operation(caller, operation)
        return replace(found, state="cancelled")

    async def preview(self, caller: Any, ref: str, wanted: W.ExportRequest, rows: int) -> W.Preview:
        self._seen(caller, ref)
        if not 1 <= rows <= W.PREVIEW_ROWS_MAX:
            raise InvalidInput("a preview has 1 to 100 rows")
        raise AccessDenied("no rule allows it")

    async def release_keys(self, caller: Any, wanted: W.ExportRequest) -> W.Export:
        self._seen(caller, wanted.dataset)
        raise AccessDenied("no rule allows it")

    async def evidence(self, caller: Any, wanted: W.EvidenceRequest) -> W.Operation:
        raise NotFound("no tenant that you may audit")

    async def evidence_part(self, caller: Any, pack: str, start: int) -> bytes:
        raise NotFound("no such pack")

    async def exported_part(self, caller: Any, export_: str, shard: int, start: int) -> bytes:
        raise NotFound(f"no export `{export_[:80]}` of yours")

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

    async def questions(self, caller: Any) -> Sequence[W.Question]:
        dataset = W.QuestionParameter(name="dataset", type="text", required=True)
        return (
            W.Question(
                name="who-read",
                text="who read a dataset",
                parameters=(dataset,),
                columns=("subject", "rows"),
            ),
        )

    async def ask(self, caller: Any, name: str, asked: W.AskRequest) -> W.Answer:
        if name != "who-read":
            raise NotFound("no such question")
        return W.Answer(
            columns=("subject", "rows"), rows=(("startup/ml", 100),), as_of_index=self.durable
        )

    async def query(self, caller: Any, asked: W.QueryRequest) -> W.Answer:
        if not asked.sql.lower().startswith("select"):
            raise InvalidInput("only one SELECT is run")
        return W.Answer(columns=("n", "x"), rows=((1, None), (2, 2.5)), as_of_index=self.durable)

    async def trace(self, caller: Any, ref: str, depth: int) -> W.Trace:
        return W.Trace(
            nodes=(
                W.TraceNode(id=ref, kind="version", name=ref),
                W.TraceNode(id="run:1", kind="run", name="run:1"),
            ),
            edges=(W.TraceEdge(source=ref, target="run:1", kind="read"),),
        )

    async def column_trace(self, caller: Any, ref: str, depth: int, *, downstream: bool) -> W.Trace:
        down = (W.TraceEdge(source=ref, target="run:1", kind="masked"),) if downstream else ()
        inputs = [{"dataset": "a", "field": "b"}]
        node = W.TraceNode(id=ref, kind="column", name="age", facts={"inputFields": inputs})
        return W.Trace(nodes=(node,), edges=down, truncated=True)

    async def claim(self, caller: Any, raw: bytes) -> W.ClaimReceipt:
        openlineage.read(codec.loads(raw), "testserver")
        self.durable += 1
        return W.ClaimReceipt(index=self.durable, again=False)

    async def report(self, caller: Any, name: str, wanted: W.ReportRequest) -> W.Report:
        if name != "art30":
            raise NotFound("no such report")
        text = f"{wanted.format} of {sorted(wanted.parameters)}\n"
        return W.Report(name=name, format=wanted.format, text=text, as_of_index=1, truncated=False)

    async def checkpoint(self, caller: Any, since: int | None) -> W.CheckpointView:
        root = "00" * 32
        return W.CheckpointView(note="n", size=1, root=root, witnessed="none", log_key="k")

    async def chain(self, caller: Any, tenant: str | None, since: int | None) -> W.ChainProof:
        return W.ChainProof(
            tenant=tenant or caller.subject.tenant, tag="ab", events=1, leaf="00" * 32,
            place=0, chains=1, path=(), index=0, heads="{}", hashes=(),
            checkpoint=await self.checkpoint(caller, since),
        )  # fmt: skip

    async def inclusion(self, caller: Any, index: int, size: int | None) -> W.Proof:
        size = size or 1
        if index >= size:
            raise InvalidInput("the index is not below the size")
        return W.Proof(kind="inclusion", first=index, second=size, hashes=())

    async def consistency(self, caller: Any, first: int, second: int | None) -> W.Proof:
        return W.Proof(kind="consistency", first=first, second=second or 1, hashes=())

    async def verify(self, caller: Any, since: int | None) -> W.Operation:
        made = W.Operation(id=self._id("op_"), kind="verify", state="done", progress=1.0)
        self.acts[made.id] = made
        return made

    async def ready(self) -> W.Readiness:
        return W.Readiness(ready=True, checks={"journal": W.CheckResult(ok=True, detail="")})
