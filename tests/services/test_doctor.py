"""The doctor reads the journal: with a server and without, changed or whole."""

from __future__ import annotations

from pathlib import Path

from gateway import bootstrap
from gateway.config import Settings
from gateway.services import doctor
from tests.services.conftest import open_house


def of_journal(settings: Settings) -> doctor.Check:
    (found,) = [check for check in doctor.diagnose(settings) if check.name == "journal"]
    return found


def test_a_journal_that_was_changed_or_rolled_back_is_found(settings: Settings) -> None:
    bootstrap.init(settings)
    house = open_house(settings)
    assert of_journal(settings).ok, "while it is written"
    house.journal.close()
    healthy = of_journal(settings)
    assert healthy.ok
    assert f"all {house.journal.durable_size} events" in healthy.detail
    (path,) = (settings.state_dir / "journal").glob("*.log")
    whole = path.read_bytes()
    for harm in (changed, rolled_back):
        harm(path, whole)
        assert not of_journal(settings).ok, harm.__name__
    path.write_bytes(whole)
    (settings.config_dir / "anchor" / "anchor").unlink()
    assert not of_journal(settings).ok, "without its anchor"


def changed(path: Path, whole: bytes) -> None:
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])


def rolled_back(path: Path, whole: bytes) -> None:
    begin = whole.rfind(b"dataset-gateway/")  # the newest LogCheckpoint
    path.write_bytes(whole[: begin - 9])
