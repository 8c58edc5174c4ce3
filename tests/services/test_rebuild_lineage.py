"""`gateway lineage rebuild`: the same database, out of the journal alone, while nobody serves."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway import bootstrap
from gateway.config import Settings
from gateway.errors import GatewayError, IntegrityError
from gateway.lineage.projection import Projection
from gateway.process.directory import DirectoryLock
from tests.services.conftest import open_house
from tests.services.simulator import add_tenant
from tests.services.test_access import run


@pytest.fixture
def rested(settings: Settings) -> tuple[Settings, bytes, int]:
    """A home at rest, the key of its projection, and its events."""
    bootstrap.init(settings)
    house = open_house(settings)
    run(add_tenant(house, "clinic", ("owner", "owner")))
    run(house.settled())
    key, size = house.vault.secret("lineage-seal"), house.journal.durable_size
    house.journal.close()
    return settings, key, size


def projected(settings: Settings, key: bytes) -> tuple[int, str | None]:
    opened = Projection(settings.state_dir / "lineage", key)
    try:
        return opened.projected, opened.rebuilt_because
    finally:
        opened.close()


def test_a_running_gateway_refuses_it(rested: tuple[Settings, bytes, int]) -> None:
    settings, _, _ = rested
    with DirectoryLock(settings.state_dir), pytest.raises(GatewayError):
        bootstrap.rebuild_lineage(settings, lambda _share, _text: None)


def test_a_journal_that_was_changed_is_not_projected(rested: tuple[Settings, bytes, int]) -> None:
    settings, key, size = rested
    (path,) = sorted((settings.state_dir / "journal").glob("*.log"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError):
        bootstrap.rebuild_lineage(settings, lambda _share, _text: None)
    assert projected(settings, key)[0] < size


def test_it_is_whole_and_sealed_afterwards(rested: tuple[Settings, bytes, int]) -> None:
    settings, key, size = rested
    database = settings.state_dir / "lineage" / "lineage.duckdb"
    said: list[float] = []
    for spoilt in (None, b"no database"):
        if spoilt is not None:
            database.write_bytes(spoilt)
        done = bootstrap.rebuild_lineage(settings, lambda share, _text: said.append(share))
        assert done == size
        assert projected(settings, key) == (size, None)  # the seal held: nothing was redone
    assert said
    assert max(said) < 1
    assert isinstance(database, Path)
