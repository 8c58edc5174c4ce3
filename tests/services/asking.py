"""Three tenants and a rule whose use a person must approve: who asks, who answers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gateway.wire as W
from gateway import bootstrap
from gateway.catalog.records import Asked
from gateway.config import Settings
from gateway.domain.access import Decision
from gateway.domain.lease import Grant
from gateway.services import (
    answer_request,
    ask_person,
    request_access,
)
from gateway.services.house import House
from gateway.services.request_access import Ask, Caller
from tests.services.conftest import open_house
from tests.services.simulator import add_rules, add_tenant, add_version, caller
from tests.services.test_access import run

RULES = """
format: gateway-policy/v0
rules:
  - id: clinic.icu.asked
    kind: allow
    principals: [startup/role:trainer, clinic/role:owner]
    scope: dataset:clinic/icu
    actions: [stream, request]
    purpose: [health-research]
    columns: [age, hr, label]
    masks: {age: "x-bucket:10"}
    limits: {max_rows: 1000}
    obligations: {require_approval: true}
  - id: clinic.icu.open
    kind: allow
    principals: [startup/role:trainer]
    scope: dataset:clinic/icu
    actions: [stream, request]
    purpose: [safety]
    columns: [name]
"""
OWNER = caller("clinic", "owner", "owner")
SECOND = caller("clinic", "second", "owner")
TRAINER = caller("startup", "ml", "trainer")
COLLEAGUE = caller("startup", "other", "trainer")
RIVAL = caller("rival", "spy", "trainer", "owner", "auditor")
ASK = Ask(dataset="clinic/icu", purpose="health-research", columns=("age", "hr"))
DAY = 24 * 3600


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A house with three tenants and the rules, at rest; each test works on a copy."""
    base = tmp_path_factory.mktemp("prepared")
    bootstrap.init(settings_in(base))
    house = open_house(settings_in(base))

    async def arrange() -> None:
        await add_tenant(house, "clinic", ("owner", "owner"), ("second", "owner"))
        await add_tenant(house, "startup", ("ml", "trainer"), ("other", "trainer"))
        await add_tenant(house, "rival", ("spy", "trainer"))
        add_version(house, "clinic", "icu", ["age", "hr", "label", "name"])
        await add_rules(house, "clinic", RULES)

    run(arrange())
    house.journal.close()
    return base


def settings_in(base: Path) -> Settings:
    return Settings(state_dir=base / "state", config_dir=base / "config", runtime_dir=base / "run")


@pytest.fixture
def shared(prepared: Path, tmp_path: Path) -> Iterator[House]:
    base = shutil.copytree(prepared, tmp_path / "own")
    house = open_house(settings_in(base))
    yield house
    house.journal.close()


def ask(house: House, who: Caller = TRAINER, wanted: Ask = ASK, **more: Any) -> Asked:
    said = {"valid": None, "reason": None, **more}
    asked: Asked = run(ask_person.ask(house, who, wanted, **said))
    return asked


def answer(
    house: House, asked: Asked, who: Caller = OWNER, said: str = "approve", **more: Any
) -> Asked:
    wanted = W.RequestAnswer(decision=said, **more)
    answered: Asked = run(answer_request.answer(house, who, asked.id, wanted))
    return answered


def check(
    house: House, wanted: Ask = ASK, who: Caller = TRAINER, at: float | None = None
) -> Decision:
    decision: Decision = run(request_access.check(house, who, wanted, at))
    return decision


def codes(decision: Decision) -> list[str]:
    return [reason.code for reason in decision.reasons]


def get(house: House, wanted: Ask = ASK, who: Caller = TRAINER) -> Grant:
    grant: Grant = run(request_access.request_grant(house, who, wanted))[1]
    return grant
