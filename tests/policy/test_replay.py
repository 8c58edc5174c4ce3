"""A replay leaves out what no changed rule could meet; its answer is that of judging everything."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.decision_cache import DecisionCache
from gateway.policy.judge import Judge
from gateway.policy.replay import Recorded, replay

from .scene import ICU, NOW, request
from .test_properties import CHECK, REQUESTS, RULES, read


@CHECK
@given(RULES, RULES, st.lists(REQUESTS, min_size=1, max_size=6))
def test_a_replay_tells_what_judging_every_request_afresh_tells(
    rules: list[dict[str, Any]], more: list[dict[str, Any]], asked: list[dict[str, Any]]
) -> None:
    before, after = read(rules), read([*rules[1:], *more])
    recorded = [Recorded(request=request(**one), resource=ICU) for one in [*asked, *asked]]
    short = replay(before, after, recorded, now=NOW)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Judge, "meets", lambda *_: True)
        patched.setattr(DecisionCache, "find", lambda *_: None)
        whole = replay(before, after, recorded, now=NOW)
    assert short == whole
    assert short.judged == len(recorded)
