"""Contract: our subclass decides as the stock enforcer does, on models and policies of others.

Needs the examples of pycasbin (GATEWAY_CORPORA); models with `eval()` are left out, because
we never use it. If a new Casbin changes the private hook, this is where it shows.
"""

from __future__ import annotations

import os
import re
from itertools import product
from pathlib import Path

import casbin
import pytest

from gateway.policy.enforcer import CompiledEnforcer

ROOT = Path(__file__).resolve().parents[2]
CORPORA = Path(os.environ.get("GATEWAY_CORPORA") or ROOT.parent / "shared" / "corpora")
EXAMPLES = CORPORA / "casbin-examples" / "examples"
PER_MODEL = 60


def pairs() -> list[tuple[Path, Path]]:
    """Models with the policy files named after them, without `eval()`."""
    found = []
    for model in sorted(EXAMPLES.rglob("*_model*.conf")):
        if "eval(" in model.read_text("utf-8"):
            continue
        stem = re.sub(r"_model.*", "", model.stem)
        found += [(model, policy) for policy in sorted(model.parent.glob(f"{stem}_policy*.csv"))]
    return found


PAIRS = pairs()


def words(model: casbin.Enforcer, position: int) -> list[str]:
    rows = [row for one in model.model["p"].values() for row in one.policy]
    links = [row for one in (model.model["g"] or {}).values() for row in one.policy]
    values = {row[position] for row in rows if position < len(row)}
    if position == 0:
        values |= {row[0] for row in links}
    return [*sorted(values)[:5], "nobody"]


@pytest.mark.skipif(not PAIRS, reason="the corpora are not here (GATEWAY_CORPORA)")
def test_the_corpus_is_large_enough_to_mean_something() -> None:
    assert len(PAIRS) >= 15


@pytest.mark.skipif(not PAIRS, reason="the corpora are not here (GATEWAY_CORPORA)")
@pytest.mark.parametrize(("model", "policy"), PAIRS, ids=lambda path: path.stem)
def test_our_subclass_decides_as_the_stock_enforcer(model: Path, policy: Path) -> None:
    try:
        stock = casbin.Enforcer(str(model), str(policy))
    except Exception as cause:  # noqa: BLE001 - some examples are meant to fail
        pytest.skip(f"the stock enforcer refuses it: {type(cause).__name__}")
    ours = CompiledEnforcer(str(model), str(policy))
    size = len(stock.model["r"]["r"].tokens)
    asked = list(product(*(words(stock, position) for position in range(size))))
    step = max(1, len(asked) // PER_MODEL)
    for request in asked[::step]:
        assert outcome(ours, request) == outcome(stock, request), request


def outcome(enforcer: casbin.Enforcer, request: tuple[str, ...]) -> object:
    try:
        return enforcer.enforce_ex(*request)
    except Exception as cause:  # noqa: BLE001 - the same refusal is the same answer
        return type(cause).__name__
