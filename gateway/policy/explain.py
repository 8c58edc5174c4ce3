"""Say why: condition trees with TRUE, FALSE and UNKNOWN, and what would have to change.

Two readers. Those who may read the rules get an Explanation. The requester gets only advice,
and only from rules whose author wrote `explain: requester`: thresholds and principals of other
rules stay secret (a denial must not be an oracle).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from gateway.domain.access import Decision
from gateway.policy.conditions import Both, Has, Node, Not, Truth
from gateway.policy.rules import Rule
from gateway.policy.schema import PURPOSE
from gateway.policy.trial import RequestFacts, Trial

_WORDS = {True: "TRUE", False: "FALSE", None: "UNKNOWN"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One part of a rule's condition, judged."""

    text: str
    truth: str  # TRUE | FALSE | UNKNOWN
    parts: tuple[Branch, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One rule that named this subject, action and resource."""

    rule: str
    tenant: str  # who wrote it
    kind: str
    truth: str
    counts: bool
    place: str  # `file:line`
    conditions: tuple[Branch, ...]
    changes: tuple[str, ...]  # what would have to change for it to be TRUE


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a request is answered as it is."""

    effect: str
    reasons: tuple[str, ...]  # codes
    candidates: tuple[Candidate, ...]
    nearest: str | None  # of what is denied, the allow rule that fails by the fewest parts, or none
    changes: tuple[str, ...]  # for the nearest; denies that count stand among the candidates

    def to_dict(self) -> dict[str, Any]:
        """JSON shape."""
        return asdict(self)


def explain_trial(trial: Trial, decision: Decision) -> Explanation:
    """Judge every candidate without Casbin's early stop and show all of it."""
    candidates = tuple(_candidate(trial, rule) for rule in trial.candidates())
    allows = [c for c in candidates if c.kind == "allow"]
    nearest = min(allows, key=lambda c: (0 if c.counts else len(c.changes), c.rule), default=None)
    shown = None if decision.is_allowed else nearest
    return Explanation(
        effect=decision.effect.value,
        reasons=tuple(reason.code for reason in decision.reasons),
        candidates=candidates,
        nearest=shown.rule if shown else None,
        changes=shown.changes if shown and not shown.counts else (),
    )


def advise(trial: Trial) -> tuple[str | None, bool]:
    """(advice for the requester or None, whether the purpose alone is wrong)."""
    denies = trial.rules("deny")
    if denies:
        texts = [rule.description or _negated(rule) for rule in denies if rule.explain]
        return ("; ".join(texts) or None), False
    open_rules = [r for r in trial.candidates() if r.kind == "allow" and r.explain]
    changes = sorted((_changes(trial, rule) for rule in open_rules), key=lambda c: (len(c), c))
    if not changes or not changes[0]:
        return None, False
    wrong_purpose = len(changes[0]) == 1 and changes[0][0].startswith("purpose ")
    return " and ".join(changes[0]), wrong_purpose


def _candidate(trial: Trial, rule: Rule) -> Candidate:
    return Candidate(
        rule=rule.id,
        tenant=rule.tenant,
        kind=rule.kind,
        truth=_WORDS[trial.truth(rule)],
        counts=trial.counts(rule),
        place=f"{rule.place.file}:{rule.place.line}",
        conditions=tuple(_branches(trial, rule)),
        changes=tuple(_changes(trial, rule)),
    )


def _branches(trial: Trial, rule: Rule) -> list[Branch]:
    found = []
    if rule.expires_at is not None:
        until = datetime.fromtimestamp(rule.expires_at, UTC).isoformat()
        found.append(Branch(text=f"before {until}", truth=_WORDS[trial.is_in_force(rule)]))
    if rule.splits:
        text = f"split in ({', '.join(rule.splits)})"
        found.append(Branch(text=text, truth=_WORDS[trial.split_fits(rule)]))
    if rule.purposes:
        text = f"purpose within ({', '.join(rule.purposes)})"
        found.append(Branch(text=text, truth=_WORDS[trial.purpose_fits(rule)]))
    if rule.when is not None:
        found.append(_branch(rule.when, trial.facts))
    return found


def _branch(node: Node, facts: RequestFacts) -> Branch:
    return Branch(
        text=node.text(),
        truth=_WORDS[_safely(node, facts)],
        parts=tuple(_branch(part, facts) for part in node.parts()),
    )


def _safely(node: Node, facts: RequestFacts) -> Truth:
    try:
        return node.judge(facts)
    except Exception:  # noqa: BLE001 - as in Trial.truth
        return None


def _changes(trial: Trial, rule: Rule) -> list[str]:
    """Sentences; [] when the rule is TRUE already."""
    found = []
    if not trial.is_in_force(rule):
        found.append("the rule must be renewed, it has expired")
    if trial.purpose_fits(rule) is not True:
        found.append(f"{PURPOSE} must be within {_or(rule.purposes)}")
    if not trial.split_fits(rule):
        found.append(f"split must be {_or(rule.splits)}")
    return found + (_needed(rule.when, trial.facts) if rule.when else [])


def _needed(node: Node, facts: RequestFacts) -> list[str]:
    """The fewest leaves that would have to be otherwise for `node` to be TRUE."""
    if _safely(node, facts) is True:
        return []
    if isinstance(node, Both):
        lists = [_needed(part, facts) for part in node.parts()]
        if node.word == "or":  # a TRUE part behind an UNKNOWN one does not help
            return min(filter(None, lists), key=len)
        return [item for one in lists for item in one]
    if isinstance(node, Not):
        return [f"`{node.member.text()}` must not hold"]
    if isinstance(node, Has):
        return [f"`{node.name}` must be known"]
    return [f"`{node.text()}` must hold"]


def _negated(rule: Rule) -> str:
    return f"`{rule.when.text()}` must not hold" if rule.when else "a rule forbids this action"


def _or(words: tuple[str, ...]) -> str:
    return " or ".join(f"`{word}`" for word in words)
