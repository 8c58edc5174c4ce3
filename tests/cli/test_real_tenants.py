"""Tenants as their operator handles them: many from one file, and one suspended mid-stream."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from gateway.client import GatewayClient, TenantSuspended
from gateway.config import Settings
from gateway.crypto.tokens import IdentityKey
from gateway.errors import NotAuthenticated
from tests.cli.test_real_gateway import Typed, client, home, server, typed

__all__ = ["client", "home", "server", "typed"]
ROWS = 200_000
MANY = 50
HOW: Any = {
    "purpose": "research",
    "batch_size": 1000,
    "window_blocks": 1,
    "seed": 7,
    "shuffle": True,
}


@pytest.fixture(scope="module")
def operator(client: GatewayClient, home: Path) -> GatewayClient:
    settings = Settings(config_dir=home / "config/dataset-gateway", runtime_dir=home)
    key = home / "config/dataset-gateway/operator.json"
    return GatewayClient(client.transport.server, key, settings)


def test_fifty_tenants_come_from_one_file_once(
    operator: GatewayClient, typed: Typed, home: Path
) -> None:
    lines = []
    for number in range(MANY):
        key = IdentityKey.create(home / f"{number}.json", f"lab{number}/owner")
        lines += [f"[tenants.lab{number}]", f'owner_key = "{key.public_text}"', "max_streams = 4"]
    (home / "tenants.toml").write_text("\n".join(lines))
    as_operator = ("--key-file", home / "config/dataset-gateway/operator.json")
    act = ("tenant", "add", "--from", home / "tenants.toml", *as_operator)
    said = json.loads(typed(*act, "--json").stdout)["items"]
    assert {row["max_streams"] for row in said} == {4}
    assert len(said) == MANY
    settings = Settings(config_dir=home, runtime_dir=home)
    owner = GatewayClient(operator.transport.server, home / "7.json", settings)
    job = IdentityKey.create(home / "job.json", "lab7/job")
    owner.identities.add("lab7/job", public_key=job.public_text, roles=["trainer"], type="job")
    again = typed(*act).stderr
    assert "lab7/owner types: gateway dataset register lab7/NAME" in again
    assert len(operator.tenants.list()) == MANY + 2


def test_a_suspended_tenant_stops_at_once_and_goes_on_where_it_was(
    client: GatewayClient, operator: GatewayClient, typed: Typed
) -> None:
    client.datasets.register("home/numbers", pa.table({"n": np.arange(ROWS)}))
    new = ("policy", "new", "home/numbers", "--to", "role:trainer", "--purpose", "research")
    typed(*new, "--columns", "n", "--push")
    stream = iter(held := client.stream("home/numbers", **HOW))
    got = [next(stream)["n"] for _ in range(3)]
    said = operator.tenants.suspend("home", reason="an incident")
    assert (said.suspended, said.streams_stopped) == (True, 1)
    assert said.slowest_ms >= 0
    with pytest.raises(TenantSuspended) as stop:
        got.extend(batch["n"] for batch in stream)
    with pytest.raises(NotAuthenticated, match="`home` is suspended"):
        client.whoami()
    operator.tenants.resume("home")
    held.close()
    rest = client.stream("home/numbers", **HOW, position=stop.value.position.to_dict())
    got += [batch["n"] for batch in rest]
    assert np.array_equal(np.sort(np.concatenate(got)), np.arange(ROWS))
