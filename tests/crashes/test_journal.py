"""`kill -9` of the process that writes journal, snapshots and projection: nothing is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crashes.journal_campaign import KILLS

ROOT = Path(__file__).resolve().parents[2]


def test_killed_at_random_and_at_every_step_the_journal_loses_nothing_acknowledged(
    request: pytest.FixtureRequest,
) -> None:
    """No acknowledged event lost, no LogCheckpoint contradicted, no row projected wrong."""
    kills = 1000 if request.config.getoption("--long") else 50
    done = subprocess.run(
        [sys.executable, "-m", "tests.crashes.journal_campaign", "--kills", str(kills)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=False,
    )
    told = json.loads(done.stdout)
    assert (done.returncode, told["broken"]) == (0, "")
    assert told["kills"] == kills
    assert set(told["at"]) == {*KILLS, "any moment"}
    assert told["acknowledged"] >= kills
    assert told["checkpoints"] > kills
    assert told["sealed"] >= kills // 20  # there was a projection to be wrong
