"""What the catalogue forgets when a month of a tenant's history expires.

Everything that a decision rests on stays: what is in force was decided once and holds on. What
was only said beside it (reasons, requests, who in person) goes, as its key does.
"""

from __future__ import annotations

from dataclasses import replace

from gateway.catalog.state import State
from gateway.domain.events import Event
from gateway.domain.obligations import owed
from gateway.domain.retention import end_of
from gateway.errors import Conflict, InvalidInput


def month_expired(state: State, event: Event) -> None:
    """The details of the tenant's events of this month and before are gone."""
    tenant, month = event.facts["tenant"], event.facts["month"]
    if event.owner_tenant != tenant:
        raise InvalidInput("a tenant's own history expires")
    state.tenant(tenant)
    if month in state.expired.get(tenant, {}):
        raise Conflict(f"{month} of `{tenant}` has expired already")
    if end_of(month) > event.time:
        raise InvalidInput(f"{month} is not over")
    state.expired.setdefault(tenant, {})[month] = event.index
    until = end_of(month)
    _decisions(state, tenant, until)
    _requests(state, tenant, until)
    _releases(state, tenant, until)
    _erasures(state, tenant, until)
    _fulfilments(state, tenant, until)


def _decisions(state: State, tenant: str, until: int) -> None:
    for known in list(state.decisions.values()):
        if known.owner_tenant == tenant and known.time < until:
            state.decisions[known.id] = replace(known, actor=None, details=None)


def _requests(state: State, tenant: str, until: int) -> None:
    for asked in list(state.requests.values()):
        if asked.owner_tenant == tenant and asked.asked_at < until:
            is_old = asked.answered_at is not None and asked.answered_at < until
            said = None if is_old else asked.answer_reason
            state.requests[asked.id] = replace(asked, reason=None, answer_reason=said)


def _releases(state: State, tenant: str, until: int) -> None:
    for dataset_id, known in state.key_releases.items():
        if any(r.dataset.partition("/")[0] == tenant and r.at < until for r in known):
            state.key_releases[dataset_id] = tuple(
                replace(r, recipient=None) if r.at < until else r for r in known
            )


def _erasures(state: State, tenant: str, until: int) -> None:
    for erasure in list(state.erasures.values()):
        if erasure.dataset.partition("/")[0] == tenant and erasure.at < until:
            state.erasures[erasure.id] = replace(erasure, by="", reason="")


def _fulfilments(state: State, tenant: str, until: int) -> None:
    for grant in state.grants.values():
        for obligation in owed(grant) if grant.owner_tenant == tenant else ():
            shown = state.fulfilled.get(obligation.id)
            if shown is not None and shown.at < until:
                state.fulfilled[obligation.id] = replace(shown, by="", evidence=None)
