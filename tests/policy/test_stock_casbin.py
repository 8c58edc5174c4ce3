"""Contract: our subclass decides as the stock enforcer does, on every model and policy of others.

Needs the examples of pycasbin (GATEWAY_CORPORA); models with `eval()` are left out, because
we never use it. If a new Casbin changes the private hook, this is where it shows.
"""

from __future__ import annotations

import os
import random
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import casbin
import pytest

from gateway.policy.enforcer import CompiledEnforcer

ROOT = Path(__file__).resolve().parents[2]
CORPORA = Path(os.environ.get("GATEWAY_CORPORA") or ROOT.parent / "shared" / "corpora")
EXAMPLES = CORPORA / "casbin-examples" / "examples"
MODELS = [m for m in sorted(EXAMPLES.rglob("*.conf")) if "eval(" not in m.read_text("utf-8")]
POLICIES = [None, *sorted(EXAMPLES.rglob("*.csv"))]
REQUESTS = 12  # per model and policy
HERE = pytest.mark.skipif(not MODELS, reason="the corpora are not here (GATEWAY_CORPORA)")
REFUSED = "refused"


@HERE
def test_the_corpus_is_large_enough_to_mean_something() -> None:
    assert len(MODELS) >= 30
    assert len(POLICIES) >= 35


@HERE
@pytest.mark.parametrize("model", MODELS, ids=lambda path: path.stem)
def test_our_subclass_decides_as_the_stock_enforcer(model: Path) -> None:
    """Over every policy: those not written for the model are refused, or match, alike."""
    chance = random.Random(model.name)
    answers = []
    for policy in POLICIES:
        stock, ours = (build(kind, model, policy) for kind in (casbin.Enforcer, CompiledEnforcer))
        assert (stock is None) is (ours is None), policy
        for request in requests(stock, chance) if stock else ():
            answers.append(outcome(stock, request))
            assert outcome(ours, request) == answers[-1], (policy, request)
    assert model.parent.name == "error" or [a for a in answers if a != REFUSED]


@HERE
def test_most_models_allow_and_deny_something() -> None:
    both = 0
    for model in MODELS:
        chance, seen = random.Random(1), set()
        for policy in POLICIES:
            ours = build(CompiledEnforcer, model, policy)
            found = [outcome(ours, one) for one in requests(ours, chance)] if ours else []
            seen |= {one[0] for one in found if one != REFUSED}
        both += seen == {True, False}
    assert both >= len(MODELS) * 2 // 3


def build(kind: type[casbin.Enforcer], model: Path, policy: Path | None) -> casbin.Enforcer | None:
    """None when the enforcer refuses to load it; some examples are meant to fail."""
    try:
        made = kind(str(model), *([] if policy is None else [str(policy)]))
    except Exception:  # noqa: BLE001 - whatever it is, it is no enforcer
        return None
    made.add_function("keyMatchCustom", lambda one, other: one.startswith(other[:5]))
    return made


def requests(enforcer: casbin.Enforcer, chance: random.Random) -> list[tuple[Any, ...]]:
    """Of the words of the policy, mostly one row's, so that something matches."""
    size = len(enforcer.model["r"]["r"].tokens)
    rows = [row for one in enforcer.model["p"].values() for row in one.policy]
    links = [row for one in (enforcer.model["g"] or {}).values() for row in one.policy]
    words = sorted(
        {word for row in (*rows, *links) for word in row} | {"nobody", "", "/a/b", "192.168.2.9"}
    )
    read = re.findall(r"r_\w+\.(\w+)", enforcer.model["m"]["m"].value)

    def word(row: list[str], at: int) -> Any:
        text = row[at] if at < len(row) and chance.random() < 0.7 else chance.choice(words)
        if read and chance.random() < 0.5:
            return SimpleNamespace(**dict.fromkeys(read, "alice"))
        return chance.choice([text, "alice"]) if read else text

    near = [chance.choice(rows) if rows else [] for _ in range(REQUESTS)]
    return [tuple(word(row, at) for at in range(size)) for row in near]


def outcome(enforcer: casbin.Enforcer, request: tuple[Any, ...]) -> Any:
    try:
        return enforcer.enforce_ex(*request)
    except Exception:  # noqa: BLE001 - which one is the business of who evaluates
        return REFUSED
