"""A run has one name and one UUID, whoever asks and however often its job is restarted."""

from __future__ import annotations

import uuid

from gateway.client.launcher import RUNS
from gateway.domain.run_names import SCHEDULERS, outer_id, run_uuid


def test_every_launcher_that_names_runs_is_a_scheduler() -> None:
    assert {prefix.rstrip("-") for prefix in RUNS.values()} - {""} == set(SCHEDULERS)


def test_the_outer_id_can_be_read_off_the_name() -> None:
    assert outer_id("slurm-4711") == ("slurm", "4711")
    assert outer_id("mlflow-a-b") == ("mlflow", "a-b")
    for name in ("sepsis-7", "slurm-", "slurm", "4711"):
        assert outer_id(name) == ("", name)


def test_the_same_job_number_elsewhere_is_another_run() -> None:
    ids = ("startup:slurm-1", "rival:slurm-1", "startup:ray-1", "startup:1", "startup:slurm-2")
    found = {run_uuid(one) for one in ids}
    assert len(found) == len(ids)
    assert {uuid.UUID(one).version for one in found} == {5}
    assert run_uuid("startup:slurm-1") == "480c07b4-701b-5cef-b39a-8e15114944ef"
