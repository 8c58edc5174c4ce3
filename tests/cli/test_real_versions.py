"""Versions, splits, suspension and metadata of a dataset, as a new owner would try them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from gateway.client import DatasetSuspended, GatewayClient
from gateway.errors import AccessDenied
from tests.cli.test_real_gateway import Typed, client, home, server, typed

__all__ = ["client", "home", "server", "typed"]
ROWS = 200_000
HOW = {"purpose": "research", "batch_size": 1000, "window_blocks": 1, "seed": 7, "shuffle": True}


@pytest.fixture(scope="module")
def numbers(client: GatewayClient, typed: Typed) -> str:
    """A dataset of many small segments that its own trainers may stream."""
    client.datasets.register("home/numbers", pa.table({"n": np.arange(ROWS)}))
    new = ("policy", "new", "home/numbers", "--to", "role:trainer", "--purpose", "research")
    typed(*new, "--columns", "n", "--push")
    return "home/numbers"


def test_a_suspended_dataset_stops_its_streams_and_goes_on_where_they_were(
    numbers: str, client: GatewayClient
) -> None:
    stream = iter(held := client.stream(numbers, **HOW))
    got = [next(stream)["n"] for _ in range(3)]
    said = client.datasets.suspend(numbers, reason="an audit")
    assert said.streams_stopped == 1
    assert said.slowest_ms >= 0
    with pytest.raises(DatasetSuspended, match="suspended by its owner") as stop:
        got.extend(batch["n"] for batch in stream)
    held.close()
    assert 3000 <= stop.value.position.rows < ROWS
    with pytest.raises(AccessDenied, match="suspended by its owner"):
        client.tokens.request(numbers, purpose="research")
    checked = client.access.check(numbers, purpose="research")
    assert [reason["code"] for reason in checked.reasons] == ["dataset-suspended"]
    shown = client.datasets.show(numbers)
    assert shown.suspended
    assert shown.streams_stopped is None  # it is the act that stopped them
    client.datasets.resume(numbers)
    rest = client.stream(numbers, **HOW, position=stop.value.position.to_dict())
    got += [batch["n"] for batch in rest]
    assert np.array_equal(np.sort(np.concatenate(got)), np.arange(ROWS))


def test_a_split_without_rows_is_there_and_empty(client: GatewayClient, typed: Typed) -> None:
    table = pa.table({"n": [1, 2, 3], "who": ["a", "a", "a"]})
    few = {"splits": {"train": 0.5, "validation": 0.3, "test": 0.2}, "split_by": "who"}
    made = client.datasets.register("home/few", table, **few)
    rows = {split["name"]: split["rows"] for split in made.splits}
    assert list(rows) == ["train", "validation", "test"]
    assert sorted(rows.values()) == [0, 0, 3]
    new = ("policy", "new", "home/few", "--to", "role:trainer", "--purpose", "research")
    typed(*new, "--columns", "n,who", "--push")
    for split, count in rows.items():
        batches = list(client.stream("home/few", purpose="research", split=split, batch_size=10))
        assert sum(len(batch["n"]) for batch in batches) == count


def test_two_versions_are_compared(client: GatewayClient, typed: Typed, home: Path) -> None:
    people = {"splits": {"a": 0.5, "b": 0.5}, "split_by": "n"}
    client.datasets.register("home/d", pa.table({"n": list(range(90)), "x": [1] * 90}), **people)
    client.datasets.classify("home/d", {"x": "public"})
    client.datasets.register("home/d", pa.table({"n": list(range(90)), "x": [1] * 90}), append=True)
    appended = client.datasets.diff("home/d@1", "home/d@2")
    assert appended.shards == {"shared": 2, "added": 2, "removed": 0}
    assert appended.rows == {"before": 90, "after": 180}
    assert not any(appended.columns.values())
    (home / "d.csv").write_text("n,x,y\n1,high,2\n")
    conflict = typed("dataset", "register", "home/d", "d.csv", "--splits", "a=1", expect=5)
    assert "x: int64 -> string" in conflict.stderr
    changed = ("dataset", "register", "home/d", "d.csv", "--allow-schema-change")
    said = typed(*changed, "--splits", "a=1")
    assert "+ column y\n~ column x: int64 -> string\n" in said.stdout
    assert "classify" in said.stderr
    assert "rules that name x" in typed("dataset", "show", "home/d").stderr
    assert not typed("dataset", "show", "home/d@1").stderr
    found = client.datasets.diff("home/d@2", "home/d")
    assert found.tags["x"] == {"before": ["public"], "after": ["restricted"]}
    assert found.splits["b"]["after"] is None
    assert found.shards == {"shared": 0, "added": 1, "removed": 4}
    text = typed("dataset", "diff", "home/d@2", "home/d@3").stdout
    assert "~ tags x: public -> restricted" in text
    assert "0 shards shared, 1 shards added, 4 shards removed" in text
    typed("dataset", "diff", "home/d@1", "home/none@7", expect=4)


def test_a_row_filter_that_lets_nothing_pass_gives_no_rows(
    numbers: str, client: GatewayClient, typed: Typed
) -> None:
    new = ("policy", "new", "home/none", "--to", "role:trainer", "--purpose", "research")
    client.datasets.register("home/none", pa.table({"n": [1, 2, 3]}))
    typed(*new, "--columns", "n", "--where", "n > 7", "--push")
    for shuffle in (False, True):
        assert list(client.stream("home/none", purpose="research", shuffle=shuffle)) == []


def test_a_card_belongs_to_the_dataset_and_is_searched(
    numbers: str, typed: Typed, home: Path
) -> None:
    (home / "numbers.toml").write_text('title = "Every Number"\nseen_by = ["a", "b"]\n')
    owner = ("--owner", "home/role:owner", "--contact", "numbers@home.example")
    typed("dataset", "update", numbers, "--card", home / "numbers.toml", *owner)
    assert "Every Number" in typed("dataset", "show", numbers).stdout
    assert numbers in typed("dataset", "list", "--text", "every number").stdout
    assert numbers not in typed("dataset", "list", "--text", "any number").stdout
