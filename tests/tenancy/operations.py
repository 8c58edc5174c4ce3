"""What each operation of the API can be asked about things of another tenant.

One row for each operation of OpenAPI; a new one without a row fails test_operations.py. A row
says which kind of thing the request names, how, what a stranger is told, and who is told more:
without that control a row would prove nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from gateway.lineage import questions
from gateway.wire.tokens import GRANT_TOKEN_EXCHANGE
from tests.tenancy.world import World

Body = Callable[[str], Any]
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@dataclass(frozen=True, kw_only=True)
class Thing:
    """The request names one thing: in the path, and where `body` or `query` put it."""

    of: str  # kind, in World.things
    by: str  # who may see the real one, and then has another answer than 404
    body: Body | None = None
    query: Callable[[str], Mapping[str, str]] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 404
    path: Mapping[str, str] = field(default_factory=dict)  # what is not the thing
    in_path: bool = True
    is_silent: bool = False  # the answer is the same to everybody; the effect is tested apart


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A list of what the caller may see; `filters`: query key to the kind that it names."""

    by: str
    filters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Apart:
    """It names nothing that belongs to a tenant; `why`."""

    why: str


Row = Thing | Listing | Apart
PUBLIC = Apart("public")
LOG = Apart("the log is one for all: sizes, hashes and signatures")


def of_path(of: str, by: str, **more: Any) -> Thing:
    return Thing(of=of, by=by, **more)


def in_body(of: str, by: str, body: Body, **more: Any) -> Thing:
    return Thing(of=of, by=by, body=body, in_path=False, **more)


def _form(name: str) -> Body:
    return lambda it: urlencode({name: it}).encode()


def _selector(kind: str) -> Body:
    return lambda it: {kind: it, "reason": "x"}


def _question(it: str) -> Any:
    return {"action": {"name": "stream"}, "resource": {"type": "dataset", "id": it},
            "context": {"purpose": "research"}}  # fmt: skip


def _select(it: str) -> Any:
    return {"sql": f"SELECT * FROM decision WHERE dataset = '{it}'"}  # noqa: S608 - our own names


def _lineage(it: str) -> Any:
    return {"parameters": {"dataset": it}}


QUESTIONS = tuple(
    question.name
    for question in questions.QUESTIONS.values()
    if "dataset" in {p.name for p in question.parameters}
    and not {p.name for p in question.parameters if p.required} - {"dataset"}
)
FILE = {"files": [{"name": "f", "bytes": 3}]}
SHOWN = {"evidence_sha256": "0" * 64}
FINISHED = {"model": "m", "artifact_sha256": "0" * 64}
CONSENT = {"person": "p1", "purpose": "research", "state": "given"}
IDENTITY = {"identity": "new", "type": "job", "roles": ["trainer"], "public_key": "A" * 43}
DATASET, VERSION = "/v1/datasets/{tenant}/{name}", "/v1/datasets/{tenant}/{name}/versions/{version}"

