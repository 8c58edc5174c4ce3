"""How two answers to one request differ, and each of them in one line."""

from __future__ import annotations

from gateway.domain.access import Decision, Plan
from gateway.domain.rowfilter import text_of
from gateway.wire.times import iso

ALLOWED, DENIED, CHANGED = "newly-allowed", "newly-denied", "plan-changed"


def difference(before: Decision, after: Decision) -> str | None:
    """What became of an answer; None when nothing did."""
    if before.is_allowed != after.is_allowed:
        return ALLOWED if after.is_allowed else DENIED
    return CHANGED if before.plan != after.plan else None


def in_words(decision: Decision) -> str:
    """The answer in one line, as the owner of the rules may read it."""
    if not decision.is_allowed:
        return f"denied ({', '.join(reason.code for reason in decision.reasons)})"
    return _plan(decision.plan) if decision.plan is not None else "allowed"


def _plan(plan: Plan) -> str:
    columns = [f"{c.name} ({c.mask})" if c.mask else c.name for c in plan.columns]
    parts = [f"columns {', '.join(columns)}"]
    if plan.row_filter is not None:
        parts.append(f"rows where {text_of(plan.row_filter)}")
    limits = plan.limits.to_dict()
    end = limits.pop("expires_at", None)
    parts += [f"{name} {value}" for name, value in limits.items()]
    parts += [f"until {iso(end)}"] if end is not None else []
    parts += [f"{name} = {value}" for name, value in plan.obligations]
    return "; ".join(parts)
