"""A data worker dies: what it served goes on elsewhere, and nobody waits for the dead."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from gateway.process.directory import read_server_file
from gateway.process.tree import ring_path
from tests.journeys.home import Home, Process, wait
from tests.journeys.story import DIRECT, HOW, PURPOSE, Story

ASKED: Any = {"purpose": PURPOSE, "columns": DIRECT, "output": "arrow", **HOW}
GOES_ON_SECONDS_MAX = 2.0


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    home = Home.make(tmp_path_factory.mktemp("home"), workers=2)
    home.start()
    story = Story(home)
    for step in ("register", "publish"):
        story.do(step, "a")
    yield story
    home.end()


def worker(home: Home, number: int) -> Process | None:
    """The process of one data worker, if it lives."""
    for process in home.processes():
        if process.kind == "worker" and _number(process) == number:
            return process
    return None


def _number(process: Process) -> int:
    words = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
    spec = json.loads(words[words.index(b"gateway.process.child") + 1])
    return int(spec["options"]["worker"])


def doors(home: Home) -> list[str]:
    urls: list[str] = read_server_file(home.settings.runtime_dir)["data_urls"]
    return urls


@contextlib.contextmanager
def kept_dead(home: Home, number: int) -> Iterator[None]:
    """Kill a worker, and whoever replaces it."""
    is_over = threading.Event()

    def kill() -> None:
        while not is_over.wait(0.02):
            process = worker(home, number)
            if process is not None:
                process.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield
    finally:
        is_over.set()
        killer.join()


@pytest.mark.parametrize("delivery", ["ring", "http"])
def test_a_stream_of_a_dead_worker_goes_on_with_another_within_two_seconds(
    story: Story, delivery: str
) -> None:
    home = story.home
    wait(lambda: worker(home, 0) is not None and worker(home, 1) is not None, 30, "no workers")
    with home.client(delivery=delivery).stream("home/a", **ASKED) as stream:
        got = [next(stream)]
        before = stream.manifest.lease
        began = time.monotonic()
        with kept_dead(home, doors(home).index(stream._lease.access.data_url)):
            while stream.manifest.lease == before:
                got.append(next(stream))
            assert time.monotonic() - began < GOES_ON_SECONDS_MAX
            got += list(stream)
        assert stream.stats["delivery"] == delivery
    ids = sorted(i for batch in got for i in batch["id"].to_pylist())
    assert ids == story.source("a")["id"].to_pylist()


def test_who_connects_to_a_worker_that_is_dead_is_turned_away_at_once(story: Story) -> None:
    home = story.home
    port = urlsplit(doors(home)[0]).port
    with (
        kept_dead(home, 0),
        socket.create_connection(("127.0.0.1", port), 1) as http,
        socket.socket(socket.AF_UNIX) as ring,
    ):
        ring.settimeout(1)
        ring.connect(str(ring_path(home.settings, 0)))
        for sock in (http, ring):
            read_until_cut(sock)  # TimeoutError, were it left waiting


def read_until_cut(sock: socket.socket) -> None:
    with contextlib.suppress(ConnectionResetError):
        while sock.recv(4096):  # the first word of who was killed then
            pass
