"""The packs that ship: their suites pass, and they narrow what an owner allows."""

from __future__ import annotations

import pytest

from gateway.domain.dataset import Column
from gateway.errors import InvalidInput, NotFound
from gateway.policy import packs
from gateway.policy.bundle import PolicyBundle
from gateway.policy.judge import Judge
from gateway.policy.suite import run_suites

from .scene import ICU, ask, codes, masks, names, rule, text_of

ALL = {"tenant": "clinic", "platform": "platform", "health": "clinic", "text": "clinic"}


def test_a_pack_nobody_knows_and_a_tenant_that_is_no_name_are_refused() -> None:
    with pytest.raises(NotFound):
        packs.load("../packs/tenant", "clinic")
    with pytest.raises(InvalidInput):
        packs.load("tenant", "clinic\nrules:")


def test_the_platforms_pack_cannot_be_read_as_a_tenants() -> None:
    with pytest.raises(InvalidInput):
        PolicyBundle.read(packs.load("platform", "clinic"), "clinic")


@pytest.mark.parametrize("name", packs.names())
def test_every_pack_passes_its_own_suites(name: str) -> None:
    bundle = PolicyBundle.read(packs.load(name, ALL[name]), ALL[name])
    results = run_suites(bundle)
    assert results
    assert [result.text for result in results if not result.ok] == []


def _with_pack(name: str, **fields: object) -> Judge:
    own = {"own.yaml": text_of(rule(**fields))}
    return Judge.build([PolicyBundle.read({**packs.load(name, "clinic"), **own}, "clinic")])


def test_the_health_pack_removes_identifiers_and_asks_for_promises() -> None:
    judged = _with_pack(
        "health",
        columns=["age", "diagnosis", "email", "born", "notes"],
        actions=["stream", "export"],
    )
    decision = ask(judged)
    assert masks(decision) == {
        "age": None,
        "diagnosis": None,
        "born": "truncate-to-year",
        "notes": None,
    }
    assert decision.plan is not None
    assert dict(decision.plan.obligations) == {
        "no_redistribution": True,
        "no_reidentification": True,
    }
    assert codes(ask(judged, purpose="marketing")) == ["denied-by-rule"]
    assert codes(ask(judged, action="export")) == ["denied-by-rule"]


def test_the_text_pack_hides_authors_and_respects_reserved_rights() -> None:
    columns = (
        Column(field_id=1, name="body", type="string", tags=("rights.reserved",)),
        Column(field_id=2, name="author", type="string", tags=("pii.author",)),
        Column(field_id=3, name="mail", type="string", tags=("pii.email",)),
    )
    judged = _with_pack("text", columns=["body", "author", "mail"])
    books = type(ICU)(tenant="clinic", dataset=ICU.dataset, columns=columns)
    decision = ask(judged, books, purpose="methods-research")
    assert names(decision) == ("body", "author")
    assert masks(decision)["author"] == "x-hmac-tenant"
    assert codes(ask(judged, books, purpose="product-training")) == ["denied-by-rule"]
