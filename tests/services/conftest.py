"""A real House in a temporary directory: keys, journal, catalogue, rules; no processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import bootstrap
from gateway.config import Settings
from gateway.process import status_page
from gateway.services.house import House
from gateway.shards import ingest, person_filter
from tests.shards.warm import Zygote, zygote


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        state_dir=tmp_path / "state", config_dir=tmp_path / "config", runtime_dir=tmp_path / "run"
    )


def open_house(settings: Settings) -> House:
    failures: list[str] = []
    return bootstrap.build(
        settings, page=status_page.create(), url="http://localhost:1", on_failure=failures.append
    )


@pytest.fixture
def house(settings: Settings) -> Iterator[House]:
    bootstrap.init(settings)
    opened = open_house(settings)
    yield opened
    opened.journal.close()


@pytest.fixture(scope="session")
def forking() -> Iterator[Zygote]:
    """The process that forks children, for a whole run."""
    with zygote() as made:
        yield made


@pytest.fixture
def warm(forking: Zygote, monkeypatch: pytest.MonkeyPatch) -> Zygote:
    """Children that read and seal files start by fork in this test: a second less each."""
    for room in (ingest, person_filter):
        monkeypatch.setattr(room, "spawn", forking.spawn)
    return forking
