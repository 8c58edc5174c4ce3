"""The simulator's part about asking for others, and asking people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import gateway.wire as W
from gateway.errors import AccessDenied, Conflict, InvalidInput, NotFound

WHEN = "2026-11-23T10:00:00Z"


class SimulatedRequests:
    """Purposes below `research` need no person; `safety` needs one; others are denied."""

    asked: dict[str, W.AccessRequestView]

    def _id(self, prefix: str) -> str:
        raise NotImplementedError

    async def check(self, caller: Any, ask: W.AccessAsk, at: str | None) -> W.DecisionView:
        raise NotImplementedError

    async def check_for(
        self, caller: Any, subject: W.EvaluationSubject, ask: W.AccessAsk, at: str | None
    ) -> W.DecisionView:
        if "enforcement-point" not in caller.subject.roles:
            raise AccessDenied("only the caller's own access can be asked for")
        return replace(await self.check(caller, ask, at), subject=subject.id)

    async def request_access(self, caller: Any, wanted: W.PersonAsk) -> W.AccessRequestView:
        view = await self.check(caller, wanted, None)
        if view.effect == "allow":
            raise Conflict("the rules allow this already: nobody has to approve it")
        if wanted.purpose != "safety":
            raise AccessDenied(view.reasons[0].text, decision=view.decision)
        made = W.AccessRequestView(
            id=self._id("req_"),
            state="pending",
            dataset=f"{wanted.dataset}@1",
            subject=caller.subject.id,
            action=wanted.action,
            purpose=wanted.purpose,
            columns=wanted.columns,
            split=wanted.split,
            run=wanted.run,
            valid_seconds=None,
            reason=wanted.reason,
            plan=None,
            request_hash="00" * 32,
            plan_hash="00" * 32,
            policy_epoch=1,
            asked_at=WHEN,
            expires_at=WHEN,
        )
        self.asked[made.id] = made
        return made

    async def access_requests(
        self, caller: Any, filters: Mapping[str, str]
    ) -> Sequence[W.AccessRequestView]:
        waits = filters.get("pending") == "true"
        return [a for a in self.asked.values() if not waits or a.state == "pending"]

    async def access_request(self, caller: Any, request: str) -> W.AccessRequestView:
        if request not in self.asked:
            raise NotFound("no such request")
        return self.asked[request]

    async def answer_request(
        self, caller: Any, request: str, wanted: W.RequestAnswer
    ) -> W.AccessRequestView:
        found = await self.access_request(caller, request)
        if wanted.decision not in ("approve", "reject"):
            raise InvalidInput("the decision is `approve` or `reject`", field="decision")
        if caller.subject.id == found.subject:
            raise AccessDenied("nobody answers his own request")
        if found.state != "pending":
            raise Conflict("it is answered already")
        state = "approved" if wanted.decision == "approve" else "rejected"
        self.asked[request] = replace(found, state=state, answer_reason=wanted.reason)
        return self.asked[request]

    async def explain_request(self, caller: Any, request: str) -> W.Explanation:
        found = await self.access_request(caller, request)
        view = W.DecisionView(decision="", effect="deny", reasons=(), subject=found.subject)
        return W.Explanation(decision=view, sentences=(f"it is {found.state}",))
