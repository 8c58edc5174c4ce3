"""Our allow and deny rules in the words of Cedar, so that an independent engine can answer.

Cedar skips a policy whose condition errs (a missing attribute); we skip an allow then too, and
let a deny count. So Cedar may allow what we deny for UNKNOWN, and never the other way round.
Restricts, masks, columns and row filters have no counterpart: they only narrow.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from gateway.domain.access import AccessRequest, Resource
from gateway.domain.purpose import PURPOSES, is_within
from gateway.policy.conditions import Always, Both, Compare, Has, Node, Not, OneOf
from gateway.policy.index import scopes_of
from gateway.policy.rules import Rule
from gateway.policy.schema import PURPOSE, default_schema
from gateway.policy.trial import RequestFacts


def policies(rules: Iterable[Rule]) -> str:
    """Cedar text of the rules that allow or deny."""
    return "\n".join(_policy(rule) for rule in rules if rule.kind != "restrict")


def question(wanted: AccessRequest, resource: Resource, now: float) -> dict[str, Any]:
    """The request as Cedar takes it: everything that rules may read is in the context."""
    schema = default_schema()
    facts = RequestFacts(schema, wanted, resource, now)
    known = {name: facts.value(name) for name in schema.attributes}
    context = {name: _plain(value) for name, value in known.items() if value is not None}
    context |= {
        "principals": list(wanted.subject.principals),
        "scopes": list(scopes_of(resource)),
        "action": wanted.action,
        "now": int(now),
    }
    if wanted.split is not None:
        context["split"] = wanted.split
    return {
        "principal": {"type": "Subject", "id": wanted.subject.id},
        "action": {"type": "Action", "id": wanted.action},
        "resource": {"type": "Dataset", "id": str(wanted.dataset)},
        "context": context,
    }


def _policy(rule: Rule) -> str:
    parts = [
        f"context.principals.containsAny({_set(rule.principals)})",
        f"context.scopes.contains({json.dumps(rule.key)})",
    ]
    if "*" not in rule.actions:
        parts.append(f"{_set(rule.actions)}.contains(context.action)")
    if rule.expires_at is not None:
        parts.append(f"context.now < {rule.expires_at}")
    if rule.splits:
        named = f"(context has split && {_set(rule.splits)}.contains(context.split))"
        parts.append(named if rule.kind == "allow" else f"(!(context has split) || {named})")
    if rule.purposes:
        within = [p for p in PURPOSES if any(is_within(p, allowed) for allowed in rule.purposes)]
        parts.append(f"{_set(within)}.contains(context.{PURPOSE})")
    if rule.when is not None:
        parts.append(_condition(rule.when))
    effect = "permit" if rule.kind == "allow" else "forbid"
    return f"{effect}(principal, action, resource) when {{ {' && '.join(parts)} }};"


def _condition(node: Node) -> str:
    match node:
        case Both(word=word):
            sign = " && " if word == "and" else " || "
            return f"({sign.join(map(_condition, node.parts()))})"
        case Not(member=member):
            return f"!({_condition(member)})"
        case Has(name=name):
            return f"(context has {json.dumps(name)})"
        case Always(truth=truth):
            return "true" if truth else "false"
        case Compare(name=name, sign=sign, literal=literal, other=other):
            right = _attribute(other) if other is not None else _literal(literal)
            return f"({_attribute(name)} {sign} {right})"
        case OneOf(name=name, word=word, literals=literals):
            chosen = (
                [p for p in PURPOSES if any(is_within(p, one) for one in literals)]
                if word == "within"
                else literals
            )
            return f"{_set(chosen)}.contains({_attribute(name)})"
    raise TypeError(node)


def _attribute(name: str) -> str:
    return f"context[{json.dumps(name)}]"


def _set(values: Iterable[Any]) -> str:
    return f"[{', '.join(map(_literal, values))}]"


def _literal(value: Any) -> str:
    return json.dumps(_plain(value))


def _plain(value: Any) -> Any:
    return int(value.timestamp() * 1_000_000) if isinstance(value, datetime) else value
