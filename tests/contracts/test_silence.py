"""A key service that takes questions and answers none holds up nobody else in the process."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway import bootstrap
from gateway.config import Settings
from gateway.errors import KeyUnavailable
from gateway.process import status_page
from gateway.services import request_access, tenants
from gateway.services.house import House
from gateway.services.request_access import Ask
from gateway.wire import TenantRequest
from tests.contracts.machines import Door, Moto
from tests.services.simulator import OPERATOR, add_rules, add_tenant, add_version, caller

RULES = """
format: gateway-policy/v0
rules:
  - id: clinic.icu.research
    kind: allow
    principals: [clinic/role:trainer]
    scope: dataset:clinic/icu
    actions: [stream]
    purpose: [research]
    columns: [age]
"""
TRAINER = caller("clinic", "ml", "trainer")


@pytest.fixture
def door(moto: Moto) -> Door:
    moto.reset()
    return Door(moto.url)


@pytest.fixture
def house(door: Door, tmp_path: Path) -> House:
    settings = Settings(
        state_dir=tmp_path / "state",
        config_dir=tmp_path / "config",
        runtime_dir=tmp_path / "run",
        kms=f"awskms:?region=eu-central-1&endpoint={door.url}",
    )
    bootstrap.init(settings)
    return bootstrap.build(
        settings, page=status_page.create(), url="http://localhost:1", on_failure=print
    )


def test_others_are_served_while_a_grant_and_a_tenant_wait_for_their_keys(
    house: House, door: Door
) -> None:
    async def play() -> None:
        await add_tenant(house, "clinic", ("ml", "trainer"))
        await add_rules(house, "clinic", RULES)
        add_version(house, "clinic", "icu", ["age"])
        ask = Ask(dataset="clinic/icu", purpose="research")
        await request_access.request_grant(house, TRAINER, ask)
        door.is_silent = True
        waiting = [
            asyncio.create_task(request_access.request_grant(house, TRAINER, ask)),
            asyncio.create_task(
                tenants.add_tenant(house, OPERATOR, TenantRequest(tenant="newcomer"))
            ),
        ]
        await asyncio.sleep(0.2)  # by now both ask; were it on this loop, both would have failed
        assert (await request_access.check(house, TRAINER, ask)).is_allowed
        assert not any(task.done() for task in waiting)
        for task in waiting:
            with pytest.raises(KeyUnavailable):
                await task
        assert [known.name for known in house.catalog.tenants() if known.name == "newcomer"] == []
        door.is_silent = False
        await request_access.request_grant(house, TRAINER, ask)
        await bootstrap.close(house)

    asyncio.run(play())
