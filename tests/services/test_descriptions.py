"""What a description tells to whom: recipients learn nothing of what is hidden from them."""

from __future__ import annotations

import json
from typing import Any

import pytest

import gateway.wire as W
from gateway.domain.dataset import DatasetRef
from gateway.domain.events import EventDraft, EventKind
from gateway.errors import NotFound
from gateway.services import describe
from gateway.services.gateway import Gateway
from gateway.services.house import House
from gateway.wire import codec
from tests.services.simulator import add_rules, add_tenant, add_version, caller
from tests.services.test_access import OWNER, TRAINER, run

ANALYST = caller("clinic", "analyst", "analyst")
AUDITOR = caller("clinic", "bo", "auditor")
RULE = """
  - id: clinic.{name}.research
    kind: allow
    principals: [startup/role:trainer, clinic/role:analyst]
    scope: dataset:clinic/{name}
    actions: [discover, describe, stream]
    purpose: [research]
    columns: [age, hr]
    splits: [all]
"""


@pytest.fixture
def twins(house: House) -> House:
    """Two datasets that differ in hidden columns only, and in what these make of sizes."""

    async def arrange() -> None:
        await add_tenant(house, "clinic", ("owner", "owner"))
        await add_tenant(house, "startup", ("ml", "trainer"))
        add_version(house, "clinic", "plain", ["age", "hr"])
        secret = ["canary_before", "age", "hr", "canary_after"]
        add_version(
            house, "clinic", "secret", secret,
            bytes=9999, shards=3, profile="archive", manifest_digest="f" * 64,
            splits=[{"name": "all", "rows": 10}, {"name": "canary_split", "rows": 7}], rows=17,
        )  # fmt: skip
        rules = RULE.format(name="plain") + RULE.format(name="secret")
        await add_rules(house, "clinic", f"format: gateway-policy/v0\nrules:{rules}")
        secret_ref = DatasetRef("clinic", "secret")
        await describe.classify(house, OWNER, secret_ref, {"canary_after": ["canary.tag"]})

    run(arrange())
    return house


def views(house: House, who: Any, name: str) -> str:
    """Everything that the API says of a dataset, without its name and times."""
    gateway, ref = Gateway(house), f"clinic/{name}"

    async def ask() -> list[Any]:
        return [
            [one for one in await gateway.datasets(who, None, name) if one.dataset == ref],
            await gateway.dataset(who, ref),
            await gateway.dataset(who, f"{ref}@1"),
            await gateway.columns(who, ref),
            await gateway.versions(who, ref),
        ]

    shown = codec.encode(run(ask()))
    text = json.dumps(shown).replace(ref, "clinic/X")
    times = {version.registered_at for d in house.catalog.datasets() for version in d.versions}
    for time in times:
        text = text.replace(time, "T")
    return text


@pytest.mark.parametrize("who", [TRAINER, ANALYST])
def test_datasets_that_differ_in_hidden_columns_only_look_the_same(twins: House, who: Any) -> None:
    assert views(twins, who, "plain") == views(twins, who, "secret")
    assert "canary" not in views(twins, who, "secret")
    assert '"age"' in views(twins, who, "secret")
    assert '"rows": 10' in views(twins, who, "secret")


@pytest.mark.parametrize("who", [OWNER, AUDITOR])
def test_owners_and_auditors_of_the_tenant_are_told_all(twins: House, who: Any) -> None:
    shown = views(twins, who, "secret")
    assert all(word in shown for word in ("canary_before", "canary_split", "9999", "f" * 64))


def test_a_version_that_no_rule_reaches_is_left_out_of_the_list(twins: House) -> None:
    rule = RULE.format(name="plain").replace("dataset:clinic/plain", "tag:pii")
    rule = rule.replace("columns: [age, hr]", "tags: [pii]")
    run(add_rules(twins, "clinic", f"format: gateway-policy/v0\nrules:{rule}"))
    second = [{"field_id": 7, "name": "age", "type": "string", "nullable": True}]
    dataset = twins.catalog.dataset("clinic", "plain")
    add_version(
        twins, "clinic", "plain", [],
        columns=second, version=2, dataset_id=dataset.dataset_id,
    )  # fmt: skip
    run(describe.classify(twins, OWNER, DatasetRef("clinic", "plain"), {"age": ["pii"]}))
    gateway = Gateway(twins)
    assert [v.version for v in run(gateway.versions(TRAINER, "clinic/plain"))] == [2]
    assert [v.version for v in run(gateway.versions(OWNER, "clinic/plain"))] == [1, 2]


def test_a_search_by_tag_does_not_feel_for_hidden_columns(twins: House) -> None:
    gateway = Gateway(twins)
    assert [d.dataset for d in run(gateway.datasets(OWNER, "canary.tag", None))] == [
        "clinic/secret"
    ]
    assert run(gateway.datasets(TRAINER, "canary.tag", None)) == []
    assert len(run(gateway.datasets(TRAINER, "restricted", None))) == 2


def test_rows_behind_a_filter_are_not_counted_for_a_recipient(twins: House) -> None:
    filtered = RULE.format(name="plain").replace("splits: [all]", "where: age >= 18")
    run(add_rules(twins, "clinic", f"format: gateway-policy/v0\nrules:{filtered}"))
    detail = run(Gateway(twins).dataset(TRAINER, "clinic/plain"))
    assert (detail.rows, [split.rows for split in detail.splits]) == (None, [None])
    assert run(Gateway(twins).dataset(OWNER, "clinic/plain")).rows == 10


def test_what_values_look_like_is_told_to_the_owners_tenant_alone(twins: House) -> None:
    """The proposals of a visible column: another tenant, or who only streams, sees none of them."""
    facts = {
        "dataset": "clinic/found",
        "dataset_id": "f0" * 16,
        "version": 1,
        "profile": "train",
        "columns": [
            {"field_id": 1, "name": "contact", "type": "string", "nullable": True},
            {"field_id": 2, "name": "phone", "type": "string", "nullable": True},
        ],
        "splits": [{"name": "all", "rows": 10}],
        "rows": 10,
        "bytes": 100,
        "shards": 1,
        "manifest_digest": "0" * 64,
        "manifest_key": "manifests/x.json",
        "sheet_generation": 1,
        "card_digest": None,
    }
    twins.record(
        EventDraft(
            kind=EventKind.VersionRegistered, owner_tenant="clinic", actor_tenant="clinic",
            facts=facts, details={"hints": [[1, "e-mail", 70]]},
        )
    )  # fmt: skip
    rule = RULE.format(name="found").replace("[age, hr]", "[contact, phone]")
    run(add_rules(twins, "clinic", f"format: gateway-policy/v0\nrules:{rule}"))
    gateway = Gateway(twins)
    told = {c.name: c.proposed for c in run(gateway.columns(OWNER, "clinic/found"))}
    assert told == {
        "contact": W.ProposedTag(tag="pii.email", reason="e-mail", percent=70),
        "phone": W.ProposedTag(tag="pii.phone", reason="name", percent=None),
    }
    for who in (TRAINER, ANALYST):
        columns = run(gateway.columns(who, "clinic/found"))
        assert [(c.name, c.proposed) for c in columns] == [("contact", None), ("phone", None)]
        shown = views(twins, who, "found")
        assert "contact" in shown
        assert not any(word in shown for word in ("pii.", "e-mail", '"percent": 70'))
    stranger = caller("bank", "eve", "trainer")
    with pytest.raises(NotFound):
        run(gateway.columns(stranger, "clinic/found"))
