"""A door over the simulator, and callers with and without a token."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from gateway.api.app import create_app
from tests.api.simulator import Simulator

HERE = Path(__file__).resolve().parents[2]


@pytest.fixture
def gateway() -> Simulator:
    return Simulator()


@pytest.fixture
def http(gateway: Simulator) -> TestClient:
    """Nobody in particular."""
    return TestClient(create_app(gateway), raise_server_exceptions=True)


def as_subject(http: TestClient, subject: str) -> TestClient:
    http.headers.update({"Authorization": f"DPoP {subject}", "DPoP": "proof"})
    return http


@pytest.fixture
def owner(gateway: Simulator) -> TestClient:
    return as_subject(TestClient(create_app(gateway)), "clinic/owner")


@pytest.fixture
def trainer(gateway: Simulator) -> TestClient:
    return as_subject(TestClient(create_app(gateway)), "startup/ml")


@pytest.fixture
def corpora() -> Path:
    found = Path(os.environ.get("GATEWAY_CORPORA", HERE / "../shared/corpora")).resolve()
    if not found.is_dir():
        pytest.skip("the corpora of others are not here (GATEWAY_CORPORA)")
    return found
