"""The lineage process as control sees it: over a channel, beside a journal that goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import InvalidInput, LimitExceeded, Unavailable, UnknownName
from gateway.lineage import copies, query
from gateway.lineage.copies import Copies, Copy
from gateway.lineage.link import LineageLink, Side
from gateway.lineage.main import main
from gateway.process.channel import AsyncChannel, Channel, ChannelClosed
from gateway.process.spawn import Confinement, Launch, start
from tests.lineage.real_journal import RealJournal

KEY = b"s" * 32
CLINIC = Side(tenant="clinic")


@asynccontextmanager
async def lineage(
    journal: RealJournal, directory: Path, *, telling: dict[str, Any] | None = None
) -> AsyncIterator[tuple[LineageLink, subprocess.Popen[bytes]]]:
    near, far = socket.socketpair()
    process = start(
        Launch(
            module="gateway.lineage.main",
            confinement=Confinement(sandboxed=False, network=telling is not None),
        ),
        channel=far,
    )
    far.close()
    link = LineageLink()
    try:
        await link.attach(
            await AsyncChannel.over(near),
            journal=journal.directory,
            directory=directory,
            log_key=journal.log_key,
            seal_key=KEY,
            telling=telling,
        )
        yield link, process
        link.detach()
        await asyncio.to_thread(process.wait, 20)
    finally:
        link.detach()
        process.kill()
        process.wait()


async def caught_up(link: LineageLink, size: int) -> None:
    for _ in range(400):
        if (await link.status())["projected"] >= size:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(await link.status())


@pytest.fixture
def journal(tmp_path: Path) -> RealJournal:
    return RealJournal(tmp_path / "state")


def test_refusals_cross_the_channel_with_their_type(journal: RealJournal, tmp_path: Path) -> None:
    async def story() -> None:
        with pytest.raises(Unavailable):
            await LineageLink().ask("who-read", {}, CLINIC)
        async with lineage(journal, tmp_path / "lineage") as (link, _):
            with pytest.raises(UnknownName, match="no question"):
                await link.ask("who-wrote", {}, CLINIC)
            with pytest.raises(InvalidInput, match="not a parameter"):
                await link.ask("who-read", {"x": 1}, CLINIC)
            with pytest.raises(UnknownName, match="there is no dataset"):
                await link.trace("clinic/icu", CLINIC)
            with pytest.raises(InvalidInput, match="not a table function"):
                await link.query("SELECT * FROM read_csv('/etc/passwd')", CLINIC)
            with pytest.raises(InvalidInput, match="no request"):
                await link._call("destroy")
            refused = await asyncio.gather(
                *(link.query("SELECT 1", CLINIC) for _ in range(6)), return_exceptions=True
            )
            assert any(isinstance(one, LimitExceeded) for one in refused)

    asyncio.run(story())


def test_it_answers_questions_queries_and_traces(journal: RealJournal, tmp_path: Path) -> None:
    async def story() -> None:
        size = journal.tell_story()
        async with lineage(journal, tmp_path / "lineage") as (link, _):
            answer = await link.ask("who-read", {}, Side(tenant="clinic", at_least=size))
            await caught_up(link, size)
            answer = await link.ask("who-read", {"dataset": "clinic/icu@1"}, CLINIC)
            rows = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
            assert [(r["actor_tenant"], r["rows"]) for r in rows] == [("startup", 300)]
            assert answer.as_of_index >= size
            table = await link.query("SELECT sum(rows) AS n FROM read", CLINIC)
            assert (table.columns, table.rows) == (("n",), ((350,),))
            arrow = await link.query("SELECT 1 AS a", CLINIC, form="arrow")
            assert arrow.arrow
            graph = await link.trace("clinic/icu", CLINIC)
            assert {node["kind"] for node in graph["nodes"]} == {
                "dataset", "version", "grant", "run", "model",
            }  # fmt: skip
            assert (await link.trace("clinic/icu", Side(tenant="startup")))["edges"]
            status = await link.status()
            assert status["fault"] is None
            more = journal.tell_story()
            answer = await link.ask("who-read", {}, Side(tenant="clinic", at_least=more))
            assert answer.as_of_index >= more

    asyncio.run(story())


def test_a_killed_process_catches_up_with_nothing_double(
    journal: RealJournal, tmp_path: Path
) -> None:
    async def story() -> None:
        size = journal.tell_story()
        for turn in range(3):
            async with lineage(journal, tmp_path / "lineage") as (link, process):
                for _ in range(turn):
                    size = journal.tell_story()
                await link.ask("who-read", {}, Side(tenant="clinic", at_least=size))
                os.kill(process.pid, signal.SIGKILL)
        async with lineage(journal, tmp_path / "lineage") as (link, _):
            await caught_up(link, size)
            table = await link.query("SELECT sum(rows) AS n, count(*) AS times FROM read", CLINIC)
            assert table.rows == ((350 * journal.stories, 3 * journal.stories),)

    asyncio.run(story())


def test_the_end_of_the_channel_is_the_end_of_the_process(
    journal: RealJournal, tmp_path: Path
) -> None:
    async def story() -> None:
        async with lineage(journal, tmp_path / "lineage") as (link, process):
            await link.status()
        assert process.returncode == 0
        with pytest.raises(Unavailable):
            await link.status()

    asyncio.run(story())


def test_a_damaged_journal_is_not_answered_from(journal: RealJournal, tmp_path: Path) -> None:
    async def story() -> None:
        journal.tell_story()
        journal.flip_a_byte()
        async with lineage(journal, tmp_path / "lineage") as (link, _):
            for _ in range(100):
                fault = (await link.status())["fault"]
                if fault:
                    break
                await asyncio.sleep(0.05)
            assert "event" in str(fault)
            with pytest.raises(Unavailable, match="does not follow"):
                await link.ask("who-read", {}, CLINIC)

    asyncio.run(story())


def test_sql_that_needed_many_rows_shares_a_copy_and_sees_what_came_later(
    journal: RealJournal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, used = threading.Event(), []
    keep, attach = Copies._keep, query._attach

    def kept(self: Copies, tenant: str, copy: Copy) -> None:
        keep(self, tenant, copy)
        made.set()

    monkeypatch.setattr(copies, "WORTH_BYTES", 1)
    monkeypatch.setattr(Copies, "_keep", kept)
    monkeypatch.setattr(query, "_attach", lambda c, copy: used.append(attach(c, copy)) or used[-1])

    async def story() -> None:
        near, far = socket.socketpair()
        channel = Channel(far)
        ended = asyncio.create_task(asyncio.to_thread(main, channel, {}))
        link = LineageLink()
        await link.attach(
            await AsyncChannel.over(near), journal=journal.directory,
            directory=tmp_path / "lineage", log_key=journal.log_key, seal_key=KEY,
        )  # fmt: skip
        sql = "SELECT count(*) AS n, sum(rows) AS rows FROM read"
        for stories in (1, 2, 3):
            size = journal.tell_story()
            await caught_up(link, size)
            answer = await link.query(sql, Side(tenant="clinic", at_least=size))
            assert answer.rows == ((3 * stories, 350 * stories),)
            assert await asyncio.to_thread(made.wait, 60)
        assert used == [True, True]
        link.detach()
        with pytest.raises(ChannelClosed):
            await ended
        channel.close()

    asyncio.run(story())
