"""Whether a person said yes to what the rules allow only under an approval.

An approval is the Grant that it became. It permits what is asked now when the request that was
approved, judged by the rules as they are now, still gives the Plan that was approved; then the
present Plan is cut down to the approved one. So an approval never permits more than it was
given for, and a change of rules, tags or masks since makes it another question.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Iterator

from gateway.catalog.records import Asked
from gateway.domain.access import AccessRequest, Decision, Effect, Limits, Plan, Reason
from gateway.domain.approval import OUTDATED, REQUIRED, needs_approval, plan_hash
from gateway.domain.dataset import DatasetRef
from gateway.domain.lease import Grant
from gateway.services.house import House

Judged = Callable[[AccessRequest], Decision]


def under(
    house: House, request: AccessRequest, decision: Decision, judged: Judged, now: float
) -> tuple[Decision, Grant | None]:
    """The Decision under an approval that stands, or a denial that says how to ask for one.

    Args:
        house: the rooms.
        request: what is asked.
        decision: what the rules say to it.
        judged: what the rules say, at the same moment, to another request for the same data.
        now: Unix seconds.

    Returns:
        The Decision with its Plan cut to the approved one, and the Grant that approves it;
        unchanged and None when no approval is needed.
    """
    if decision.plan is None or not needs_approval(decision.plan):
        return decision, None
    why = None
    for asked in _given(house, request):
        assert asked.grant is not None
        grant = house.catalog.grant(asked.grant)
        why = _ended(asked, grant, now) or _outdated(asked, judged, request)
        plan = None if why else _cut(decision.plan, grant)
        if plan is not None:
            return _narrowed(request, decision, plan), grant
        why = why or f"approval `{asked.id}` is for other columns or rows"
    return refused(house, request, decision, why), None


def _given(house: House, request: AccessRequest) -> Iterator[Asked]:
    """Approvals that became Grants, of this subject and for this data; newest first."""
    ref = request.dataset
    for asked in house.catalog.requests(request.subject.id):
        same = ref is not None and (asked.dataset, asked.version) == (
            str(ref.unversioned),
            ref.version,
        )
        if (
            same
            and asked.grant in house.catalog.state.grants
            and (asked.action, asked.purpose) == (request.action, request.purpose)
            and asked.split in (None, request.split)
            and asked.run in (None, request.run)
        ):
            yield asked


def _ended(asked: Asked, grant: Grant, now: float) -> str | None:
    if grant.revoked:
        return f"approval `{asked.id}` was withdrawn"
    return f"approval `{asked.id}` ran out" if grant.expires_at <= now else None


def _outdated(asked: Asked, judged: Judged, request: AccessRequest) -> str | None:
    plan = judged(request_of(asked, request)).plan
    if plan is not None and plan_hash(plan) == asked.plan_digest:
        return None
    return f"approval `{asked.id}` was for another plan than the rules make now"


def request_of(asked: Asked, now: AccessRequest) -> AccessRequest:
    """The request as it was asked, by the subject as it is `now`."""
    return dataclasses.replace(
        now, columns=asked.columns, split=asked.split, limits=asked.limits, run=asked.run
    )


def _cut(plan: Plan, grant: Grant) -> Plan | None:
    """The part of the Plan that was approved; None when there is none."""
    limits = plan.limits.least(grant.plan.limits).least(Limits(expires_at=grant.expires_at))
    columns = tuple(column for column in plan.columns if column in grant.plan.columns)
    cut = dataclasses.replace(plan, columns=columns, limits=limits)
    return cut if columns and cut.is_within(grant.plan) else None


def _narrowed(request: AccessRequest, decision: Decision, plan: Plan) -> Decision:
    told = {reason.text for reason in decision.reasons}
    withheld = tuple(
        Reason(code="column-withheld", text=f"column `{name}` is withheld")
        for name in dict.fromkeys(request.columns or ())
        if name not in plan.names and f"column `{name}` is withheld" not in told
    )
    return dataclasses.replace(decision, plan=plan, reasons=decision.reasons + withheld)


def refused(
    house: House, request: AccessRequest, decision: Decision, why: str | None = None
) -> Decision:
    """The denial of what nobody approved, or no longer; its advice is the command that asks."""
    reasons = [Reason(code=REQUIRED, text=f"a person of `{request.tenant}` must approve this")]
    if why is not None:
        reasons.append(Reason(code=OUTDATED, text=why))
    return dataclasses.replace(
        decision,
        effect=Effect.DENY,
        plan=None,
        reasons=tuple(reasons),
        advice=f"ask: `{_command(house, request)}`",
    )


def for_grant(house: House, request: AccessRequest, grant: Grant, decision: Decision) -> Decision:
    """A Grant from before its rules demanded an approval holds no longer; others are unchanged.

    The catalogue holds no Grant with the obligation that was not approved.
    """
    plan = decision.plan
    if plan is None or not needs_approval(plan) or needs_approval(grant.plan):
        return decision
    return refused(house, request, decision)


def _command(house: House, request: AccessRequest) -> str:
    """What to type; without the run, so that the approval is good for any run."""
    assert request.dataset is not None
    words = ["gateway", "access", "request", _name(house, request.dataset)]
    if request.action != "stream":
        words += ["--action", request.action]
    words += ["--purpose", request.purpose or ""]
    if request.columns is not None and all("," not in name for name in request.columns):
        words += ["--columns", ",".join(request.columns)]
    else:
        words += [word for name in request.columns or () for word in ("--column", name)]
    if request.split is not None:
        words += ["--split", request.split]
    for name, value in request.limits.to_dict().items():
        if name != "expires_at":
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join([*words, "--reason", "WHY"])


def _name(house: House, ref: DatasetRef) -> str:
    newest = house.catalog.dataset(ref.tenant, ref.name).newest.ref
    return str(ref if ref != newest else ref.unversioned)
