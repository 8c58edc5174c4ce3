"""Acts on asking: the judge (AuthZEN 1.0, `access check`), and the owner's people."""

from __future__ import annotations

import asyncio
from typing import Any

import gateway.wire as W
from gateway.api.acts import Act, Asked, location
from gateway.api.facade import Gateway
from gateway.errors import GatewayError, InvalidInput, TooLarge

_REQUESTS = "/v1/access-requests"
EVALUATIONS_MAX = 100  # of one batch
_STOPS = {"execute_all": None, "deny_on_first_deny": False, "permit_on_first_permit": True}


async def _evaluate(gateway: Gateway, asked: Asked) -> W.EvaluationResponse:
    return await _decide(gateway, asked, asked.value(W.EvaluationRequest))


async def _decide(
    gateway: Gateway, asked: Asked, request: W.EvaluationRequest
) -> W.EvaluationResponse:
    """Who is asked about is the caller, whom only his token names, or needs the right to ask."""
    own, other, at = asked.caller.subject, request.subject, request.context.at
    if other is None or (other.id, other.type) == (own.id, own.type):
        view = await gateway.check(asked.caller, request.ask(), at)
    else:
        view = await gateway.check_for(asked.caller, other, request.ask(), at)
    return W.EvaluationResponse(decision=view.effect == "allow", context=view)


async def _evaluate_all(gateway: Gateway, asked: Asked) -> Any:
    """A batch; without `evaluations` it is one question, as the specification says."""
    batch = asked.value(W.EvaluationsRequest)
    if len(batch.evaluations) > EVALUATIONS_MAX:
        raise TooLarge(f"a batch has at most {EVALUATIONS_MAX} evaluations", advice="split it")
    semantic = batch.options.get("evaluations_semantic", "execute_all")
    if not isinstance(semantic, str) or semantic not in _STOPS:
        raise InvalidInput(
            "no such `evaluations_semantic`",
            advice=f"use one of {', '.join(_STOPS)}",
            field="options.evaluations_semantic",
        )
    if not batch.evaluations:
        return await _decide(gateway, asked, batch.single())
    return W.EvaluationsResponse(
        evaluations=await _answers(gateway, asked, batch, stop=_STOPS[semantic])
    )


async def _answers(
    gateway: Gateway, asked: Asked, batch: W.EvaluationsRequest, *, stop: bool | None
) -> tuple[Any, ...]:
    """In the order of the questions; up to the first answer that is `stop`."""
    if stop is None:
        questions = (_one(gateway, asked, batch, item) for item in batch.evaluations)
        return tuple(await asyncio.gather(*questions))
    found: list[Any] = []
    for item in batch.evaluations:
        found.append(await _one(gateway, asked, batch, item))
        if found[-1].decision is stop:
            break
    return tuple(found)


async def _one(
    gateway: Gateway, asked: Asked, batch: W.EvaluationsRequest, item: W.EvaluationItem
) -> W.EvaluationResponse | W.EvaluationRefusal:
    """What is wrong with one question denies that one and no other."""
    try:
        return await _decide(gateway, asked, batch.filled(item))
    except GatewayError as error:
        if error.status >= 500:  # noqa: PLR2004 - the server's own, about the whole batch
            raise
        told = W.EvaluationError(status=error.status, message=error.message)
        return W.EvaluationRefusal(context=W.EvaluationErrorContext(error=told))


async def _metadata(gateway: Gateway, _: Asked) -> dict[str, Any]:
    issuer = gateway.public_keys().issuer
    return {
        "policy_decision_point": issuer,
        "access_evaluation_endpoint": f"{issuer}/access/v1/evaluation",
        "access_evaluations_endpoint": f"{issuer}/access/v1/evaluations",
    }


ACTS = (
    Act(
        method="POST",
        path="/access/v1/evaluation",
        summary="Ask whether; never makes a Grant (AuthZEN 1.0)",
        call=_evaluate,
        body=W.EvaluationRequest,
        reply=W.EvaluationResponse,
    ),
    Act(
        method="POST",
        path="/access/v1/evaluations",
        summary="Ask up to 100 such questions at once (AuthZEN 1.0)",
        call=_evaluate_all,
        body=W.EvaluationsRequest,
        reply=dict,
    ),
    Act(
        method="GET",
        path="/.well-known/authzen-configuration",
        summary="Where this policy decision point answers (AuthZEN 1.0)",
        call=_metadata,
        reply=dict,
        is_public=True,
    ),
    Act(
        method="POST",
        path=_REQUESTS,
        summary="Ask the owner's people for access that needs an approval",
        call=lambda g, a: g.request_access(a.caller, a.value(W.PersonAsk)),
        body=W.PersonAsk,
        reply=W.AccessRequestView,
        status=201,
        headers=location(f"{_REQUESTS}/"),
    ),
    Act(
        method="GET",
        path=_REQUESTS,
        summary="List what you asked for and what you are asked for",
        call=lambda g, a: g.access_requests(
            a.caller, {k: v for k, v in a.query.items() if k not in ("limit", "cursor")}
        ),
        query={
            "pending": "`true`: only what waits for an answer",
            "dataset": "only of this dataset",
            "subject": "only asked by this subject",
        },
        reply=W.AccessRequestView,
        is_page=True,
    ),
    Act(
        method="GET",
        path=_REQUESTS + "/{id}",
        summary="Show an access request",
        call=lambda g, a: g.access_request(a.caller, a.path["id"]),
        reply=W.AccessRequestView,
    ),
    Act(
        method="POST",
        path=_REQUESTS + "/{id}/approvals",
        summary="Approve an access request, whole or narrower, or reject it",
        call=lambda g, a: g.answer_request(a.caller, a.path["id"], a.value(W.RequestAnswer)),
        body=W.RequestAnswer,
        reply=W.AccessRequestView,
    ),
    Act(
        method="GET",
        path=_REQUESTS + "/{id}/explanation",
        summary="Explain an access request",
        call=lambda g, a: g.explain_request(a.caller, a.path["id"]),
        reply=W.Explanation,
    ),
)
