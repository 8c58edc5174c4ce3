"""What is made from another's data obeys the other's owner until he releases it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence

import pytest

import gateway.wire as W
from gateway.domain.access import Decision
from gateway.domain.dataset import DatasetRef
from gateway.domain.derivation import ANCESTORS_MAX
from gateway.domain.events import EventDraft, EventKind
from gateway.domain.lease import OrderSpec
from gateway.errors import DatasetSuspended, InvalidInput, LimitExceeded, NotFound
from gateway.services import derivation, describe, request_access, update, uploads
from gateway.services.gateway import Gateway
from gateway.services.house import House
from gateway.services.request_access import Ask, Caller
from tests.services.simulator import add_rules, add_tenant, add_version, caller
from tests.services.test_limits import begun

CLINIC, STARTUP = caller("clinic", "owner", "owner"), caller("startup", "owner", "owner")
TRAINER, STRANGER = caller("lab", "ml", "trainer"), caller("lab", "owner", "owner")
CLINIC_RULES = """\
format: gateway-policy/v0
rules:
  - {id: clinic.see, kind: allow, description: d, principals: [startup/*],
     scope: dataset:clinic/icu,
     actions: [discover, describe, stream], purpose: [research], columns: [age]}
"""
STARTUP_RULES = """\
format: gateway-policy/v0
rules:
  - {id: startup.all, kind: allow, description: d, principals: [lab/*], scope: tenant:startup,
     actions: [discover, describe, stream], purpose: [research], columns: [age, score]}
"""
DENY = """\
  - {id: clinic.no-lab, kind: deny, description: d, principals: [lab/*], scope: SCOPE,
     actions: [stream]WHEN}
"""


def made(
    house: House, name: str, columns: Sequence[str], *origins: str, version: int = 1
) -> DatasetRef:
    """A version that is recorded to be made from others."""
    tenant, _, short = name.partition("/")
    further = dict(derivation.facts(house, origins)[0])
    if version > 1:
        further["dataset_id"] = house.catalog.dataset(tenant, short).dataset_id
    add_version(house, tenant, short, columns, version=version, **further)
    return DatasetRef(tenant, short, version)


def tags(house: House, ref: str) -> dict[str, tuple[str, ...]]:
    resource = request_access.resource_of(house, DatasetRef.parse(ref))
    return {column.name: column.effective_tags for column in resource.columns}


def classify(house: House, name: str, given: dict[str, list[str]]) -> None:
    dataset = house.catalog.dataset(*name.split("/"))
    facts = {"dataset": name, "dataset_id": dataset.dataset_id, "tags": given}
    house.record(
        EventDraft(kind=EventKind.ColumnsClassified, owner_tenant=dataset.tenant, facts=facts)
    )


def ask(house: House, dataset: str) -> Decision:
    question = Ask(dataset=dataset, purpose="research")
    return asyncio.run(request_access.check(house, TRAINER, question))


def release(house: House, origin: str, derived: str) -> None:
    changes = W.DatasetChanges(release=derived)
    asyncio.run(update.update(house, CLINIC, DatasetRef.parse(origin), changes, None))


@pytest.fixture
def world(house: House) -> House:
    async def build() -> None:
        for tenant in ("clinic", "startup", "lab"):
            await add_tenant(house, tenant, ("owner", "owner"), ("ml", "trainer"))
        made(house, "clinic/icu", ["age", "diagnosis"])
        classify(house, "clinic/icu", {"1": ["pii.age"], "2": ["health"]})
        await add_rules(house, "clinic", CLINIC_RULES)
        await add_rules(house, "startup", STARTUP_RULES)
        made(house, "startup/risk", ["age", "score"], "clinic/icu@1")
        classify(house, "startup/risk", {"1": ["open"], "2": ["open"]})

    asyncio.run(build())
    return house


def deny(house: House, scope: str, when: str = "") -> None:
    rule = DENY.replace("SCOPE", scope).replace("WHEN", f', when: "{when}"' if when else "")
    asyncio.run(add_rules(house, "clinic", CLINIC_RULES + rule))


@pytest.mark.parametrize(
    ("scope", "when"),
    [
        ("dataset:clinic/icu", ""),
        ("tenant:clinic", ""),
        ("tag:health", ""),
        ("dataset:clinic/icu", "resource.name == 'icu'"),
    ],
)
def test_a_denial_of_the_origin_holds_until_its_owner_releases(
    world: House, scope: str, when: str
) -> None:
    assert ask(world, "startup/risk").is_allowed
    deny(world, scope, when)
    assert not ask(world, "startup/risk").is_allowed
    before = world.catalog.policy_epoch
    release(world, "clinic/icu", "startup/risk")
    assert world.catalog.policy_epoch > before
    assert ask(world, "startup/risk").is_allowed


def suspend(house: House, name: str, *, suspended: bool = True) -> W.DatasetDetail:
    changes = W.DatasetChanges(suspended=suspended, reason="a patient objected")
    gateway = Gateway(house)
    return asyncio.run(gateway.update_dataset(CLINIC, name, changes, None))


def test_a_suspended_origin_denies_what_was_made_from_it_until_resumed_or_released(
    world: House,
) -> None:
    suspend(world, "clinic/icu")
    denied = ask(world, "startup/risk")
    assert [reason.code for reason in denied.reasons] == ["dataset-suspended"]
    suspend(world, "clinic/icu", suspended=False)
    assert ask(world, "startup/risk").is_allowed
    suspend(world, "clinic/icu")
    release(world, "clinic/icu", "startup/risk")
    assert ask(world, "startup/risk").is_allowed
    made(world, "startup/risk", ["age", "score"], version=2)  # the release was of the first
    assert not ask(world, "startup/risk").is_allowed
    assert ask(world, "startup/risk@1").is_allowed


def test_a_suspended_origin_stops_grants_that_stand_and_their_streams(world: House) -> None:
    question = Ask(dataset="startup/risk", purpose="research")
    _, grant = asyncio.run(request_access.request_grant(world, TRAINER, question))
    world.workers = Stopping(world, begun(world, grant, OrderSpec()))  # type: ignore[assignment]
    answer = suspend(world, "clinic/icu")
    assert (answer.streams_stopped, answer.suspended) == (1, True)
    assert answer.slowest_ms is not None
    with pytest.raises(DatasetSuspended):
        update.require_active(world, grant)
    assert suspend(world, "clinic/icu", suspended=False).streams_stopped is None
    update.require_active(world, grant)


class Stopping:
    """Workers that hold one lease."""

    def __init__(self, house: House, lease: str) -> None:
        self.house, self.lease = house, lease

    async def close(self, lease: str, reason: str) -> object:
        assert (lease, reason) == (self.lease, "dataset-suspended")
        facts = {"lease": lease, "reason_code": reason}
        self.house.record(
            EventDraft(kind=EventKind.LeaseClosed, owner_tenant="startup", facts=facts)
        )
        return object()


def test_another_dataset_under_the_name_of_an_erased_origin_suspends_nothing(
    world: House,
) -> None:
    erase(world, "clinic/icu")
    add_version(world, "clinic", "icu", ["x"], version=2)
    suspend(world, "clinic/icu")
    assert [r.code for r in ask(world, "startup/risk").reasons] != ["dataset-suspended"]


def test_a_restriction_of_the_origin_binds_what_was_made_from_it_until_released(
    world: House,
) -> None:
    rule = """\
  - {id: clinic.few, kind: restrict, description: d, principals: ["*"], scope: SCOPE,
     actions: [stream], limits: {max_rows: 7}, masks: {age: "x-bucket:10"}}
"""
    for scope in ("dataset:clinic/icu", "tag:health", "tenant:clinic"):
        text = CLINIC_RULES + rule.replace("SCOPE", scope)
        asyncio.run(add_rules(world, "clinic", text))
        plan = ask(world, "startup/risk").plan
        assert plan is not None
        assert plan.limits.max_rows == 7
        assert [column.mask for column in plan.columns] == ["x-bucket:10", None]
    release(world, "clinic/icu", "startup/risk")
    plan = ask(world, "startup/risk").plan
    assert plan is not None
    assert plan.limits.max_rows is None


def test_an_allow_of_the_origin_opens_nothing_that_was_made_from_it(world: House) -> None:
    asyncio.run(add_rules(world, "startup", "format: gateway-policy/v0\nrules: []\n"))
    question = Ask(dataset="startup/risk", purpose="research")
    assert not asyncio.run(request_access.check(world, STARTUP, question)).is_allowed


def test_columns_inherit_tags_by_name_and_otherwise_all(world: House) -> None:
    assert tags(world, "startup/risk") == {
        "age": ("open", "pii.age"),
        "score": ("health", "open", "pii.age"),
    }
    classify(world, "clinic/icu", {"1": ["pii.birth"]})  # what he says later counts too
    assert tags(world, "startup/risk")["age"] == ("open", "pii.birth")
    release(world, "clinic/icu", "startup/risk@1")
    assert tags(world, "startup/risk") == {"age": ("open",), "score": ("open",)}


def test_nobody_sheds_an_origin_by_another_version_or_generation(world: House) -> None:
    made(world, "startup/risk", ["age", "score"], version=2)
    assert "pii.age" in tags(world, "startup/risk@2")["age"]
    release(world, "clinic/icu", "startup/risk@1")
    assert "pii.age" not in tags(world, "startup/risk@1")["age"]
    assert "pii.age" in tags(world, "startup/risk@2")["age"]  # the release was of the first
    made(world, "lab/third", ["x"], "startup/risk@2")
    assert set(tags(world, "lab/third")["x"]) == {"health", "open", "pii.age", "restricted"}
    release(world, "clinic/icu", "lab/third")  # the middle one is still bound, and so its rules
    assert tags(world, "lab/third")["x"] == ("health", "open", "pii.age", "restricted")
    release(world, "clinic/icu", "startup/risk")
    assert tags(world, "lab/third")["x"] == ("open", "restricted")


def test_only_what_one_may_see_can_be_an_origin(world: House) -> None:
    def begin(who: request_access.Caller, *origins: str) -> W.Registration:
        tenant = who.subject.tenant
        wanted = W.RegistrationRequest(
            dataset=f"{tenant}/new", files=(W.SourceFile(name="f", bytes=1),), derived_from=origins
        )
        return asyncio.run(uploads.begin(world, who, wanted))

    told = []
    for name in ("clinic/icu", "clinic/nothing"):
        with pytest.raises(NotFound) as refused:
            begin(STRANGER, name)
        told.append(refused.value.message.replace(name, "…"))
    assert told[0] == told[1]
    with pytest.raises(NotFound, match="no run"):
        begin(STARTUP, "run:nobody")
    with pytest.raises(InvalidInput):
        begin(STARTUP, "no reference")
    upload = world.uploads[begin(STARTUP, "clinic/icu").id]
    assert upload.wanted.derived_from == ("clinic/icu@1",)
    assert upload.wanted.card["derived_from"] == ["clinic/icu@1"]


def test_a_release_is_of_what_was_made_from_it_and_by_its_owner(world: House) -> None:
    made(world, "lab/own", ["x"])
    told = []
    for name in ("lab/own", "lab/nothing"):
        with pytest.raises(NotFound) as refused:
            release(world, "clinic/icu", name)
        told.append(refused.value.message.replace(name, "…"))
    assert told[0] == told[1]
    changes = W.DatasetChanges(release="startup/risk")
    with pytest.raises(NotFound):
        asyncio.run(update.update(world, STRANGER, DatasetRef("clinic", "icu"), changes, None))
    release(world, "clinic/icu", "startup/risk")
    index = world.catalog.index
    release(world, "clinic/icu", "startup/risk")
    assert world.catalog.index == index  # sent again, it changes nothing


def test_a_run_stands_for_all_that_it_read(world: House) -> None:
    reading = Ask(dataset="clinic/icu", purpose="research", run="train-1")
    reader = dataclasses.replace(STARTUP, subject=dataclasses.replace(STARTUP.subject, roles=()))
    asyncio.run(request_access.request_grant(world, reader, reading))
    (name,) = asyncio.run(derivation.pinned(world, STARTUP, ("run:train-1",)))
    facts, tenants = derivation.facts(world, (name,))
    assert facts["origin_runs"] == ["startup:train-1"]
    assert [(o["dataset"], o["version"]) for o in facts["origins"]] == [("clinic/icu", 1)]
    assert tenants == ("clinic",)
    with pytest.raises((NotFound, InvalidInput)):
        asyncio.run(derivation.pinned(world, STRANGER, ("run:startup:train-1",)))


def test_generations_are_bounded(world: House) -> None:
    origin = "clinic/icu@1"
    for n in range(1, ANCESTORS_MAX):
        origin = str(made(world, f"lab/d{n}", ["age"], origin))
    made(world, "lab/last", ["age"], origin)
    with pytest.raises(LimitExceeded, match="more than 64"):
        made(world, "lab/too-far", ["age"], "lab/last@1")
    assert tags(world, "lab/last") == {"age": ("pii.age", "restricted")}


def erase(house: House, name: str, version: int | None = None, columns: Sequence[int] = ()) -> None:
    """The event that ends it; keys and objects are no matter of judging."""
    dataset = house.catalog.dataset(*name.split("/"))
    facts = {
        "dataset": name,
        "dataset_id": dataset.dataset_id,
        "erasure": house.id("op_"),
        "version": version,
        "columns": list(columns),
        "root": 1,
        "keks": [],
        "deks": 1,
        "shards": 1,
        "shards_kept": 0,
    }
    house.record(EventDraft(kind=EventKind.DatasetErased, owner_tenant=dataset.tenant, facts=facts))


def test_a_card_names_to_others_only_the_origins_that_they_may_see(world: House) -> None:
    facts = {
        "dataset": "startup/risk",
        "dataset_id": world.catalog.dataset("startup", "risk").dataset_id,
    }
    card = {"title": "Risk", "derived_from": ["clinic/icu@1", "run:startup:train-1"]}
    details = {"card": card, "owners": [], "contact": ""}
    world.record(
        EventDraft(
            kind=EventKind.DatasetUpdated,
            owner_tenant="startup",
            facts={**facts, "card_digest": None, "changed": ["card"], "owners": 0},
            details=details,
        )
    )

    def shown(who: request_access.Caller) -> object:
        ref = DatasetRef("startup", "risk")
        return asyncio.run(describe.dataset(world, who, ref)).dataset.card

    assert shown(STARTUP) == card
    assert shown(TRAINER) == {"title": "Risk"}
    assert asyncio.run(describe.datasets(world, TRAINER, text="icu")) == []
    assert len(asyncio.run(describe.datasets(world, TRAINER, text="risk"))) == 1


def shown(house: House, who: Caller, ref: str) -> dict[str, tuple[str, ...]]:
    found = asyncio.run(describe.dataset(house, who, DatasetRef.parse(ref)))
    return {column.name: column.effective_tags for column in found.resource.columns}


def test_inherited_tags_are_told_only_of_columns_one_may_see(world: House) -> None:
    made(world, "startup/probe", ["diagnosis", "guess", "age"], "clinic/icu@1")
    judged = tags(world, "startup/probe")
    assert judged["guess"] == ("health", "pii.age", "restricted")
    told = shown(world, STARTUP, "startup/probe")  # he may see `age` of the origin
    assert told["age"] == told["diagnosis"] == told["guess"] == ("pii.age", "restricted")
    asyncio.run(add_rules(world, "clinic", CLINIC_RULES.replace("startup/*", "lab/*")))
    told = shown(world, STARTUP, "startup/probe")  # and now nothing of it
    assert set(told.values()) == {("restricted",)}
    assert tags(world, "startup/probe") == judged
