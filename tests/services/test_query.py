"""An auditor's SQL is an event before it runs, whatever becomes of it; its text stands sealed."""

from __future__ import annotations

import asyncio

import pytest

import gateway.wire as W
from gateway.config import Settings
from gateway.domain.events import Event, EventKind
from gateway.errors import AccessDenied, GatewayError, InvalidInput, Unavailable
from gateway.services import audit
from gateway.services.house import House
from tests.services.simulator import add_tenant, caller

AUDITOR, TRAINER = caller("clinic", "auditor", "auditor"), caller("clinic", "ml", "trainer")
SQL = "SELECT subject_tag FROM read WHERE run = 'the-secret-run'"


@pytest.fixture
def clinic(house: House) -> House:
    people = [("auditor", "auditor"), ("ml", "trainer")]
    asyncio.run(add_tenant(house, "clinic", *people))
    return house


def queried(house: House, who: object, sql: str) -> GatewayError:
    with pytest.raises(GatewayError) as refused:
        asyncio.run(audit.query(house, who, W.QueryRequest(sql=sql)))  # type: ignore[arg-type]
    return refused.value


def recorded(house: House) -> list[Event]:
    return [e for e in house.journal.read(0) if e.kind is EventKind.QuestionAsked]


def test_a_query_that_nobody_answered_is_durable_all_the_same(
    clinic: House, settings: Settings
) -> None:
    assert isinstance(queried(clinic, AUDITOR, SQL), Unavailable)  # no lineage process runs here
    (event,) = recorded(clinic)
    assert event.details is not None
    assert (event.facts["question"], event.details["parameters"]) == ("query", {"sql": SQL})
    assert (event.owner_tenant, event.actor) == ("clinic", "clinic/auditor")
    files = b"".join(p.read_bytes() for p in settings.state_dir.rglob("*") if p.is_file())
    assert b'"question":"query"' in files
    assert b"the-secret-run" not in files


def test_who_may_not_audit_asks_nothing_and_what_is_too_long_is_no_question(clinic: House) -> None:
    assert isinstance(queried(clinic, TRAINER, SQL), AccessDenied)
    assert isinstance(queried(clinic, AUDITOR, "SELECT 1" + " " * 30_000), InvalidInput)
    assert recorded(clinic) == []
