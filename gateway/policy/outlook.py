"""What somebody may know of a dataset before asking: what some Plan of his could release.

A description is an answer too: the name of a column that no rule releases to a recipient, or
the number of rows behind a row filter, is something he was not given. Judged is by the form of
the rules that name him, since purpose and context are not known yet; where that leaves a
doubt, the less is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gateway.domain.access import DATA_ACTIONS, Resource
from gateway.domain.dataset import Column
from gateway.domain.masks import DROP
from gateway.domain.purpose import is_within
from gateway.policy.plans import mask_for, releases
from gateway.policy.rules import Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """The most that a description may show."""

    columns: tuple[Column, ...] = ()
    splits: tuple[str, ...] = ()
    counts_rows: bool = False  # no rule hides rows from him, so their number is no secret


def outlook(rules: Sequence[Rule], resource: Resource) -> Outlook:
    """Look at every allow together with what always comes with it; `rules` are in force."""
    names: set[int] = set()
    splits: set[str] = set()
    for allow in rules:
        if allow.kind != "allow" or not _data(allow):
            continue
        found = _released(
            allow, [r for r in rules if r is not allow and _always(r, allow)], resource
        )
        if found:
            names |= found
            splits |= set(allow.splits or resource.splits)
    return Outlook(
        columns=tuple(c for c in resource.columns if c.field_id in names),
        splits=tuple(split for split in resource.splits if split in splits),
        counts_rows=bool(names) and all(rule.where is None for rule in rules),
    )


def _data(rule: Rule) -> set[str]:
    return set(DATA_ACTIONS) if "*" in rule.actions else set(DATA_ACTIONS) & set(rule.actions)


def _always(other: Rule, allow: Rule) -> bool:
    """Whether `other` counts in every request in which `allow` does."""
    return (
        other.when is None
        and _data(other) >= _data(allow)
        and (not other.splits or (bool(allow.splits) and set(allow.splits) <= set(other.splits)))
        and (not other.purposes or _purposes_within(allow, other))
    )


def _purposes_within(allow: Rule, other: Rule) -> bool:
    return bool(allow.purposes) and all(
        any(is_within(purpose, above) for above in other.purposes) for purpose in allow.purposes
    )


def _released(allow: Rule, with_it: Iterable[Rule], resource: Resource) -> set[int]:
    units = [allow]
    masking = [allow]
    for rule in with_it:
        if rule.kind == "deny":
            return set()
        masking.append(rule)
        if rule.kind == "allow":
            units.append(rule)
    return {
        column.field_id
        for column in resource.columns
        if all(releases(rule, column) for rule in units) and mask_for(column, masking) != DROP
    }
