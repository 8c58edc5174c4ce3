"""How a stream of a real gateway ends early: by name, with the position, and then nothing more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway.errors import LeaseRevoked, PlanChanged, StreamBroken, StreamStopped
from tests.journeys.home import Home
from tests.journeys.story import DIRECT, HOW, PURPOSE, Story

ASKED: Any = {"purpose": PURPOSE, "columns": DIRECT, "output": "arrow", **HOW}


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    home = Home.make(tmp_path_factory.mktemp("home"))
    home.start()
    story = Story(home)
    for step in ("register", "publish"):
        story.do(step, "a")
    yield story
    home.end()


def revoke(story: Story) -> None:
    story.gateway.grants.revoke(dataset="home/a", reason="the contract ended")


def finish(story: Story) -> None:
    story.gateway.runs.finish("r1")


def change(story: Story) -> None:
    """A mask on what was open."""
    files = dict(story.gateway.policies.show("home").files)
    (name,) = story.ledger.rules[:1]
    (tail,) = [line for line in files[name].splitlines() if "purpose" in line][:1]
    indent = tail[: len(tail) - len(tail.lstrip())]
    masked = files[name].replace(tail, f"{tail}\n{indent}masks: {{x: replace-with-null}}", 1)
    story.gateway.policies.push({**files, name: masked}, tenant="home")


@pytest.mark.parametrize("delivery", ["ring", "http"])
@pytest.mark.parametrize(
    ("end", "expected"),
    [(finish, StreamBroken), (revoke, LeaseRevoked), (change, PlanChanged)],
    ids=["the run is finished", "revoked", "other rules"],
)
def test_an_end_has_its_name_and_the_position_behind_the_last_row(
    story: Story, end: Callable[[Story], None], expected: type[StreamStopped], delivery: str
) -> None:
    before = dict(story.gateway.policies.show("home").files)
    run = {"run": "r1"} if end is finish and delivery == "ring" else {}
    if end is finish and not run:
        pytest.skip("a run is finished once")
    gateway = story.home.client(delivery=delivery, patience_seconds=5)
    with gateway.stream("home/a", **ASKED, **run) as stream:
        rows = next(stream).num_rows
        assert stream.stats["delivery"] == delivery
        end(story)
        got: list[Any] = []
        with pytest.raises(StreamStopped) as stop:
            got.extend(stream)
        rows += sum(batch.num_rows for batch in got)
        with pytest.raises(type(stop.value)):
            next(stream)
    assert isinstance(stop.value, expected), stop.value
    assert stop.value.position.rows == rows < story.source("a").num_rows
    assert stop.value.advice
    story.gateway.policies.push(before, tenant="home")


def test_a_newer_stream_of_the_same_run_and_rank_replaces_the_older_at_once(story: Story) -> None:
    """As when a job is started again while the machine that it left still streams."""
    gateway, whole = story.home.client(patience_seconds=60), story.source("a").num_rows
    asked = {**ASKED, "run": "twice", "shuffle": True, "world": 2}
    with gateway.stream("home/a", **asked, rank=0) as older:
        other = gateway.stream("home/a", **asked, rank=1)
        next(older), next(other)
        with gateway.stream("home/a", **asked, rank=0) as newer:
            rows = sum(batch.num_rows for batch in newer)
            with pytest.raises(StreamBroken, match=r"a newer lease .* replaced this one") as stop:
                list(older)
        assert "rank" in stop.value.advice
        assert stop.value.position.rows < whole
        assert 0 <= 2 * rows - whole <= 1
        list(other)  # of another rank


def test_a_server_that_is_stopped_and_started_again_is_a_pause(story: Story) -> None:
    home = story.home
    with home.client(patience_seconds=90).stream("home/a", **ASKED) as stream:
        batches = [next(stream)]
        home.stop()
        starting = threading.Thread(target=home.start)
        starting.start()
        batches += list(stream)
        starting.join()
    ids = sorted(i for batch in batches for i in batch["id"].to_pylist())
    assert ids == story.source("a")["id"].to_pylist()
