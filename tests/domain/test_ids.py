from __future__ import annotations

import os

import pytest

from gateway.domain.ids import PREFIXES, is_id, new_id
from gateway.errors import InvalidInput


def test_an_unknown_prefix_makes_no_id() -> None:
    with pytest.raises(InvalidInput):
        new_id("ticket_", bytes(16))


@pytest.mark.parametrize("size", [0, 15, 17])
def test_an_id_needs_exactly_sixteen_bytes(size: int) -> None:
    with pytest.raises(InvalidInput):
        new_id("dec_", bytes(size))


@pytest.mark.parametrize("text", ["dec_", "dec_" + "a" * 25, "dec_" + "A" * 26, "grant_x", None])
def test_what_is_no_id_is_not_taken_for_one(text: object) -> None:
    assert not is_id(text, "dec_")
    assert not is_id(f"{new_id('dec_', bytes(16))}\n", "dec_")


@pytest.mark.parametrize("prefix", PREFIXES)
def test_an_id_is_its_prefix_and_26_characters(prefix: str) -> None:
    made = new_id(prefix, os.urandom(16))
    assert len(made) == len(prefix) + 26
    assert is_id(made, prefix)
    assert new_id("dec_", bytes(16)) == "dec_" + "a" * 26
