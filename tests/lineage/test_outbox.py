"""At least once, in order, whatever the sink does and whoever dies; real processes, real HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.lineage.link import LineageLink
from gateway.lineage.outgoing import BATCH_MIN
from tests.lineage.history import History
from tests.lineage.real_journal import RealJournal
from tests.lineage.receiver import Receiver
from tests.lineage.test_process import CLINIC, caught_up, lineage

ISSUER = "https://gateway.example:8787"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


class World:
    """A journal with runs in it, and a lineage process that tells of them."""

    def __init__(self, place: Path) -> None:
        self.journal = RealJournal(place / "state")
        self.directory = place / "lineage"
        self.history = History()
        self.history.version("clinic/icu")
        self.size = self.journal.append(self.history)
        self.runs = 0

    def run(self, count: int = 1) -> None:
        """So many runs more: each starts, reads, and is finished (two events)."""
        begin = len(self.history.events)
        for _ in range(count):
            self.runs += 1
            run = f"startup:r{self.runs}"
            grant = self.history.decide("startup/ml", "clinic/icu", run=run)
            self.history.read(self.history.lease(grant), [0], 10)
            self.history.finish("startup", run, None)
        self.size = self.journal.append(self.history, begin)

    @property
    def told(self) -> list[tuple[str, str]]:
        """What a sink must be told, in order."""
        return [
            (f"startup/r{number}", state)
            for number in range(1, self.runs + 1)
            for state in ("START", "COMPLETE")
        ]

    @asynccontextmanager
    async def telling(self, *uris: str) -> AsyncIterator[tuple[LineageLink, Any]]:
        given = {"issuer": ISSUER, "sinks": [{"uri": uri, "tenant": None} for uri in uris]}
        async with lineage(self.journal, self.directory, telling=given) as (link, process):
            await caught_up(link, self.size)
            yield link, process


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def said(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(event["job"]["name"], event["eventType"]) for event in events]


def once(events: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return list(dict.fromkeys(events))


async def sink_status(link: LineageLink, place: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = (await link.status())["sinks"][place]
    return found


async def until_told(link: LineageLink, place: int = 0) -> dict[str, Any]:
    for _ in range(400):
        found = await sink_status(link, place)
        if not found["lag_events"]:
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(found)


def test_history_and_what_happens_next_is_told_in_order(world: World, receiver: Receiver) -> None:
    async def story() -> None:
        world.run(BATCH_MIN // 2 + 1)  # more than one batch
        async with world.telling(receiver.url) as (link, _):
            await asyncio.to_thread(receiver.wait, BATCH_MIN + 2)
            world.run()
            await asyncio.to_thread(receiver.wait, BATCH_MIN + 4)
            status = await until_told(link)
            assert (status["refused"], status["error"]) == (0, None)
        async with world.telling(receiver.url) as (link, _):  # a restart tells nothing again
            await until_told(link)
            world.run()
            await asyncio.to_thread(receiver.wait, BATCH_MIN + 6)

    asyncio.run(story())
    assert said(receiver.events) == world.told
    log = receiver.events[-1]["inputs"][0]["inputFacets"]["gateway_access"]["log"]
    assert log["index"] < log["size"] <= world.size + 1


def test_a_sink_that_fails_hangs_and_recovers_misses_nothing_and_holds_nobody_up(
    world: World, receiver: Receiver, tmp_path: Path
) -> None:
    other = tmp_path / "told.jsonl"

    async def story() -> None:
        receiver.status = 503
        world.run(3)
        async with world.telling(receiver.url, other.as_uri()) as (link, _):
            await asyncio.to_thread(receiver.wait_posts, 2)
            assert "503" in ((await sink_status(link))["error"] or "")
            await until_told(link, 1)  # the other sink goes on
            receiver.hangs = True
            await asyncio.to_thread(receiver.wait_posts, receiver.posts + 1)
            world.run()
            await caught_up(link, world.size)  # so does the projection
            answer = await link.ask("who-read", {"dataset": "clinic/icu"}, CLINIC)
            assert answer.rows
            receiver.status, receiver.hangs = 201, False
            await asyncio.to_thread(receiver.wait, 8)
            assert (await until_told(link))["error"] is None

    asyncio.run(story())
    assert once(said(receiver.events)) == world.told
    lines = [json.loads(line) for line in other.read_text().splitlines()]
    assert said(lines) == world.told


def test_what_a_sink_refuses_for_good_is_counted_and_left_out(
    world: World, receiver: Receiver
) -> None:
    async def story() -> None:
        receiver.status = 422
        world.run(2)
        async with world.telling(receiver.url) as (link, _):
            status = await until_told(link)
            assert status["refused"] == 4
            receiver.status = 201
            world.run()
            await asyncio.to_thread(receiver.wait, 2)

    asyncio.run(story())
    assert said(receiver.events) == world.told[4:]


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 20))]
)
def test_kills_at_any_moment_lose_no_event_and_keep_the_order(
    world: World, receiver: Receiver, tmp_path: Path, seed: int
) -> None:
    chance, path = random.Random(seed), tmp_path / "told.jsonl"

    async def story() -> None:
        for _ in range(3):
            world.run(chance.randrange(3, 9))
            async with world.telling(receiver.url, path.as_uri()) as (_, process):
                await asyncio.sleep(chance.random() * 0.4)
                os.kill(process.pid, signal.SIGKILL)
        async with world.telling(receiver.url, path.as_uri()) as (link, _):
            await until_told(link)
            await until_told(link, 1)

    asyncio.run(story())
    assert once(said(receiver.events)) == world.told
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert once(said(lines)) == world.told


def test_a_cursor_that_says_nothing_sensible_tells_all_again(
    world: World, receiver: Receiver
) -> None:
    async def story() -> None:
        world.run()
        for text in (None, '{"next": true, "refused": 0}'):
            if text is not None:
                (cursor,) = world.directory.glob("sink-*.json")
                cursor.write_text(text)
            async with world.telling(receiver.url) as (link, _):
                await until_told(link)

    asyncio.run(story())
    assert said(receiver.events) == world.told * 2
