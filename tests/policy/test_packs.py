"""The packs that ship: their suites pass, and they narrow what an owner allows."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.domain.dataset import Column
from gateway.errors import InvalidInput, NotFound
from gateway.policy import packs
from gateway.policy.bundle import PolicyBundle
from gateway.policy.judge import Judge
from gateway.policy.suite import run_suites

from .scene import ICU, TRAINER, ask, codes, masks, names, rule, text_of

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
    library = replace(TRAINER, attributes={"org_type": "public"})
    decision = ask(judged, books, purpose="methods-research", subject=library)
    assert names(decision) == ("body", "author")
    assert masks(decision)["author"] == "x-hmac-tenant"
    assert dict(decision.plan.obligations)["attribution"] if decision.plan else False
    for purpose, who in (("product-training", library), ("methods-research", TRAINER)):
        denied = ask(judged, books, purpose=purpose, subject=who)
        assert codes(denied) == ["denied-by-rule"]


DUTIES = [
    ("health", "duo.rtn", {"return_derived": "P1Y"}),
    ("health", "duo.pub", {"publish_results": "P1Y"}),
    ("health", "duo.col", {"collaborate": True}),
]


@pytest.mark.parametrize(("pack", "tag", "duties"), DUTIES)
def test_a_consent_code_becomes_a_duty(pack: str, tag: str, duties: dict[str, object]) -> None:
    one = replace(ICU, columns=(Column(field_id=1, name="age", type="int64", tags=(tag,)),))
    plan = ask(_with_pack(pack), one).plan
    assert plan is not None
    assert dict(plan.obligations) == duties


@pytest.mark.parametrize(
    ("pack", "tag", "purpose"),
    [
        ("health", "duo.us", "health-research"),
        ("health", "duo.ps", "health-research"),
        ("health", "duo.is", "health-research"),
        ("health", "duo.ds", "disease-research"),
        ("text", "pii.indirect", "credit-risk"),
        ("text", "pii.indirect", "fraud-detection"),
    ],
)
def test_what_no_machine_can_judge_is_asked_of_a_person(pack: str, tag: str, purpose: str) -> None:
    one = replace(ICU, columns=(Column(field_id=1, name="age", type="int64", tags=(tag,)),))
    member = replace(TRAINER, attributes={"project": "p1"})
    plan = ask(_with_pack(pack), one, purpose=purpose, subject=member).plan
    assert plan is not None
    assert dict(plan.obligations)["require_approval"] is True


def test_the_retail_rules_leave_pseudonyms_and_months() -> None:
    tags = {"who": "person-id", "day": "date", "born": "birth", "name": "name", "ip": "online"}
    types = {"who": "int64", "day": "date32[day]", "born": "date32[day]"}
    columns = tuple(
        Column(field_id=number, name=name, type=types.get(name, "string"), tags=(f"pii.{tag}",))
        for number, (name, tag) in enumerate(tags.items(), 1)
    )
    decision = ask(_with_pack("text", columns=list(tags)), replace(ICU, columns=columns))
    assert masks(decision) == {
        "who": "x-hmac-tenant",
        "day": "truncate-to-month",
        "born": "truncate-to-year",
    }


@pytest.mark.parametrize("tag", ["name", "email", "phone", "address", "online", "identifier"])
def test_the_health_pack_removes_whatever_the_hints_propose_as_an_identifier(tag: str) -> None:
    columns = (
        Column(field_id=1, name="age", type="int64"),
        Column(field_id=2, name="it", type="string", tags=(f"pii.{tag}",)),
    )
    decision = ask(_with_pack("health", columns=["age", "it"]), replace(ICU, columns=columns))
    assert names(decision) == ("age",)


PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "packs.md"


@pytest.mark.parametrize("name", ["health", "text"])
def test_the_page_says_of_every_rule_what_it_encodes_and_what_it_does_not_do(name: str) -> None:
    cells = r"^\| `([a-z.-]+)` \| ([^|]+) \| [^|]{9,} \| [^|]{9,} \|$"
    said = dict(re.findall(cells, PAGE.read_text("utf-8"), re.MULTILINE))
    for one in PolicyBundle.read(packs.load(name, "clinic"), "clinic").rules:
        assert one.ticket == said[one.id.removeprefix("clinic.")] or one.ticket == "", one.id
        assert one.description
