"""Which run a request of the command line is for."""

from __future__ import annotations

import pytest

from gateway.cli import flags
from gateway.client.launcher import RUNS
from gateway.errors import InvalidInput


@pytest.fixture(autouse=True)
def unlaunched(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*RUNS, "RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)


def test_ranks_that_share_no_run_are_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(InvalidInput, match="no name for the run") as refusal:
        flags.run_of(None)
    assert "GATEWAY_RUN_ID" in refusal.value.advice


def test_what_is_said_counts_before_what_the_launcher_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert flags.run_of(None) is None
    monkeypatch.setenv("GATEWAY_RUN_ID", "night")
    assert flags.run_of(None) == "run:night"
    assert flags.run_of("day") == "day"


def test_a_grant_that_stands_has_its_run_already(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_RUN_ID", "night")
    assert flags.run_of(None, "grant_1") is None
