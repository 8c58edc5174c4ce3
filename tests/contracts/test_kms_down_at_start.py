"""A gateway whose key service is down when it starts: it refuses with the reason, then recovers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.machines import AWS, Door, Moto

COMMAND = (sys.executable, "-c", "from gateway.cli.main import main; main()")
PATIENCE_SECONDS = 90


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "GATEWAY_", "AWS_"))}
    own = {f"XDG_{n}_HOME": str(tmp_path / n.lower()) for n in ("CONFIG", "STATE", "CACHE")}
    return {**kept, **own, **AWS, "XDG_RUNTIME_DIR": str(tmp_path / "run")}


@pytest.fixture
def door(moto: Moto) -> Iterator[Door]:
    moto.reset()
    door = Door(moto.url)
    yield door
    door.shut()


def until(found: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (value := found()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return value


def asked(url: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(url, timeout=20) as reply:  # noqa: S310
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return 0, {}  # between two lives of the tree


@contextlib.contextmanager
def serving(environment: dict[str, str], home: Path) -> Iterator[str]:
    """A server's URL; told to stop, it ends well within time."""
    log, place = home / "log", home / "run/dataset-gateway/server.json"
    with log.open("wb") as out:
        words = ("serve", "--port", "0", "--data-workers", "1")
        server = subprocess.Popen([*COMMAND, *words], env=environment, stdout=out, stderr=out)
    try:
        until(lambda: place.exists() or server.poll() is not None)
        assert server.poll() is None, log.read_text()
        yield json.loads(place.read_text())["url"]
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0


def test_a_gateway_starts_without_its_key_service_refuses_and_recovers(
    environment: dict[str, str], door: Door, tmp_path: Path
) -> None:
    environment["GATEWAY_KMS"] = f"awskms:?region=eu-central-1&endpoint={door.url}"
    subprocess.run([*COMMAND, "init"], env=environment, check=True, capture_output=True)
    door.shut()
    with serving(environment, tmp_path) as url:
        assert asked(f"{url}/healthz") == (200, {"alive": True})  # and can be stopped
    with serving(environment, tmp_path) as url:
        for path in ("/readyz", "/v1/datasets", "/v1/grants"):
            status, problem = asked(f"{url}{path}")
            assert status == 503
            assert "key-unavailable" in problem["type"]
            assert "AWS KMS" in problem["detail"]
            assert "starts by itself" in problem["advice"]
        door.unlock()
        until(lambda: asked(f"{url}/readyz")[0] == 200)
        assert asked(f"{url}/v1/datasets")[0] == 401  # judged again, and nobody is known
