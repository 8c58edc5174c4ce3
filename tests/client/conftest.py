"""A served simulator, and clients with key files of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.client.client import GatewayClient
from gateway.config import Settings
from tests.api.secured import SecuredSimulator, enrol, served

Login = Callable[[str], GatewayClient]


@pytest.fixture(scope="module")
def small_trays() -> Iterator[None]:
    """A pass has many trays, as one over real data."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway.client.trays.TRAY_BYTES", 512)
        yield


@pytest.fixture
def gateway() -> SecuredSimulator:
    return SecuredSimulator()


@pytest.fixture
def url(gateway: SecuredSimulator) -> Iterator[str]:
    with served(gateway) as found:
        yield found


@pytest.fixture
def login(gateway: SecuredSimulator, url: str, tmp_path: Path) -> Login:
    def as_identity(identity: str) -> GatewayClient:
        path = enrol(gateway, tmp_path / f"{identity.replace('/', '-')}.json", identity)
        settings = Settings(config_dir=tmp_path, state_dir=tmp_path, runtime_dir=tmp_path)
        return GatewayClient(url, path, settings)

    return as_identity
