"""Two bundles are compared by text and by asking both."""

from __future__ import annotations

import time
from typing import Any

from gateway.policy import diff as module
from gateway.policy.diff import diff
from gateway.wire.policy import PolicyDiff

from .scene import ICU, NOW, bundle, deny, restrict, rule


def between(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> PolicyDiff:
    found = diff(bundle(*before), bundle(*after), now=NOW, clock=time.monotonic, resources=[ICU])
    assert found.exhaustive, found.tried
    return found


def kinds(found: PolicyDiff) -> set[tuple[str, str, str]]:
    return {(effect.kind, effect.subject, effect.action) for effect in found.effects}


def test_the_same_rules_in_other_words_change_nothing() -> None:
    found = between([rule(when="subject.type == 'job'")], [rule(when="not subject.type != 'job'")])
    assert [change.change for change in found.rules] == ["changed"]
    assert found.effects == ()
    assert found.tried > 0
    assert between([rule()], [rule()]) == PolicyDiff(rules=(), effects=(), tried=0, exhaustive=True)


def test_who_newly_may_and_no_longer_may_is_found() -> None:
    extra = rule(id="clinic.icu.more", principals=["rival/role:x"], actions=["stream", "export"])
    found = between([rule()], [rule(), extra])
    assert kinds(found) == {
        ("newly-allowed", "rival/role:x", "stream"),
        ("newly-allowed", "rival/role:x", "export"),
    }
    assert found.effects[0].after == "columns age, site"
    assert kinds(between([rule(), extra], [rule()])) == {
        ("newly-denied", "rival/role:x", "stream"),
        ("newly-denied", "rival/role:x", "export"),
    }


def test_a_deny_over_somebodys_role_is_found_by_who_has_both_roles() -> None:
    other = rule(principals=["startup/role:intern"], id="clinic.icu.x", actions=["discover"],
                 columns=None)  # fmt: skip
    found = between([rule(), other], [rule(), other, deny(principals=["startup/role:intern"])])
    assert kinds(found) == {("newly-denied", "startup/role:intern", "stream")}


def test_the_one_value_at_which_a_condition_moved_is_found() -> None:
    old, new = (rule(when=f"subject.clearance > {n}", accepts=["recipient"]) for n in (3, 4))
    (effect,) = between([old], [new]).effects
    assert (effect.kind, effect.example["subject.clearance"]) == ("newly-denied", 4)
    (effect,) = between([rule(purpose=["research"])], [rule(purpose=["health-research"])]).effects
    assert effect.purposes == (
        "research", "population-ancestry-research", "methods-research",
    )  # fmt: skip


def test_a_changed_plan_says_what_it_was_and_becomes() -> None:
    (effect,) = between(
        [rule()], [rule(), restrict(tag_masks={"pii.indirect": "x-bucket:10"})]
    ).effects
    assert effect.kind == "plan-changed"
    assert (effect.before, effect.after) == (
        "columns age, site", "columns age (x-bucket:10), site"
    )  # fmt: skip


def test_an_end_in_the_future_is_found() -> None:
    found = between([rule(expires="2030-01-01")], [rule(expires="2029-01-01")])
    assert {effect.kind for effect in found.effects} == {"newly-denied", "plan-changed"}
    (changed,) = [effect for effect in found.effects if effect.kind == "plan-changed"]
    assert changed.before == "columns age, site; until 2030-01-02T00:00:00Z"


def test_datasets_that_are_not_at_hand_are_imagined() -> None:
    masked = rule(masks={"age": "x-bucket:5"}, where="site = 'a' and income > 1.5")
    found = diff(bundle(rule()), bundle(masked), now=NOW, clock=time.monotonic)
    (effect,) = found.effects
    assert effect.dataset == "clinic/icu"
    assert "age (x-bucket:5)" in effect.after


def test_too_much_to_try_ends_in_time_and_says_so() -> None:
    whens = (
        " and ".join(f"subject.{name} != 'x'" for name in ("region", "country", "project"))
        + " and subject.clearance > 1 and context.ticket != 'y' and subject.trained == true"
    )
    seconds = iter(range(1_000_000))
    wide = rule(when=whens, accepts=["recipient", "requester"], actions=["stream", "export"],
                splits=["train"])  # fmt: skip
    found = diff(
        bundle(), bundle(wide), now=NOW, clock=lambda: next(seconds) / 100, resources=[ICU]
    )
    assert not found.exhaustive
    assert 0 < found.tried <= module.SECONDS_MAX * 100
    assert kinds(found) == {
        ("newly-allowed", "startup/role:trainer", "stream"),
        ("newly-allowed", "startup/role:trainer", "export"),
    }
