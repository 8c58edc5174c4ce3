"""What was made from another's data keeps to the owner's terms when the origin is erased."""

from __future__ import annotations

import asyncio

import pytest

from gateway.services import grants
from gateway.services.house import House
from tests.services.simulator import add_version
from tests.services.test_derivation import STARTUP, ask, deny, erase, made, release, tags, world

__all__ = ["world"]


@pytest.mark.parametrize("scope", ["dataset:clinic/icu", "tenant:clinic", "tag:health"])
@pytest.mark.parametrize("version", [None, 1])
def test_a_denial_of_the_origin_holds_on_after_the_origin_was_erased(
    world: House, scope: str, version: int | None
) -> None:
    deny(world, scope)
    made(world, "clinic/icu", ["age", "diagnosis"], version=2)
    erase(world, "clinic/icu", version)
    assert not ask(world, "startup/risk").is_allowed


def test_an_origin_keeps_its_tags_when_it_was_erased_and_is_restricted(world: House) -> None:
    erase(world, "clinic/icu")
    assert tags(world, "startup/risk") == {
        "age": ("open", "pii.age", "restricted"),
        "score": ("health", "open", "pii.age", "restricted"),
    }


def test_an_erased_column_of_the_origin_still_says_what_its_copy_is(world: House) -> None:
    erase(world, "clinic/icu", columns=[1])
    assert tags(world, "startup/risk") == {
        "age": ("open", "pii.age"),
        "score": ("health", "open", "pii.age"),
    }
    erase(world, "clinic/icu", columns=[2])
    assert tags(world, "startup/risk")["score"] == ("health", "open", "pii.age")


@pytest.mark.parametrize("version", [None, 1])
def test_nobody_sheds_an_origin_by_erasing_what_stood_between(
    world: House, version: int | None
) -> None:
    made(world, "startup/third", ["age"], "startup/risk@1")
    if version:
        made(world, "startup/risk", ["age", "score"], version=2)
    deny(world, "dataset:clinic/icu")
    erase(world, "startup/risk", version)
    assert "pii.age" in tags(world, "startup/third")["age"]
    assert not ask(world, "startup/third").is_allowed


def test_a_release_outlives_the_origin(world: House) -> None:
    deny(world, "dataset:clinic/icu")
    release(world, "clinic/icu", "startup/risk")
    erase(world, "clinic/icu")
    assert tags(world, "startup/risk") == {"age": ("open",), "score": ("open",)}
    add_version(world, "clinic", "icu", ["age"], version=2)  # another dataset of that name
    assert ask(world, "startup/risk").is_allowed


def test_an_owner_is_not_shown_the_rules_of_whose_data_he_derived_from(world: House) -> None:
    deny(world, "dataset:clinic/icu", "subject.id == 'lab/ml'")
    denied = ask(world, "startup/risk")
    found = asyncio.run(grants.explain(world, STARTUP, denied.id))
    assert {candidate.rule for candidate in found.candidates} == {"startup.all"}
    assert any("made from" in sentence for sentence in found.sentences)


def test_a_decision_about_data_that_was_erased_is_told_and_not_judged_again(world: House) -> None:
    decision = ask(world, "startup/risk")
    erase(world, "startup/risk")
    found = asyncio.run(grants.explain(world, STARTUP, decision.id))
    assert found.decision.effect == "allow"
    assert found.candidates == ()
    assert any("erased since" in sentence for sentence in found.sentences)
