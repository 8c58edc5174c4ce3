"""A disk that is full or broken: a clear answer, nothing acknowledged lost, and on it goes."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import GatewayError, Unavailable
from tests.crashes.campaign import register_under
from tests.crashes.place import Place, table
from tests.crashes.server import JOURNAL_FAILED

SURVIVED = ("disk.part", "disk.staging", "disk.private-file", "disk.object", "disk.object-name")
ENDING = (
    ("disk.journal", errno.ENOSPC), ("disk.journal-sync", errno.EIO), ("disk.anchor", errno.ENOSPC)
)  # fmt: skip
BIG = 40_000  # rows: some megabytes


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place.make(tmp_path_factory.mktemp("disk"))
    yield made
    made.end()


def failing(tmp_path: Path, step: str, number: int) -> tuple[dict[str, Any], Path]:
    """A control whose disk fails at `step` for as long as the returned file is there."""
    switch = tmp_path / "fails"
    return {"fail": {"steps": [step], "errno": number, "while": str(switch)}}, switch


@pytest.mark.parametrize("step", SURVIVED)
def test_a_registration_says_that_the_disk_is_full_and_goes_on_when_there_is_space(
    place: Place, tmp_path: Path, step: str
) -> None:
    source = table(500, len(place.versions))
    armed, switch = failing(tmp_path, step, errno.ENOSPC)
    with place.living(armed):
        client = place.hasty_client()
        client.whoami()
        switch.touch()
        with pytest.raises(Unavailable, match="No space left on device") as refused:
            register_under(client, step, "home/full", source)
        assert "free disk space" in str(refused.value.advice)
        switch.unlink()
        version = register_under(client, step, "home/full", source)  # the same control
    place.versions[f"home/full@{version}"] = source
    place.check()


@pytest.mark.parametrize(("step", "number"), ENDING)
def test_a_journal_that_cannot_be_written_ends_control_and_acknowledges_nothing(
    place: Place, tmp_path: Path, step: str, number: int
) -> None:
    armed, switch = failing(tmp_path, step, number)
    name = f"home/{step.replace('.', '-')}"
    with place.doomed(armed):
        client = place.hasty_client()
        client.whoami()
        switch.touch()
        with pytest.raises(GatewayError):
            register_under(client, step, name, table(10))
    assert place.deaths == [JOURNAL_FAILED]
    switch.unlink()
    place.repair()
    with place.living():  # written or not, nobody was told: the retry makes or finds version 1
        assert register_under(place.client(), step, name, table(10)) == 1
    place.versions[f"{name}@1"] = table(10)
    place.check()


def test_a_snapshot_that_cannot_be_written_costs_the_next_start_time_only(
    place: Place, tmp_path: Path
) -> None:
    armed, switch = failing(tmp_path, "disk.snapshot", errno.EIO)
    with place.living(armed):
        place.client().whoami()
        switch.touch()
    assert "the snapshot cannot be written" in place.log
    place.repair()
    place.check()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "none", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_really_full_disk_loses_nothing_and_takes_up_again(small_disk: Path) -> None:
    place = Place.make(small_disk)
    filler, small, big = small_disk / "filler", table(500), table(BIG)
    try:
        with place.living():
            version = register_under(place.client(), "small", "home/small", small)
            place.versions[f"home/small@{version}"] = small
            _fill(filler, leave=1 << 20)
            with pytest.raises(Unavailable):
                register_under(place.hasty_client(), "big", "home/big", big)
            filler.unlink()
            version = register_under(place.client(), "big", "home/big", big)
            place.versions[f"home/big@{version}"] = big
        place.check()
    finally:
        place.end()


def _fill(path: Path, leave: int) -> None:
    """Take all space but `leave` bytes."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            file.truncate(max(0, file.tell() - leave))
