"""Never looser than Cedar: what an independent engine denies, our judge denies too."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from gateway.domain.access import AccessRequest
from gateway.policy.bundle import PolicyBundle
from gateway.policy.judge import Judge
from gateway.policy.rules import Rule
from gateway.policy.trial import RequestFacts, Trial

from . import cedar
from .scene import ICU, NOW, TRAINER, ask, request, text_of

cedarpy = pytest.importorskip("cedarpy", reason="the independent engine is not installed")
LEAVES = (
    "true", "false",
    "subject.type == 'job'", "subject.clearance >= 2", "subject.clearance != 3",
    "subject.clearance < resource.version", "subject.trained == true",
    "subject.region in ('a', 'b')", "subject.region not in ('b', 'c')", "subject.country == 'de'",
    "has context.mfa", "has subject.clearance", "context.mfa == true",
    "purpose within 'research'", "purpose in ('audit', 'research')",
    "context.time < timestamp'2027-06-01T00:00:00Z'",
)  # fmt: skip
WHO = ("startup/role:trainer", "startup/user:ml", "startup/*", "evil/*", "startup/role:other")
SCOPES = ("dataset:clinic/icu", "dataset:clinic/x", "tag:pii", "tag:health.special",
          "tag:public", "tenant:clinic")  # fmt: skip
PURPOSES = ("research", "health-research", "audit", "marketing", "disease-research")
VALUES: dict[str, tuple[Any, ...]] = {
    "clearance": (1, 2, 3, "3", True, 2.5),
    "region": ("a", "b", " a", "\u00e4"),
    "trained": (True, False, 1),
    "country": ("de", "DE"),
}


def condition(chance: random.Random, depth: int = 0) -> str:
    if depth > 2 or chance.random() < 0.4:
        return chance.choice(LEAVES)
    if chance.random() < 0.25:
        return f"not ({condition(chance, depth + 1)})"
    word = chance.choice((" and ", " or "))
    parts = [condition(chance, depth + 1) for _ in range(chance.randint(2, 3))]
    return f"({word.join(parts)})"


def one_rule(chance: random.Random, number: int) -> dict[str, Any]:
    kind = chance.choice(("allow", "allow", "deny"))
    found: dict[str, Any] = {
        "id": f"clinic.r{number}",
        "kind": kind,
        "principals": chance.sample(WHO, chance.randint(1, 2)),
        "scope": chance.choice(SCOPES),
        "actions": chance.sample(("stream", "preview"), chance.randint(1, 2)),
        "accepts": ["recipient"],
    }
    if kind == "allow":
        found["columns"] = [column.name for column in ICU.columns]
    if chance.random() < 0.7:
        found["when"] = condition(chance)
    if chance.random() < 0.4:
        found["purpose"] = chance.sample(PURPOSES, chance.randint(1, 2))
    if chance.random() < 0.2:
        found["splits"] = chance.sample(("train", "test"), 1)
    if chance.random() < 0.2:
        found["expires"] = chance.choice(("2026-01-01", "2030-01-01"))
    return found


def one_request(chance: random.Random) -> dict[str, Any]:
    attributes = {k: chance.choice(v) for k, v in VALUES.items() if chance.random() < 0.6}
    return {
        "subject": replace(TRAINER, type=chance.choice(("job", "person")), attributes=attributes),
        "action": chance.choice(("stream", "preview", "export")),
        "purpose": chance.choice(PURPOSES),
        "split": chance.choice((None, "train", "test")),
        "context": {"mfa": chance.choice((True, False, "yes"))} if chance.random() < 0.5 else {},
    }


def is_sure(judged: Judge, rules: tuple[Rule, ...], wanted: AccessRequest) -> bool:
    """Whether no rule is UNKNOWN."""
    facts = RequestFacts(judged._schema, wanted, ICU, NOW)
    trial = Trial(wanted, facts, {}, NOW)
    return all(trial.truth(rule) is not None for rule in rules)


def test_what_cedar_denies_is_denied(pytestconfig: pytest.Config) -> None:
    sets = 10_000 if pytestconfig.getoption("--long") else 100
    chance = random.Random(20_261_125)
    seen = dict.fromkeys(("both allow", "both deny", "stricter"), 0)
    for _ in range(sets):
        rules = [one_rule(chance, n) for n in range(chance.randint(1, 6))]
        bundle = PolicyBundle.read({"r.yaml": text_of(*rules)}, "clinic")
        judged, theirs = (
            Judge.build([bundle]),
            cedarpy.PolicySet.from_str(cedar.policies(bundle.rules)),
        )
        asked = [one_request(chance) for _ in range(20)]
        wanted = [request(**fields) for fields in asked]
        questions = [cedar.question(one, ICU, NOW) for one in wanted]
        answers = cedarpy.is_authorized_batch(questions, theirs, [])
        for fields, one, answer in zip(asked, wanted, answers, strict=True):
            ours = ask(judged, **fields)
            if ours.is_allowed:
                assert answer.allowed, (rules, fields)
                seen["both allow"] += 1
            elif not answer.allowed:
                seen["both deny"] += 1
            else:  # Cedar skipped a deny that could not be judged, and nothing else
                assert not is_sure(judged, bundle.rules, one), (rules, fields, ours.reasons)
                seen["stricter"] += 1
    assert min(seen.values()) > 10, seen
