"""Stopped, frozen, or killed while it is made: a home is whole, or becomes so by trying again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gateway.client.segments import verify
from gateway.errors import GatewayError, StreamBroken
from gateway.process.directory import FORMAT_FILE
from tests.delivery.test_drain import Reading
from tests.delivery.test_worker import Lease
from tests.journeys import audit
from tests.journeys.home import Home, wait
from tests.journeys.story import DIRECT, HOW, PURPOSE, Story

ASKED: Any = {"purpose": PURPOSE, "columns": DIRECT, "output": "arrow", **HOW}


@pytest.mark.parametrize("made", ["state/vault", "config/identity.json", "state/journal"])
def test_an_init_that_was_killed_is_simply_run_again(tmp_path: Path, made: str) -> None:
    home = Home(tmp_path, 0)
    killed = subprocess.Popen(
        [sys.executable, "-m", "gateway.cli.main", "init"],
        env=home.environment,
        stdout=subprocess.DEVNULL,
    )
    place, _, name = made.partition("/")
    while not (tmp_path / place / "dataset-gateway" / name).exists():
        assert killed.poll() is None, f"it ended without {made}"
    killed.kill()
    killed.wait()
    if not (home.settings.state_dir / FORMAT_FILE).exists():  # the last thing that it writes
        home.run("init")
    home.run("init", expect=5)
    home.run("doctor", expect=audit.doctor_code())


def test_a_stop_in_the_middle_of_everything_leaves_nobody_and_nothing_half(home: Home) -> None:
    story = Story(home, pace=0.02)
    home.start()
    for step in ("register", "publish", "token"):
        story.do(step, "a")
    for number in range(3):  # at different moments of a registration
        story.gateway.datasets.register(f"home/b{number}", story.file(f"b{number}"), wait=False)
        time.sleep(0.5 * number)
        home.stop()
        home.start()
    for listed in story.gateway.datasets.list():
        assert story.gateway.datasets.show(listed.dataset).rows == story.source("a").num_rows
    audit.check_served(story)
    home.stop()
    audit.check_journal(home, story.ledger)
    audit.check_objects(home)


def test_a_frozen_control_pauses_streams_and_they_go_on_exactly(home: Home) -> None:
    story = Story(home, pace=0.02)
    home.start()
    for step in ("register", "publish"):
        story.do(step, "a")
    control = home.find("control")
    assert control is not None
    with story.witnessed(), story.gateway.stream("home/a", **ASKED) as stream:
        batches = [next(stream)]
        os.kill(control.pid, signal.SIGSTOP)
        try:
            time.sleep(1.5)  # the worker notices after one second
            frozen = len(story.ledger.received)
            assert 0 < frozen < 32  # each once when it begins, once when it is whole
            time.sleep(0.5)
            assert len(story.ledger.received) == frozen
        finally:
            os.kill(control.pid, signal.SIGCONT)
        batches += list(stream)
    ids = sorted(i for batch in batches for i in batch["id"].to_pylist())
    assert ids == story.source("a")["id"].to_pylist()


def test_a_worker_that_keeps_dying_is_replaced_and_revocation_still_holds(home: Home) -> None:
    story = Story(home, pace=0.02)
    home.start()
    for step in ("register", "publish", "token"):
        story.do(step, "a")
    for _ in range(3):
        home.kill("worker")
        wait(lambda: home.find("worker") is not None, 30, "no new worker")
    home.revive()
    story.do("direct", "a")
    home.kill("worker")
    story.do("revoke", "a")
    for grant in story.ledger.grants:
        with pytest.raises(GatewayError):
            story.gateway.stream(grant=grant)
    home.stop()


def test_a_registration_goes_on_when_control_is_killed_while_it_seals(home: Home) -> None:
    story = Story(home)
    home.start()

    def kill_while_sealing() -> None:
        wait(lambda: home.find("sealer") is not None, 60, "nobody seals")
        home.kill("control")

    killer = threading.Thread(target=kill_while_sealing)
    killer.start()
    assert story.gateway.datasets.register("home/a", story.file("a")).version == 1
    killer.join()


def test_an_impatient_trainer_gets_the_position_and_resumes_there(home: Home) -> None:
    story = Story(home)
    home.start()
    for step in ("register", "publish"):
        story.do(step, "a")
    gateway = home.client(patience_seconds=1)
    with story.witnessed():
        with gateway.stream("home/a", **ASKED) as stream:
            got = [next(stream)]
            assert stream.stats["delivery"] == "ring"
            home.kill("parent")
            home.await_orphans_end()
            with pytest.raises(StreamBroken) as stopped:
                got.extend(stream)
        position = stopped.value.position
        assert position.rows == sum(batch.num_rows for batch in got)
        home.start()
        with gateway.stream("home/a", position=position.to_dict(), **ASKED) as stream:
            got.extend(stream)
        assert stream.stats["delivery"] == "ring"  # the socket that was left is replaced
    ids = sorted(i for batch in got for i in batch["id"].to_pylist())
    assert ids == story.source("a")["id"].to_pylist()
    home.stop()
    assert not list(home.settings.runtime_dir.glob("ring-*"))
    audit.check_journal(home, story.ledger)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_is_an_orderly_stop(home: Home, number: signal.Signals) -> None:
    home.start()  # Ctrl-C in a terminal, and a service manager, tell every process at once
    home.log.write_text("")
    snapshots = home.settings.state_dir / "snapshots"
    for snapshot in snapshots.iterdir():
        snapshot.unlink()
    assert home.parent is not None
    os.killpg(home.parent.pid, number)
    assert home.parent.wait(30) == 0
    home.await_orphans_end()
    assert "Traceback" not in home.log.read_text()
    assert list(snapshots.iterdir()), "control had no time to save"


def test_an_ordinary_stop_cuts_no_segment_that_is_on_its_way(home: Home) -> None:
    story = Story(home)
    home.start()
    story.do("publish", "big")
    pq.write_table(pa.table({"x": np.arange(3 << 20, dtype=np.float64)}), home.root / "big.parquet")
    story.gateway.datasets.register("home/big", home.root / "big.parquet")
    home.log.write_text("")
    asked: Any = {"purpose": PURPOSE, "columns": ["x"], "batch_size": 1 << 17}
    with story.gateway.stream("home/big", **asked) as stream:
        remote = home.client(delivery="http").stream("home/big", **asked)
        access = remote._lease.access
        assert home.parent is not None
        with closing(Reading(Lease(cast(Any, None), access))) as reading:
            got = [next(stream)["x"].copy()]  # in the middle of a segment of 16 MiB
            assert stream.stats["delivery"] == "ring"
            os.killpg(home.parent.pid, signal.SIGTERM)  # as a service manager does
            for batch in islice(stream, 12):
                got.append(batch["x"].copy())
                time.sleep(0.02)
            verify(reading.rest(), 0, access)
        assert home.parent.wait(30) == 0
        home.await_orphans_end()
        assert "segments are cut" not in home.log.read_text()
        home.start()
        got += [batch["x"] for batch in stream]
    np.testing.assert_array_equal(np.concatenate(got), np.arange(3 << 20, dtype=np.float64))
    remote.close()
    home.stop()


def test_a_control_that_keeps_dying_ends_the_server_with_a_word(home: Home) -> None:
    home.start()
    for _ in range(4):
        wait(lambda: home.find("control") is not None, 60, "no control")
        killed = home.kill("control")
        wait(lambda dead=killed: dead not in home.processes(), 10, "it lives")
    assert home.parent is not None
    assert home.parent.wait(30) == 1
    assert "control died" in home.log.read_text()
    home.await_orphans_end()
    home.start()
    home.stop()
