"""The key file of an encrypted copy says what the format page says, or nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.client.export import file_name_of
from gateway.client.export_keys import key_file
from gateway.errors import IntegrityError
from tests.vectors.make_export_keys import HERE, LEAVES, name, released


def test_the_vector_is_what_is_written() -> None:
    written = json.loads((HERE / "ok-nested.json").read_text("utf-8"))
    assert key_file(released(), LEAVES) == written
    (file,) = written["files"]
    assert file["column_keys"]["f3.list.element"] == name("3.0")
    assert {file["footer_key"], *file["column_keys"].values()} == set(written["keys"])


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {**released().keys, name("1"): "AAAA"},
        {**released().keys, name("footer"): "not base64"},
        {k: v for k, v in released().keys.items() if k != name("3.0")},
    ],
)
def test_keys_that_are_none_make_no_key_file(keys: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError):
        key_file(released(keys=keys), LEAVES)


def test_a_leaf_that_the_file_does_not_have_makes_no_key_file() -> None:
    with pytest.raises(IntegrityError):
        key_file(released(), {"1": "f1"})


@pytest.mark.parametrize("shard", ["", "../x", "a/b", "x.y", "a\\b", "é"])
def test_a_server_cannot_name_a_place_outside_the_copy(shard: str) -> None:
    with pytest.raises(IntegrityError):
        file_name_of(shard)
