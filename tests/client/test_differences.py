"""Two descriptions compared, also by somebody who is told little."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.client.differences import differences, shard_counts
from gateway.errors import IntegrityError


def shown(*columns: tuple[str, str, int | None], **changes: Any) -> dict[str, Any]:
    detail = {
        "dataset": "clinic/icu",
        "version": 1,
        "columns": [
            {"name": name, "type": kind, "field_id": field, "tags": ["public"]}
            for name, kind, field in columns
        ],
        "rows": 10,
        "splits": [{"name": "all", "rows": 10}],
        "card": {},
    }
    return {**detail, **changes}


def test_a_column_that_came_back_under_its_name_is_told_as_replaced() -> None:
    before, after = shown(("age", "int64", 1)), shown(("age", "int64", 3), version=3)
    assert differences(before, after, None)["columns"]["replaced"] == ["age"]
    elsewhere = {**after, "dataset": "clinic/other"}
    assert differences(before, elsewhere, None)["columns"]["replaced"] == []


def test_a_recipient_compares_what_he_is_told() -> None:
    hidden = {"rows": None, "splits": [{"name": "all", "rows": None}]}
    before = shown(("age", "int64", None), **hidden)
    after = shown(("age", "double", None), **hidden, version=2)
    found = differences(before, after, None)
    assert found["columns"]["retyped"] == ["age: int64 -> double"]
    assert (found["shards"], found["splits"], found["rows"]["after"]) == (None, {}, None)


def test_cards_and_splits_are_told_by_name() -> None:
    before = shown(card={"title": "a", "gone": 1}, splits=[{"name": "old", "rows": 10}])
    found = differences(before, shown(card={"title": "b"}), {"shared": 1, "added": 0, "removed": 0})
    assert found["card"] == {
        "title": {"before": "a", "after": "b"},
        "gone": {"before": 1, "after": None},
    }
    assert set(found["splits"]) == {"old", "all"}


def test_what_is_no_manifest_is_refused() -> None:
    with pytest.raises(IntegrityError):
        shard_counts({"payload": "e30="}, {})