# In this order: what the control of a row ends comes after those who need it.
TABLE: Mapping[tuple[str, str], tuple[Row, ...]] = {
    ("GET", "/v1/datasets"): (Listing(by="alder", filters={"text": "dataset"}),),
    ("GET", DATASET): (of_path("dataset", "alder"),),
    ("PATCH", DATASET): (of_path("dataset", "alder", body=lambda _: {"contact": "x"}),),
    ("DELETE", DATASET): (of_path("dataset", "alder", body=lambda _: {"yes": False}),),
    ("GET", f"{DATASET}/columns"): (of_path("dataset", "alder"),),
    ("PATCH", f"{DATASET}/columns"): (
        of_path("dataset", "alder", body=lambda _: {"tags": {"rings": ["public"]}}),
    ),
    ("GET", f"{DATASET}/versions"): (of_path("dataset", "alder"),),
    ("GET", VERSION): (of_path("dataset", "alder"),),
    ("DELETE", VERSION): (of_path("dataset", "alder", body=lambda _: {"yes": False}),),
    ("GET", f"{VERSION}/manifest"): (of_path("dataset", "alder"),),
    ("GET", f"{VERSION}/preview"): (
        of_path("dataset", "alder/job", query=lambda _: {"purpose": "research", "rows": "1"}),
    ),
    ("GET", "/v1/exports/{id}/shards/{n}"): (of_path("export", "birch/job"),),
    ("POST", "/v1/exports"): (
        in_body("dataset", "birch/job", lambda it: {"dataset": it, "purpose": "research"}),
    ),
    ("POST", "/v1/registrations"): (
        in_body("dataset", "alder", lambda it: {"dataset": it, **FILE}, status=403),
        in_body(
            "dataset",
            "birch",
            lambda it: {"dataset": "rival/mine", "derived_from": [it], **FILE},
        ),
        in_body(
            "run",
            "birch",
            lambda it: {"dataset": "rival/mine", "derived_from": [f"run:{it}"], **FILE},
            status=422,
        ),
    ),
    ("GET", "/v1/registrations/{id}"): (of_path("registration", "alder"),),
    ("PUT", "/v1/registrations/{id}/parts/{n}"): (
        of_path("registration", "alder", body=lambda _: b"abc"),
    ),
    ("POST", "/v1/registrations/{id}/commit"): (of_path("registration", "alder"),),
    ("DELETE", "/v1/registrations/{id}"): (of_path("registration", "alder"),),
    ("GET", "/v1/operations"): (Listing(by="alder"),),
    ("GET", "/v1/operations/{id}"): (of_path("operation", "alder"),),
    ("DELETE", "/v1/operations/{id}"): (of_path("operation", "alder"),),
    ("POST", "/access/v1/evaluation"): (in_body("dataset", "birch/job", _question),),
    ("POST", "/access/v1/evaluations"): (
        in_body("dataset", "birch/job", lambda it: {"evaluations": [_question(it)]}, status=200),
    ),
    ("POST", "/v1/access-requests"): (
        in_body("dataset", "birch/job", lambda it: {"dataset": it, "purpose": "health-research"}),
    ),
    ("GET", "/v1/access-requests"): (
        Listing(by="birch/job", filters={"dataset": "dataset", "subject": "subject"}),
    ),
    ("GET", "/v1/access-requests/{id}"): (of_path("access request", "birch/job"),),
    ("GET", "/v1/access-requests/{id}/explanation"): (of_path("access request", "birch/job"),),
    ("POST", "/v1/access-requests/{id}/approvals"): (
        of_path("access request", "alder", body=lambda _: {"decision": "reject", "reason": "no"}),
    ),
    ("GET", "/v1/decisions/{id}"): (of_path("decision", "alder"),),
    ("GET", "/v1/grants"): (
        Listing(
            by="alder",
            filters={"dataset": "dataset", "subject": "subject", "run": "run", "tenant": "tenant"},
        ),
    ),
    ("GET", "/v1/grants/{id}"): (of_path("grant", "alder"),),
    ("GET", "/v1/obligations"): (Listing(by="birch/job"),),
    ("POST", "/v1/obligations/{id}/fulfilment"): (
        of_path("obligation", "birch/job", body=lambda _: SHOWN),
    ),
    ("POST", "/v1/consents"): (
        in_body("dataset", "alder", lambda it: {"entries": [{**CONSENT, "dataset": it}]}),
    ),
    ("GET", "/v1/consents"): (Listing(by="alder"),),
    ("GET", "/v1/policies/{tenant}"): (of_path("tenant", "alder", status=403),),
    ("PUT", "/v1/policies/{tenant}"): (
        of_path(
            "tenant",
            "alder",
            body=lambda _: {"files": {}},
            headers={"If-Match": f'"{"0" * 64}"'},
            status=403,
        ),
    ),
    ("POST", "/v1/policies/{tenant}/approvals"): (
        of_path("tenant", "alder", body=lambda _: {"bundle": "0" * 64}, status=403),
    ),
    ("POST", "/v1/policies/{tenant}/trial"): (
        of_path("tenant", "alder", body=lambda _: {"parts": ["lint"]}, status=403),
    ),
    ("POST", "/v1/policies/{tenant}/who"): (
        of_path("tenant", "alder", body=lambda it: {"dataset": f"{it}/trees"}),
    ),
    ("GET", "/v1/runs"): (Listing(by="birch"),),
    ("GET", "/v1/runs/{id}"): (of_path("run", "alder"),),
    ("PATCH", "/v1/runs/{id}"): (of_path("run", "birch/job", body=lambda _: FINISHED),),
    ("GET", "/v1/runs/{id}/attestation"): (of_path("run", "birch/job"),),
    ("POST", "/v1/leases"): (Apart("its Grant is the token's"),),
    ("GET", "/v1/leases/{id}"): (of_path("lease", "birch/job"),),
    ("POST", "/v1/leases/{id}/renewal"): (of_path("lease", "birch/job"),),
    ("GET", "/v1/leases/{id}/stream"): (of_path("lease", "birch/job"),),
    ("DELETE", "/v1/leases/{id}"): (of_path("lease", "birch/job"),),
    ("GET", "/v1/leases/{id}/segments/{n}"): (Apart("signed with the lease key"),),
    ("POST", "/v1/leases/{id}/acknowledgements"): (Apart("signed with the lease key"),),
    ("GET", "/v1/keys"): (Listing(by="alder"),),
    ("POST", "/v1/keys/{id}/rotation"): (Apart("`root` or `kek` of the caller's tenant"),),
    ("GET", "/v1/lineage/questions"): (Apart("the same for everybody"),),
    ("POST", "/v1/lineage/questions/{name}"): tuple(
        of_path(
            "dataset",
            "alder",
            body=_lineage,
            path={"name": name},
            status=422,
        )
        for name in QUESTIONS
    ),
    ("POST", "/v1/lineage/reports/{name}"): (
        of_path("dataset", "alder", body=_lineage, path={"name": "usage"}, status=422),
    ),
    ("POST", "/v1/lineage/query"): (
        in_body(
            "dataset",
            "alder",
            _select,
            status=200,
        ),
    ),
    ("GET", "/api/v1/lineage"): (
        Thing(of="dataset", by="alder", query=lambda it: {"nodeId": it}, in_path=False, status=422),
        Thing(
            of="run",
            by="alder",
            query=lambda it: {"nodeId": f"run:{it}"},
            in_path=False,
            status=422,
        ),
    ),
    ("GET", "/api/v1/column-lineage"): (
        Thing(
            of="dataset",
            by="alder",
            query=lambda it: {"nodeId": f"dataset:dataset-gateway:{it}"},
            in_path=False,
            status=422,
        ),
    ),
    ("POST", "/api/v1/lineage"): (Apart("a claim stands on the side of its tenant alone"),),
    ("GET", "/v1/lineage/checkpoint"): (LOG,),
    ("GET", "/v1/lineage/proofs/inclusion"): (LOG,),
    ("GET", "/v1/lineage/proofs/consistency"): (LOG,),
    ("GET", "/v1/lineage/proofs/chain"): (
        Thing(of="tenant", by="alder", query=lambda it: {"tenant": it}, in_path=False),
    ),
    ("POST", "/v1/lineage/verification"): (LOG,),
    ("POST", "/v1/lineage/evidence"): (
        in_body("dataset", "alder", lambda it: {"dataset": it}, status=422),
        in_body("tenant", "alder", lambda it: {"tenant": it}),
    ),
    ("GET", "/v1/lineage/evidence/{id}"): (of_path("pack", "alder"),),
    ("GET", "/v1/tenants"): (Listing(by="alder"),),
    ("POST", "/v1/tenants"): (
        in_body("tenant", "operator", lambda it: {"tenant": it}, status=403),
    ),
    ("GET", "/v1/tenants/{tenant}"): (of_path("tenant", "alder"),),
    ("PATCH", "/v1/tenants/{tenant}"): (
        of_path("tenant", "operator", body=lambda _: {"max_streams": 7}),
    ),
    ("GET", "/v1/tenants/{tenant}/identities"): (of_path("tenant", "alder"),),
    ("POST", "/v1/tenants/{tenant}/identities"): (
        of_path("tenant", "alder", body=lambda _: IDENTITY),
    ),
    ("PATCH", "/v1/tenants/{tenant}/identities"): (
        of_path("tenant", "alder", body=lambda _: {"identity": "job", "disabled": True}),
    ),
    ("GET", "/v1/whoami"): (Apart("who the caller is"),),
    ("POST", "/oauth/token"): (PUBLIC,),
    ("POST", "/oauth/introspect"): (
        in_body("token", "birch/job", _form("token"), headers=FORM, status=200),
    ),
    ("POST", "/oauth/revoke"): (
        in_body("token", "birch/job", _form("token"), headers=FORM, status=200, is_silent=True),
    ),
    ("POST", "/v1/revocations"): (
        in_body("tenant", "alder", _selector("tenant"), is_silent=True),
        *(
            in_body(kind, "alder", _selector(kind))
            for kind in ("run", "subject", "dataset", "grant")
        ),
    ),
    ("GET", "/.well-known/oauth-authorization-server"): (PUBLIC,),
    ("GET", "/.well-known/authzen-configuration"): (PUBLIC,),
    ("GET", "/.well-known/jwks.json"): (PUBLIC,),
    ("GET", "/healthz"): (PUBLIC,),
    ("GET", "/readyz"): (PUBLIC,),
    ("GET", "/docs/reference/errors.md"): (PUBLIC,),
    ("GET", "/docs/formats/openlineage-access-v1.json"): (PUBLIC,),
}


def exchange_of(detail: Mapping[str, Any], token: str) -> bytes:
    """The form that asks for a dataset token."""
    details = json.dumps([{"type": "dataset_access", "actions": ["stream"], **detail}])
    form = {
        "grant_type": GRANT_TOKEN_EXCHANGE,
        "subject_token": token,
        "authorization_details": details,
    }
    return urlencode(form).encode()


def target_of(path: str, row: Thing, it: str) -> str:
    """The URL path and query of a row about `it`."""
    parts = {"version": "1", "n": "0", **row.path}
    if row.in_path and not row.path:
        tenant, _, name = it.partition("/")
        parts = {**parts, "tenant": tenant, "name": name, "id": quote(it, safe="")}
    target = path.format_map(parts)
    return f"{target}?{urlencode(row.query(it))}" if row.query else target


def things_of(world: World, row: Thing) -> tuple[str, tuple[str, ...]]:
    """The real one, and those that do not exist."""
    real, *ghosts = world.things[row.of]
    return real, tuple(ghosts)
