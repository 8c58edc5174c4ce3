"""A replay leaves out what no changed rule could meet; its answer is that of judging everything."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.access import AccessRequest
from gateway.policy.decision_cache import DecisionCache
from gateway.policy.judge import Judge
from gateway.policy.replay import Recorded, replay

from .scene import ICU, NOW, request
from .test_properties import CHECK, REQUESTS, RULES, read


def test_a_replay_tells_what_judging_every_request_afresh_tells() -> None:
    seen: Counter[bool] = Counter()
    compare(seen)
    assert seen[True]


@CHECK
@given(rules=RULES, more=RULES, asked=st.lists(REQUESTS, min_size=1, max_size=6))
def compare(
    seen: Counter[bool],
    rules: list[dict[str, Any]],
    more: list[dict[str, Any]],
    asked: list[dict[str, Any]],
) -> None:
    before, after = read(own(rules)), read(own([*rules[1:], *more]))
    recorded = [Recorded(request=from_the_clinic(one), resource=ICU) for one in [*asked, *asked]]
    short = replay(before, after, recorded, now=NOW)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Judge, "meets", lambda *_: True)
        patched.setattr(DecisionCache, "find", lambda *_: None)
        whole = replay(before, after, recorded, now=NOW)
    assert short == whole
    assert short.judged == len(recorded)
    seen[bool(short.changes)] += 1


def own(rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For the owner's own people, whose changes a replay tells one by one."""
    return [
        {**one, "principals": [who.replace("startup/", "clinic/") for who in one["principals"]]}
        for one in rules
    ]


def from_the_clinic(asked: dict[str, Any]) -> AccessRequest:
    subject = replace(asked["subject"], id="clinic/ml", tenant="clinic")
    return request(**{**asked, "subject": subject})
