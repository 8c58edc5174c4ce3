"""`kill -9` of each kind of process at each kind of step: nothing acknowledged is lost,
no half dataset stays, and no byte is released without its record (issue 2, DESIGN §3.2, §3.7).

The long form is `python -m tests.journeys.campaign --kills 200`.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.journeys import campaign
from tests.journeys.home import Home
from tests.journeys.kills import PLAYERS


def test_killed_processes_lose_nothing_and_release_nothing_unrecorded(
    home: Home, request: pytest.FixtureRequest
) -> None:
    kills = 200 if request.config.getoption("--long") else 20
    done = campaign.play(home, kills=kills, seed=2, seconds_max=30.0 * kills)
    assert done.kills >= kills, done
    assert set(done.by_kind) == set().union(*PLAYERS.values()), done


def test_a_second_server_is_refused_while_one_runs_and_starts_after_its_death(home: Home) -> None:
    home.start()
    refused = subprocess.run(
        [sys.executable, "-m", "gateway.cli.main", "serve", "--port", "0"],
        env=home.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 78
    assert "another process uses" in refused.stderr
    home.kill("parent")
    home.start()  # at once, on the same port, though the orphans are only just ending
    home.stop()
