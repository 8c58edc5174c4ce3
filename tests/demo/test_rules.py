"""The clinic's rules of the demo mean what the demo says about them."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.demo import models
from gateway.domain.access import AccessRequest, Decision, Effect, Resource, Subject
from gateway.domain.dataset import Column, DatasetRef
from gateway.policy.bundle import PolicyBundle
from gateway.policy.judge import Judge

RULES = Path(models.__file__).parent / "clinic"
NAMES = ("zper", "year", models.RISK_LABEL, *models.RISK_FEATURES, "site")
COLUMNS = tuple(
    Column(field_id=n, name=name, type="double", tags=("health",))
    for n, name in enumerate(NAMES, 1)
)


@pytest.fixture(scope="module")
def judge() -> Judge:
    files = {p.name: p.read_text("utf-8") for p in RULES.glob("*.yaml")}
    return Judge.build([PolicyBundle.read(files, "clinic")])


def asked(
    judge: Judge, who: str, purpose: str | None, columns: tuple[Column, ...], name: str = "rand-hie"
) -> Decision:
    tenant = who.partition("/")[0]
    ref = DatasetRef("clinic", name, 1)
    request = AccessRequest(
        subject=Subject(id=who, tenant=tenant, type="job", roles=("trainer",)),
        action="stream",
        dataset=ref,
        tenant="clinic",
        purpose=purpose,
    )
    resource = Resource(tenant="clinic", dataset=ref, columns=columns)
    return judge.decide(
        request, resource, decision_id="dec_x", now=1.8e9, policy_epoch=1, catalog_index=1
    )


@pytest.mark.parametrize("purpose", ["marketing", "analytics", None])
def test_the_startup_gets_nothing_for_another_purpose(judge: Judge, purpose: str | None) -> None:
    decision = asked(judge, "startup/ml", purpose, COLUMNS)
    assert decision.effect is Effect.DENY


def test_the_denial_says_what_would_have_to_change(judge: Judge) -> None:
    decision = asked(judge, "startup/ml", "marketing", COLUMNS)
    said = " ".join([*(reason.text for reason in decision.reasons), decision.advice or ""])
    assert "health-research" in said


def test_the_auditor_reads_no_rows(judge: Judge) -> None:
    assert asked(judge, "audit/eva", "health-research", COLUMNS).effect is Effect.DENY


def test_the_startup_gets_less_and_masked(judge: Judge) -> None:
    plan = asked(judge, "startup/ml", "health-research", COLUMNS).require()
    assert plan
    masks = {c.name: c.mask for c in plan.columns}
    assert not {"black", "female", "zper", "site"} & set(masks)
    assert {name: mask for name, mask in masks.items() if mask} == {
        "income": "x-bucket:5000",
        "xage": "x-bucket:10",
    }


def test_the_analyst_gets_every_column_of_the_model_as_it_is(judge: Judge) -> None:
    plan = asked(judge, "clinic/analyst", "health-research", COLUMNS).require()
    assert plan
    assert set(plan.names) == set(NAMES) - {"site"}
    assert not [c for c in plan.columns if c.mask]


PUBLIC = tuple(
    Column(field_id=n, name=name, type="double", tags=("public",))
    for n, name in enumerate(models.FLIGHT_COLUMNS, 1)
)


def test_public_columns_are_not_open_for_marketing(judge: Judge) -> None:
    assert asked(judge, "startup/ml", "marketing", PUBLIC, "flights").effect is Effect.DENY


def test_public_columns_are_open_in_full_for_research(judge: Judge) -> None:
    plan = asked(judge, "startup/ml", "methods-research", PUBLIC, "flights").require()
    assert plan
    assert [(c.name, c.mask) for c in plan.columns] == [(n, None) for n in models.FLIGHT_COLUMNS]
