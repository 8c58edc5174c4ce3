"""The servers of the contract suites, started once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contracts.machines import AWS, Moto


@pytest.fixture(scope="session")
def moto() -> Iterator[Moto]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in AWS.items():
            patch.setenv(name, value)
        server = Moto()
        yield server
        server.stop()


@pytest.fixture(scope="session")
def hsm(tmp_path_factory: pytest.TempPathFactory) -> str:
    from tests.contracts.machines import softhsm

    return softhsm(tmp_path_factory.mktemp("softhsm"))
