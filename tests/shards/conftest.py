"""Children that start fast, for the many small files of this room."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.shards import ingest
from tests.shards.warm import Zygote, zygote


@pytest.fixture(scope="session")
def forking() -> Iterator[Zygote]:
    """The process that forks children, for a whole run."""
    with zygote() as made:
        yield made


@pytest.fixture
def warm(forking: Zygote, monkeypatch: pytest.MonkeyPatch) -> Zygote:
    """Registrations of this test start their children by fork."""
    monkeypatch.setattr(ingest, "spawn", forking.spawn)
    return forking
