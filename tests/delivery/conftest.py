"""One real data worker for a module, and gateways of small and of large segments on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.delivery.world import Data, Gateway, Worker, direct_data


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.close()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return direct_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def large_data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """Segments of 16 MiB: twice what a ring holds, more than sockets hold."""
    return direct_data(tmp_path_factory.mktemp("large"), shard_rows=(8192,), width=1024)


@pytest.fixture
def gateway(worker: Worker, data: Data) -> Iterator[Gateway]:
    gateway = Gateway(data, worker)
    yield gateway
    gateway.close()


@pytest.fixture
def large(worker: Worker, large_data: Data) -> Iterator[Gateway]:
    gateway = Gateway(large_data, worker)
    yield gateway
    gateway.close()
