"""Bad input: whatever stands in a policy file, a refusal with its place and advice comes out."""

from __future__ import annotations

import pytest

from gateway.errors import PolicyError
from gateway.policy.bundle import PolicyBundle

from .hostile import BASE, HEAD, HOSTILE


def test_the_rule_that_the_files_below_are_made_from_is_read() -> None:
    assert len(PolicyBundle.read({"a.yaml": HEAD + BASE}, "clinic").rules) == 1


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_file_is_refused_at_its_place_with_advice(what: str) -> None:
    text, line, column = HOSTILE[what]
    with pytest.raises(PolicyError) as caught:
        PolicyBundle.read({"a.yaml": text}, "clinic")
    assert (caught.value.facts["line"], caught.value.facts["column"]) == (line, column)
    assert caught.value.message.startswith(f"a.yaml:{line}:{column}: ")
    assert len(caught.value.message) < 400
    assert caught.value.advice


@pytest.mark.parametrize("what", HOSTILE)
def test_one_hostile_file_refuses_the_whole_bundle(what: str) -> None:
    with pytest.raises(PolicyError):
        PolicyBundle.read({"a.yaml": HEAD + BASE, "b.yaml": HOSTILE[what][0]}, "clinic")
