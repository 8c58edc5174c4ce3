"""Beside what a recipient was given before: a new Plan that would combine is a denial.

The algebra is `domain/combining.py`; what was planned is the catalogue's.
"""

from __future__ import annotations

import dataclasses

from gateway.domain.access import AccessRequest, Decision, Effect, Plan, Reason
from gateway.domain.combining import Planned, would_combine
from gateway.services.house import House

REASON = "would-combine"
_ADVICE = (
    "ask for the columns, purpose and split of the earlier grant; or have the owner publish one "
    "rule for both, or a rule with `combinable: true`"
)


def beside_earlier(
    house: House, request: AccessRequest, decision: Decision, unit: Plan | None
) -> Decision:
    """The Decision, or a denial when its Plan and earlier ones exceed every single unit.

    Args:
        house: the rooms.
        request: about a dataset, of another tenant than the dataset's.
        decision: what the rules alone say; allowed, with a Plan.
        unit: all that its rules would release at once; None denies.
    """
    if decision.combinable or decision.plan is None or request.dataset is None:
        return decision
    recipient = request.subject.tenant
    dataset = house.catalog.dataset(request.dataset.tenant, request.dataset.name)
    earlier = house.catalog.planned(recipient, dataset.dataset_id)
    if unit is not None and not would_combine(Planned(plan=decision.plan, unit=unit), earlier):
        return decision
    text = f"`{recipient}` was given other cells of this dataset; no rule releases both together"
    reason = Reason(code=REASON, text=text)
    return dataclasses.replace(
        decision, effect=Effect.DENY, reasons=(reason,), plan=None, advice=_ADVICE
    )
