"""Acts on access: see what stands, end it; policies; runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gateway.wire as W
from gateway.api.acts import Act, Asked
from gateway.api.facade import Gateway
from gateway.domain.dataset import parse_name
from gateway.errors import InvalidInput

_POLICY = "/v1/policies/{tenant}"
_SELECTORS = ("grant", "dataset", "subject", "run", "tenant")


async def _revoke(gateway: Gateway, asked: Asked) -> W.Revocation:
    request = asked.value(W.RevocationRequest)
    if all(getattr(request, name) is None for name in _SELECTORS):
        raise InvalidInput(
            "nothing selects the grants to revoke",
            advice="name a grant, or a dataset, subject, run or tenant",
        )
    return await gateway.revoke(asked.caller, request)


def _tenant(asked: Asked) -> str:
    return parse_name(asked.path["tenant"], what="tenant")


async def _publish(gateway: Gateway, asked: Asked) -> W.BundleView:
    given = asked.if_match
    if given in (None, "*"):
        raise InvalidInput(
            "`If-Match` with the hash of the present bundle is missing",
            advice="read the bundle first and send its ETag",
        )
    files = asked.value(W.PolicyFiles).files
    return await gateway.publish(asked.caller, _tenant(asked), files, given)


def _etag(bundle: Any) -> Mapping[str, str]:
    return {"ETag": f'"{bundle.hash}"'}


ACTS = (
    Act(
        method="GET",
        path="/v1/grants",
        summary="List the grants that you gave or hold",
        call=lambda g, a: g.grants(
            a.caller, {k: v for k, v in a.query.items() if k not in ("limit", "cursor")}
        ),
        query={
            "dataset": "only of this dataset",
            "subject": "only held by this subject",
            "run": "only for this run",
            "tenant": "only held by this tenant",
        },
        reply=W.GrantView,
        is_page=True,
    ),
    Act(
        method="GET",
        path="/v1/grants/{id}",
        summary="Show a grant",
        call=lambda g, a: g.grant(a.caller, a.path["id"]),
        reply=W.GrantView,
    ),
    Act(
        method="POST",
        path="/v1/revocations",
        summary="Revoke grants and stop their streams",
        call=_revoke,
        body=W.RevocationRequest,
        reply=W.Revocation,
    ),
    Act(
        method="GET",
        path="/v1/decisions/{id}",
        summary="Explain a decision",
        call=lambda g, a: g.explain(a.caller, a.path["id"]),
        reply=W.Explanation,
    ),
    Act(
        method="GET",
        path="/v1/runs",
        summary="List training runs",
        call=lambda g, a: g.runs(a.caller),
        reply=W.RunView,
        is_page=True,
    ),
    Act(
        method="GET",
        path="/v1/runs/{id}",
        summary="Show a training run",
        call=lambda g, a: g.run(a.caller, a.path["id"]),
        reply=W.RunView,
    ),
    Act(
        method="PATCH",
        path="/v1/runs/{id}",
        summary="Finish a training run and name its model",
        call=lambda g, a: g.finish_run(a.caller, a.path["id"], a.value(W.RunFinish)),
        body=W.RunFinish,
        reply=W.RunView,
    ),
    Act(
        method="GET",
        path="/v1/runs/{id}/attestation",
        summary="Get the signed training-data attestation of a finished run",
        call=lambda g, a: g.attestation(a.caller, a.path["id"]),
        reply=W.Attestation,
    ),
    Act(
        method="GET",
        path=_POLICY,
        summary="Show a tenant's policy bundle",
        call=lambda g, a: g.bundle(a.caller, _tenant(a)),
        reply=W.BundleView,
        headers=_etag,
    ),
    Act(
        method="PUT",
        path=_POLICY,
        summary="Publish a tenant's policy bundle (If-Match: hash of the present one)",
        call=_publish,
        body=W.PolicyFiles,
        reply=W.BundleView,
        headers=_etag,
    ),
    Act(
        method="POST",
        path=_POLICY + "/trial",
        summary="Lint, test, compare and replay a bundle without publishing it",
        call=lambda g, a: g.trial(a.caller, _tenant(a), a.value(W.TrialRequest)),
        body=W.TrialRequest,
        reply=W.Trial,
    ),
    Act(
        method="POST",
        path=_POLICY + "/approvals",
        summary="Put in force, as second person, the bundle that somebody else proposed",
        call=lambda g, a: g.approve(a.caller, _tenant(a), a.value(W.ApprovalRequest).bundle),
        body=W.ApprovalRequest,
        reply=W.BundleView,
        headers=_etag,
    ),
    Act(
        method="POST",
        path=_POLICY + "/who",
        summary="Review who could get a dataset's columns",
        call=lambda g, a: g.who(a.caller, _tenant(a), a.value(W.WhoRequest)),
        body=W.WhoRequest,
        reply=W.AccessEntry,
        is_page=True,
    ),
)
