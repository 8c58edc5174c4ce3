"""How requests to people, and their answers, follow from events.

What an approval permits rests on clear facts alone, so that it is the same for a reader from
whom the details were erased: who asked (his tag), for which columns, until when. As in
holdings.py each function checks first and changes afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gateway.catalog.records import Asked
from gateway.catalog.state import REQUESTS_KEPT, State
from gateway.domain.access import Limits, Plan
from gateway.domain.approval import needs_approval
from gateway.domain.events import Event
from gateway.errors import Conflict, InvalidInput, NotFound


def access_requested(state: State, event: Event) -> None:
    """Somebody asks a person; nothing is permitted by it."""
    f = event.facts
    state.dataset(f["dataset"], f["dataset_id"])
    if f["request"] in state.requests:
        raise Conflict(f"access request `{f['request']}` is recorded already")
    if event.actor_tenant is None or event.actor_tag is None:
        raise InvalidInput("an access request is somebody's")
    _forget_old(state, event.time)
    state.requests[f["request"]] = _asked(event, event.details or {})


def _asked(event: Event, details: Mapping[str, Any]) -> Asked:
    f = event.facts
    plan, columns = details.get("plan"), details.get("asked_columns")
    return Asked(
        id=f["request"],
        asked_at=event.time_us // 1_000_000,
        expires_at=f["expires_at"],
        owner_tenant=event.owner_tenant,
        subject=event.actor,
        subject_tenant=event.actor_tenant or "",
        subject_tag=event.actor_tag,
        dataset=f["dataset"],
        dataset_id=f["dataset_id"],
        version=f["version"],
        action=f["action"],
        purpose=f["purpose"],
        split=f.get("split"),
        run=f.get("run"),
        fields=tuple(f["columns"]),
        columns=None if columns is None else tuple(columns),
        limits=Limits(**details.get("limits", {})),
        valid_seconds=details.get("valid_seconds"),
        reason=details.get("reason"),
        attributes=details.get("attributes", {}),
        plan=None if plan is None else Plan.from_dict(plan),
        request_digest=f["request_digest"],
        plan_digest=f["plan_digest"],
        policy_epoch=f["policy_epoch"],
    )


def _forget_old(state: State, now: float) -> None:
    """Keep REQUESTS_KEPT: the oldest that nothing rests on goes (lineage has it)."""
    if len(state.requests) < REQUESTS_KEPT:
        return
    for asked in state.requests.values():
        grant = state.grants.get(asked.grant or "")
        lives = grant is not None and not grant.revoked and now < grant.expires_at
        if asked.state(now) != "pending" and not lives:
            del state.requests[asked.id]
            return


def request_answered(state: State, event: Event) -> None:
    """A person of the owner's says yes, to all or less, or no; once, and never to himself."""
    f = event.facts
    asked = state.requests.get(f["request"])
    if asked is None or asked.owner_tenant != event.owner_tenant:
        raise NotFound(f"no access request `{f['request']}`")
    if asked.state(event.time) != "pending":
        raise Conflict(f"access request `{asked.id}` is {asked.state(event.time)} already")
    if event.actor_tenant != asked.owner_tenant or event.actor_tag in (None, asked.subject_tag):
        raise InvalidInput("a request is answered by somebody else, of the owner's tenant")
    _check_bound(asked, f)
    details = event.details or {}
    state.requests[asked.id] = replace(
        asked,
        answer=f["answer"],
        answered_at=event.time_us // 1_000_000,
        answered_by=event.actor,
        answer_reason=details.get("reason"),
        given_fields=tuple(f["columns"]) if f["answer"] == "approve" else (),
        given_until=f.get("expires_at"),
    )


def _check_bound(asked: Asked, facts: Mapping[str, Any]) -> None:
    bound = (facts["dataset_id"], facts["request_digest"], facts["plan_digest"])
    if bound != (asked.dataset_id, asked.request_digest, asked.plan_digest):
        raise InvalidInput("an answer is bound to the request and its plan")
    if facts["answer"] == "reject":
        return
    if not facts["columns"] or not set(facts["columns"]) <= set(asked.fields):
        raise InvalidInput("an approval is for columns that were asked for")
    if facts.get("expires_at") is None:
        raise InvalidInput("an approval has an end")


def check_approved(state: State, event: Event, plan: Plan) -> None:
    """A Plan that needs an approval is granted under one, or cut from a Grant that was."""
    f = event.facts
    if f.get("request") is not None:
        _check_fits(state.requests.get(f["request"]), event)
        return
    parent = state.grants.get(f.get("parent") or "")
    if needs_approval(plan) and (parent is None or not needs_approval(parent.plan)):
        raise InvalidInput("this Grant needs an approval")


def _check_fits(asked: Asked | None, event: Event) -> None:
    f = event.facts
    if asked is None or asked.answer != "approve" or asked.grant is not None:
        raise InvalidInput("a Grant of a request is made once, after it was approved")
    given = (asked.owner_tenant, asked.subject_tenant, asked.subject_tag, asked.run)
    if given != (event.owner_tenant, event.actor_tenant, event.actor_tag, f.get("run")):
        raise InvalidInput("a Grant of a request is for who asked")
    what = (asked.dataset_id, asked.version, asked.action, asked.purpose, asked.split)
    names = ("dataset_id", "version", "action", "purpose", "split")
    if what != tuple(f.get(name) for name in names):
        raise InvalidInput("a Grant of a request is for what was asked")
    is_less = set(f["columns"]) <= set(asked.given_fields)
    if not is_less or f["expires_at"] > (asked.given_until or 0):
        raise InvalidInput("a Grant is never wider than its approval")


def grant_made(state: State, event: Event) -> None:
    """The approval became this Grant, whatever happens to the request from here on."""
    request = event.facts.get("request")
    if request in state.requests:
        state.requests[request] = replace(state.requests[request], grant=event.facts["grant"])
