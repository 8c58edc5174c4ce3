"""Who could get a column, and on which conditions: rules read by form, for access reviews.

An allow is listed with what always comes with it (masks of other rules); denies and restricts
that come only sometimes are named. What could never be released is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from gateway.domain.access import DATA_ACTIONS, Resource
from gateway.domain.dataset import Column
from gateway.domain.masks import DROP
from gateway.domain.rowfilter import text_of
from gateway.policy.cover import covers
from gateway.policy.index import scopes_of
from gateway.policy.plans import mask_for, releases
from gateway.policy.rules import Rule
from gateway.wire.policy import AccessEntry
from gateway.wire.times import iso


def review(
    rules: Iterable[Rule], resource: Resource, columns: Sequence[Column], now: float
) -> tuple[AccessEntry, ...]:
    """One entry for each column, principal and allow in force; sorted."""
    scopes = set(scopes_of(resource))
    about = [
        rule
        for rule in rules
        if rule.key in scopes and (rule.expires_at is None or rule.expires_at > now)
    ]
    others = [rule for rule in about if rule.kind != "allow"]
    found = [
        entry
        for allow in about
        if allow.kind == "allow"
        for column in columns
        for entry in _entries(allow, column, others)
    ]
    return tuple(sorted(found, key=lambda e: (e.column, e.subject, e.rule)))


def _entries(allow: Rule, column: Column, others: Sequence[Rule]) -> Iterator[AccessEntry]:
    actions = tuple(action for action in DATA_ACTIONS if action in allow.actions)
    always = [rule for rule in others if covers(rule, allow)]
    if not actions or not releases(allow, column) or any(r.kind == "deny" for r in always):
        return
    mask = mask_for(column, (allow, *always))
    if mask == DROP:
        return
    sometimes = tuple(r.id for r in others if r not in always and _may_meet(r, allow))
    for who in allow.principals:
        yield AccessEntry(
            column=column.name,
            subject=who,
            actions=actions,
            access=mask or "raw",
            condition=_condition((allow, *always)),
            unless=sometimes,
            rule=allow.id,
            owner=allow.owner,
            ticket=allow.ticket,
            expires_at=iso(allow.expires_at) if allow.expires_at is not None else None,
        )


def _may_meet(other: Rule, allow: Rule) -> bool:
    return "*" in other.actions or bool(set(other.actions) & set(allow.actions))


def _condition(rules: Sequence[Rule]) -> str:
    allow = rules[0]
    parts = [f"for {' or '.join(allow.purposes)}"] if allow.purposes else []
    parts += [f"only split {', '.join(allow.splits)}"] if allow.splits else []
    parts += [f"when {allow.when.text()}"] if allow.when is not None else []
    parts += [f"rows where {text_of(rule.where)}" for rule in rules if rule.where is not None]
    return "; ".join(parts)
