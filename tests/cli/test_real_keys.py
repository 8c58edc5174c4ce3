"""Keys of a served gateway, as an owner would try them: listed, renewed under a live stream."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from gateway.client import GatewayClient, LeaseRevoked, PlanChanged
from gateway.crypto import certificate
from gateway.errors import GatewayError, NotFound
from tests.cli.test_real_gateway import Typed, client, home, server, typed

__all__ = ["client", "home", "server", "typed"]
ROWS = 200_000
HOW = {"purpose": "research", "batch_size": 1000, "window_blocks": 1, "seed": 7, "shuffle": True}


@pytest.fixture(scope="module")
def numbers(client: GatewayClient, typed: Typed) -> str:
    """A dataset of many small segments that its own trainers may stream."""
    client.datasets.register("home/numbers", pa.table({"n": np.arange(ROWS), "m": np.ones(ROWS)}))
    new = ("policy", "new", "home/numbers", "--to", "role:trainer", "--purpose", "research")
    typed(*new, "--columns", "n", "--push")
    return "home/numbers"


def test_keys_are_renewed_while_a_stream_runs(
    numbers: str, client: GatewayClient, typed: Typed, home: Path
) -> None:
    stream = iter(client.stream(numbers, **HOW))
    got = [next(stream)["n"] for _ in range(3)]
    done = json.loads(typed("key", "rotate", "--json").stdout)
    assert done["result"]["root"] == 2
    assert client.keys.rotate(kind="kek").result["sheets"] == 1
    got += [batch["n"] for batch in stream]
    assert np.array_equal(np.sort(np.concatenate(got)), np.arange(ROWS))
    assert sum(len(batch["n"]) for batch in client.stream(numbers, **HOW)) == ROWS
    listed = typed("key", "list").stdout
    assert "root" in listed
    assert "home/numbers" in listed
    told = json.loads(typed("key", "list", "--json").stdout)
    for path in home.rglob("*.root"):
        assert path.read_bytes()[-32:].hex() not in json.dumps(told)


def test_an_erased_column_stops_its_streams_and_an_erased_dataset_is_gone(
    numbers: str, client: GatewayClient, typed: Typed, home: Path
) -> None:
    stream = iter(held := client.stream(numbers, **HOW))
    next(stream)
    plan = json.loads(typed("dataset", "erase", numbers, "--column", "n", "--json").stdout)
    assert plan["streams"]
    next(stream)  # a dry run stops nothing
    told = typed("dataset", "erase", numbers, "--column", "n", "--yes", "--reason", "consent ended")
    assert "streams_stopped     1\n" in told.stdout
    assert "slowest_ms" in told.stdout
    with pytest.raises((LeaseRevoked, PlanChanged)):
        for _ in stream:
            pass
    held.close()
    shown = client.datasets.show(numbers)
    assert [column["name"] for column in shown.columns] == ["m"]
    with pytest.raises(GatewayError):
        client.tokens.request(numbers, purpose="research", columns=["n"])
    done = client.datasets.erase(numbers, yes=True)
    assert done.streams_stopped == 0
    out = home / "certificate.json"
    typed("dataset", "erase", numbers, "--certificate", out)
    facts = certificate.verify(out.read_bytes(), bytes.fromhex(done.public_key))
    assert facts["dataset"] == numbers
    with pytest.raises(NotFound):
        client.datasets.show(numbers)
