"""No joining of alternative grants: what one recipient was given must fit into one grant.

Two rules may each release harmless columns (name and town; town and diagnosis). A recipient who
is given both in turn could put the rows side by side and hold what no rule releases. So every
Plan is kept with its *unit*: all that the rules behind it would have released to that request
at once. A new Plan is refused when no single unit holds it and everything planned before.

Counted per recipient tenant and dataset, over all versions, for ever: also Plans whose Grants
ended. Limits and times do not matter here; they bound how much, not what can be put together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.domain.access import Plan
from gateway.domain.masks import is_at_least
from gateway.domain.rowfilter import Filter


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A Plan that was given, and all that its rules would have released at once."""

    plan: Plan
    unit: Plan


def would_combine(wanted: Planned, earlier: Iterable[Planned]) -> bool:
    """Whether the Plans together exceed every unit among them.

    Plans of two different splits share no row, hence are never put together.
    """
    known = [one for one in earlier if _share_rows(one.plan, wanted.plan)]
    plans = [wanted.plan, *(one.plan for one in known)]
    units = [wanted.unit, *(one.unit for one in known)]
    return not any(all(is_covered(plan, unit) for plan in plans) for unit in units)


def with_planned(known: tuple[Planned, ...], new: Planned) -> tuple[Planned, ...]:
    """`known` and `new`, without those that another one covers."""
    if any(_is_subsumed(new, one) for one in known):
        return known
    return (*(one for one in known if not _is_subsumed(one, new)), new)


def is_covered(plan: Plan, unit: Plan) -> bool:
    """Whether every cell of `plan` is a cell of `unit` or tells less than it.

    What cannot be compared (two filters of which neither contains the other) is not covered.
    """
    released = {column.field_id: column for column in unit.columns}
    return (
        unit.split in (None, plan.split)
        and _filter_implies(plan.row_filter, unit.row_filter)
        and all(
            column.field_id in released and is_at_least(column.mask, released[column.field_id].mask)
            for column in plan.columns
        )
    )


def _is_subsumed(inner: Planned, outer: Planned) -> bool:
    return is_covered(inner.plan, outer.plan) and is_covered(inner.unit, outer.unit)


def _share_rows(a: Plan, b: Plan) -> bool:
    return a.split is None or b.split is None or a.split == b.split


def _filter_implies(inner: Filter | None, outer: Filter | None) -> bool:
    """A conjunction passes no row that one of its parts, or some of them, would not."""
    if outer is None or inner == outer:
        return True
    return inner is not None and set(_parts(outer)) <= set(_parts(inner))


def _parts(tree: Filter) -> tuple[Filter, ...]:
    return tree[1:] if tree[0] == "and" else (tree,)
