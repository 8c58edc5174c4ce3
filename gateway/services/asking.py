"""The part of the facade about asking: whether, for whom, and a person."""

from __future__ import annotations

from collections.abc import Mapping

import gateway.wire as W
from gateway.catalog.records import Asked
from gateway.domain.access import Decision, Limits
from gateway.services import answer_request, ask_person, enforcement, request_access, shapes
from gateway.services.house import House
from gateway.services.request_access import Ask, Caller
from gateway.wire.times import iso, moment


class Asking:
    """Mixed into the facade, whose House it works on."""

    __slots__ = ()
    house: House

    async def check(self, caller: Caller, ask: W.AccessAsk, at: str | None) -> W.DecisionView:
        """Would it be allowed? Never makes a Grant."""
        when = self._moment(at)
        decision = await request_access.check(self.house, caller, ask_of(ask), when)
        return self._told(decision, caller.subject.id, ask, when)

    async def check_for(
        self, caller: Caller, subject: W.EvaluationSubject, ask: W.AccessAsk, at: str | None
    ) -> W.DecisionView:
        """Would it be allowed to somebody else? For registered enforcement points."""
        when = self._moment(at)
        who = (subject.type, subject.id)
        decision = await enforcement.check_for(self.house, caller, who, ask_of(ask), when)
        return self._told(decision, subject.id, ask, when)

    def _moment(self, at: str | None) -> float | None:
        return moment(at, now=self.house.now()) if at is not None else None

    def _told(
        self, decision: Decision, subject: str, ask: W.AccessAsk, when: float | None
    ) -> W.DecisionView:
        return shapes.decision_view(
            decision,
            subject=subject,
            action=ask.action,
            dataset=ask.dataset,
            purpose=ask.purpose,
            at=iso(self.house.now() if when is None else when),
        )

    async def request_access(self, caller: Caller, wanted: W.PersonAsk) -> W.AccessRequestView:
        """Ask the owner's people."""
        asked = await ask_person.ask(
            self.house, caller, ask_of(wanted), valid=wanted.valid, reason=wanted.reason
        )
        return self._shown(caller, asked)

    async def access_requests(
        self, caller: Caller, filters: Mapping[str, str]
    ) -> list[W.AccessRequestView]:
        """What was asked by the caller's tenant or of it."""
        found = await ask_person.list_(self.house, caller, filters)
        return [self._shown(caller, asked) for asked in found]

    async def access_request(self, caller: Caller, request: str) -> W.AccessRequestView:
        """One of them."""
        return self._shown(caller, await ask_person.show(self.house, caller, request))

    async def answer_request(
        self, caller: Caller, request: str, wanted: W.RequestAnswer
    ) -> W.AccessRequestView:
        """Approve or reject it."""
        return self._shown(caller, await answer_request.answer(self.house, caller, request, wanted))

    async def explain_request(self, caller: Caller, request: str) -> W.Explanation:
        """Why it needs a person, and what the rules say to it now."""
        return await ask_person.explain(self.house, caller, request)

    def _shown(self, caller: Caller, asked: Asked) -> W.AccessRequestView:
        is_owner = caller.subject.tenant == asked.owner_tenant
        answered_at = asked.answered_at
        return W.AccessRequestView(
            id=asked.id,
            state=asked.state(self.house.now()),
            dataset=f"{asked.dataset}@{asked.version}",
            subject=asked.subject,
            action=asked.action,
            purpose=asked.purpose,
            columns=asked.columns,
            split=asked.split,
            run=asked.run,
            valid_seconds=asked.valid_seconds,
            reason=asked.reason,
            plan=shapes.plan_view(asked.plan) if asked.plan else None,
            request_hash=asked.request_digest,
            plan_hash=asked.plan_digest,
            policy_epoch=asked.policy_epoch,
            asked_at=iso(asked.asked_at),
            expires_at=iso(asked.expires_at),
            answered_at=None if answered_at is None else iso(answered_at),
            answered_by=asked.answered_by if is_owner else None,
            answer_reason=asked.answer_reason,
            approved_columns=_approved(asked),
            approved_until=None if asked.given_until is None else iso(asked.given_until),
            grant=asked.grant,
        )


def _approved(asked: Asked) -> tuple[str, ...] | None:
    if asked.answer != "approve" or asked.plan is None:
        return None
    return tuple(c.name for c in asked.plan.columns if c.field_id in asked.given_fields)


def ask_of(ask: W.AccessAsk) -> Ask:
    """The AccessRequest's part that comes from the body."""
    return Ask(
        dataset=ask.dataset,
        action=ask.action,
        purpose=ask.purpose,
        columns=ask.columns,
        split=ask.split,
        limits=Limits(max_rows=ask.max_rows, max_bytes=ask.max_bytes, max_epochs=ask.max_epochs),
        run=ask.run,
    )
