"""Who received rows of a person: a right of its own, and an answer that recounting gives, too."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import random
import uuid
from typing import Any

import pyarrow as pa
import pytest

import gateway.wire as W
from gateway.delivery.geometry import segments_of
from gateway.delivery.spec import LeaseSpec
from gateway.domain.access import digest_of
from gateway.domain.dataset import DatasetRef
from gateway.domain.events import EventDraft, EventKind
from gateway.domain.lease import Grant, OrderSpec
from gateway.errors import (
    AccessDenied,
    InvalidInput,
    LimitExceeded,
    NotFound,
    PolicyError,
    Unavailable,
    UnknownName,
)
from gateway.policy.write import RuleWish, write_rule
from gateway.services import audit, consents, erase, persons, reports, request_access, sources
from gateway.services.house import PERSONS_PER_HOUR, House
from gateway.services.request_access import Ask, Caller
from gateway.services.stream import may_be_direct, order_key_of
from gateway.wire import ErasureRequest
from tests.services.registrations import ended, manifest_of, registered, rows_of
from tests.services.simulator import add_rules, add_tenant, caller
from tests.services.vaults import run
from tests.shards.warm import Zygote

OWNER, JOB = caller("clinic", "owner", "owner"), caller("startup", "ml", "trainer")
DPO = caller("clinic", "dpo", "person-auditor")
SECRET = "patient 4711 \N{SNOWMAN}"
RULES = "format: gateway-policy/v0\nrules:\n" + "".join(
    f"""
  - id: clinic.icu.{purpose}
    kind: allow
    principals: [startup/*]
    scope: dataset:clinic/icu
    actions: [stream, preview, export]
    purpose: [{purpose}]
    columns: [hr]
    combinable: true
    {more}
"""
    for purpose, more in {
        "research": "",
        "marketing": 'masks: {hr: "x-bucket:10"}',
        "analytics": "where: age < 5",
        "safety": "where: age is null",
    }.items()
)
DIRECT, VIEW, FILTERED, NOBODY = "research", "marketing", "analytics", "safety"


@pytest.fixture
def clinic(house: House, warm: Zygote) -> House:
    async def arrange() -> None:
        await add_tenant(house, "clinic", ("owner", "owner"), ("dpo", "person-auditor"))
        await add_tenant(house, "startup", ("ml", "trainer"))

    run(arrange())
    return house


def register(house: House, table: Any, **options: Any) -> None:
    options = {"person_column": "patient", "profile": "train", **options}
    run(registered(house, OWNER, "clinic/icu", table, **options))
    if not house.catalog.grants():
        run(add_rules(house, "clinic", RULES))


def ask(who: Caller, house: House, **given: Any) -> Any:
    name = given.pop("question", "runs-of-person")
    parameters = {"dataset": "clinic/icu", "person": SECRET, "purpose": "legal-obligation"}
    asked = {key: value for key, value in {**parameters, **given}.items() if value is not None}
    return run(audit.ask(house, who, name, W.AskRequest(parameters=asked)))


def questions(house: House) -> list[Any]:
    return [e for e in house.journal.read(0) if e.kind is EventKind.QuestionAsked]


def test_only_who_may_audit_persons_asks_and_says_why(clinic: House) -> None:
    for who in (OWNER, JOB, caller("clinic", "eva", "auditor"), caller("rival", "x", "owner")):
        with pytest.raises((AccessDenied, NotFound)):
            ask(who, clinic)
    for missing in ({"purpose": None}, {"person": None}, {"purpose": "curiosity"}, {"person": ""}):
        with pytest.raises(InvalidInput) as caught:
            ask(DPO, clinic, **missing)
        assert SECRET not in str(caught.value.advice) + caught.value.message
    with pytest.raises(InvalidInput, match="not a parameter"):
        ask(caller("clinic", "eva", "auditor"), clinic, question="who-read", purpose=None)
    assert questions(clinic) == []


def test_a_purpose_that_the_rules_do_not_name_is_denied(clinic: House) -> None:
    rule = """
format: gateway-policy/v0
rules:
  - id: clinic.dpo
    kind: allow
    principals: [clinic/role:dpo]
    scope: tenant:clinic
    actions: [audit-person]
    purpose: [legal-obligation]
"""
    run(add_rules(clinic, "clinic", rule))
    with pytest.raises(AccessDenied):
        ask(caller("clinic", "eva", "dpo"), clinic, purpose="marketing")
    with pytest.raises(UnknownName, match="no dataset `clinic/icu` in the history"):
        ask(caller("clinic", "eva", "dpo"), clinic)


def test_a_rule_of_one_dataset_lets_ask_about_its_persons_and_of_no_other(clinic: House) -> None:
    """What `policy new clinic/icu --allow audit-person` writes."""
    register(clinic, pa.table({"patient": [SECRET, "x"], "age": [1, 2], "hr": [3, 4]}))
    wish = RuleWish(
        dataset=DatasetRef.parse("clinic/icu"),
        allow=("audit-person",),
        to=("role:dpo",),
        purpose=("legal-obligation",),
    )
    for text in write_rule(wish, now=clinic.now()).files.values():
        if "\nrules:" in text:
            run(add_rules(clinic, "clinic", text))
    eva = caller("clinic", "eva", "dpo")
    with pytest.raises(InvalidInput, match="person"):  # she may ask: of these ids there are none
        ask(eva, clinic, person="")
    for refused in (
        {"purpose": "marketing"},
        {"dataset": "clinic/other"},
        {"question": "consents-of-person", "dataset": None},
    ):
        with pytest.raises(AccessDenied):
            ask(eva, clinic, **refused)


@pytest.mark.parametrize("action", ["register", "publish", "revoke", "consent", "operate"])
def test_a_rule_that_no_question_can_match_is_not_written(action: str) -> None:
    wish = RuleWish(dataset=DatasetRef.parse("clinic/icu"), allow=(action,), to=("role:dpo",))
    with pytest.raises(PolicyError, match="never about a dataset") as refused:
        write_rule(wish, now=1.8e9)
    assert "scope: tenant:clinic" in refused.value.advice


def test_questions_about_persons_are_few_and_each_is_recorded_first(clinic: House) -> None:
    for _ in range(PERSONS_PER_HOUR):
        with pytest.raises(Unavailable):  # lineage is not there: the record is
            ask(DPO, clinic, question="consents-of-person")
    with pytest.raises(LimitExceeded) as caught:
        ask(DPO, clinic)
    assert caught.value.facts["retry_after_seconds"] > 0
    asked = questions(clinic)
    assert len(asked) == PERSONS_PER_HOUR
    told = asked[0].details["parameters"]
    assert told["person"] == consents.tag_of(clinic, "clinic", SECRET)
    assert told["purpose"] == "legal-obligation"
    wanted = W.ReportRequest(parameters={
        "dataset": "clinic/icu", "person": SECRET, "purpose": "audit"
    })  # fmt: skip
    with pytest.raises(LimitExceeded):
        run(reports.make(clinic, DPO, "person", wanted))


def test_no_id_of_a_person_is_written_anywhere(
    clinic: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    register(clinic, pa.table({"patient": [SECRET, "x"], "age": [1, 2], "hr": [3, 4]}))
    use(clinic, FILTERED, OrderSpec(), "all")
    with pytest.raises(Unavailable):
        ask(DPO, clinic)
    raw = SECRET.encode()
    hashes = [hashlib.new(name, raw) for name in ("sha256", "sha1", "md5", "blake2b")]
    forbidden = [raw, *(h.digest() for h in hashes), *(h.hexdigest().encode() for h in hashes)]
    forbidden.append(SECRET.encode("unicode_escape"))
    forbidden.append(digest_of({"person": SECRET}).encode())
    files = [path for path in clinic.settings.state_dir.rglob("*") if path.is_file()]
    assert len(files) > 10
    for data in (*(path.read_bytes() for path in files), caplog.text.encode()):
        assert not [one for one in forbidden if one in data]
    (asked,) = questions(clinic)
    assert asked.facts["parameters_digest"] == digest_of(asked.details["parameters"])


# what was received


def use(
    house: House, purpose: str, order: OrderSpec, part: str, version: int = 1, **more: Any
) -> tuple[Grant, list[Any]]:
    """A Grant, and the segments of its stream of which `none`, a `part` or `all` were sent."""
    ask_ = Ask(dataset=f"clinic/icu@{version}", purpose=purpose, run=uuid.uuid4().hex, **more)
    grant = run(request_access.request_grant(house, JOB, ask_))[1]
    segments = _segments(house, grant, order)
    count = {"none": 0, "part": len(segments) // 2, "all": len(segments)}[part]
    if count:
        _deliver(house, grant, order, [s.number for s in segments[:count]], len(segments))
    return grant, segments[:count]


def _segments(house: House, grant: Grant, order: OrderSpec) -> list[Any]:
    """As the data worker lays them out; those of a view are simulated."""
    manifest = manifest_of(house, str(grant.plan.dataset))
    if not may_be_direct(manifest, grant.plan):
        return [dataclasses.make_dataclass("S", ["number"])(n) for n in range(4)]
    source, _ = sources.direct_source(house, manifest, grant.plan)
    spec = LeaseSpec(
        lease="l", key=b"", boot="", plan_digest="", policy_epoch=0, expires_at=0, order=order,
        order_key=order_key_of(house, grant, order), source=source,
    )  # fmt: skip
    return list(segments_of(spec))


def _deliver(house: House, grant: Grant, order: OrderSpec, sent: list[int], of: int) -> None:
    lease = house.id("lease_")
    facts: dict[EventKind, dict[str, Any]] = {
        EventKind.LeaseOpened: {
            "grant": grant.id, "run": grant.run, "worker": 0, "segments": of,
            "order": dataclasses.asdict(order), "view": grant.plan.purpose != DIRECT,
            "expires_at": grant.expires_at, "policy_epoch": 0, "plan_digest": "0" * 64,
        },
        EventKind.SegmentIntent: {
            "grant": grant.id, "first": min(sent), "last": max(sent), "rows": 1, "bytes": 1,
        },
        EventKind.SegmentsConfirmed: {"segments": sent, "rows": 1, "bytes": 1},
    }  # fmt: skip
    for kind, each in facts.items():
        house.record(
            EventDraft(
                kind=kind, owner_tenant="clinic", actor_tenant="startup", actor="startup/ml",
                facts={"lease": lease, **each},
            )
        )  # fmt: skip


def answer(house: House, person: object, dataset: str = "clinic/icu") -> dict[str, tuple[str, str]]:
    about = persons.About(person=str(person), told={})
    found = run(persons.held(house, "clinic", dataset, about))
    return {row["grant"]: (row["outcome"], row["because"]) for row in found}


def recounted(house: House, grant: Grant, part: str, sent: list[Any]) -> dict[int, str]:
    """Person -> outcome, from all rows of what was granted, opened and counted."""
    table = rows_of(house, str(grant.plan.dataset), grant.plan.split)
    people, ages = table.column("patient").to_pylist(), table.column("age").to_pylist()
    passing = {FILTERED: lambda age: age < 5, NOBODY: lambda _: False}.get(grant.plan.purpose)
    if grant.plan.purpose == DIRECT:
        rows, at = [], 0
        for shard in manifest_of(house, str(grant.plan.dataset)).shards_of(grant.plan.split):
            starts = range(at, at + shard.rows, shard.block_rows)
            rows += [range(s, min(s + shard.block_rows, at + shard.rows)) for s in starts]
            at += shard.rows
        got = {people[n] for segment in sent for block in segment.blocks for n in rows[block]}
        return {p: "delivered" if p in got else "not-read" for p in people}
    word = {"none": "not-read", "part": "possibly-delivered", "all": "delivered"}[part]
    kept = {p for p, age in zip(people, ages, strict=True) if passing is None or passing(age)}
    return {p: word if part == "none" or p in kept else "filtered" for p in people}


def test_the_answer_is_what_opening_and_counting_the_rows_gives(
    clinic: House, pytestconfig: pytest.Config
) -> None:
    drawn = random.Random(7)
    for version in range(1, 2 + 20 * pytestconfig.getoption("--long")):
        rows, count = drawn.randrange(200, 900), drawn.randrange(2, 60)
        ids = sorted(drawn.randrange(count) for _ in range(rows))
        if drawn.random() < 0.5:
            drawn.shuffle(ids)
        register(clinic, pa.table({
            "patient": pa.array(ids), "age": pa.array([drawn.randrange(12) for _ in ids]),
            "hr": pa.array(range(rows)),
        }), splits={"train": 0.7, "test": 0.3})  # fmt: skip
        made: dict[str, dict[int, str]] = {}
        for n in range(16):
            order = OrderSpec(
                seed=n, shuffle=drawn.random() < 0.7, lanes=drawn.choice((1, 3)),
                window_blocks=drawn.choice((1, 4)),
            )  # fmt: skip
            part = drawn.choice(("none", "part", "all", "part"))
            purpose = drawn.choice((DIRECT, DIRECT, VIEW, FILTERED, NOBODY))
            split = drawn.choice((None, "train", "test"))
            if n < 6:  # the order of blocks over several shards
                part, purpose, split = "part", DIRECT, None
            grant, sent = use(clinic, purpose, order, part, version, split=split)
            made[grant.id] = recounted(clinic, grant, part, sent)
        for person in {*drawn.sample(ids, 4), 99}:
            found = answer(clinic, person, f"clinic/icu@{version}")
            told = {grant: outcome for grant, (outcome, _) in found.items()}
            assert told == {grant: rows.get(person, "not-read") for grant, rows in made.items()}


SMALL = pa.table({"patient": [1, 1, 2, 3], "age": [1, 9, 9, 9], "hr": [1, 2, 3, 4]})


def test_what_cannot_be_known_is_said_to_be_unknown(clinic: House) -> None:
    register(clinic, SMALL, person_column=None)
    before, _ = use(clinic, DIRECT, OrderSpec(), "all")
    register(clinic, SMALL)
    filtered, _ = use(clinic, FILTERED, OrderSpec(), "all", 2)
    after, _ = use(clinic, DIRECT, OrderSpec(), "all", 2)
    assert answer(clinic, 2) == {
        before.id: ("unknown", "not-indexed"),
        filtered.id: ("filtered", "row-filter"),
        after.id: ("delivered", "stream"),
    }
    erased(clinic, "clinic/icu", "age")  # the filter's column: nobody can say any more
    assert answer(clinic, 2)[filtered.id] == ("possibly-delivered", "filter-not-read")
    erased(clinic, "clinic/icu@2")
    assert answer(clinic, 2)[after.id] == ("unknown", "erased")
    erased(clinic, "clinic/icu")
    assert set(answer(clinic, 2).values()) == {("unknown", "erased")}


def erased(house: House, ref: str, *columns: str) -> None:
    async def act() -> None:
        wanted = ErasureRequest(columns=columns, yes=True)
        await ended(await erase.erase(house, OWNER, persons.DatasetRef.parse(ref), wanted))

    run(act())


def test_what_is_under_way_may_have_been_delivered(clinic: House) -> None:
    register(clinic, SMALL)
    grant, _ = use(clinic, DIRECT, OrderSpec(), "none")
    assert answer(clinic, 1) == {grant.id: ("not-read", "nothing-read")}
    lease = house_lease(clinic, grant)
    assert answer(clinic, 1) == {grant.id: ("possibly-delivered", "in-flight")}
    clinic.record(
        EventDraft(
            kind=EventKind.LeaseClosed, owner_tenant="clinic", actor_tenant="startup",
            facts={"lease": lease, "reason_code": "lost"},
        )
    )  # fmt: skip
    assert answer(clinic, 1) == {grant.id: ("delivered", "stream")}  # nobody knows: too much


def test_a_stream_that_ended_in_the_middle_of_a_segment_may_have_sent_a_part(
    clinic: House,
) -> None:
    register(clinic, SMALL)
    grant, _ = use(clinic, DIRECT, OrderSpec(), "none")
    lease = house_lease(clinic, grant)
    clinic.record(
        EventDraft(
            kind=EventKind.LeaseClosed,
            owner_tenant="clinic",
            actor_tenant="startup",
            facts={"lease": lease, "reason_code": "revoked"},
        )
    )
    assert answer(clinic, 1) == {grant.id: ("possibly-delivered", "in-flight")}


def house_lease(house: House, grant: Grant) -> str:
    """An open stream whose only segment is about to be sent."""
    lease = house.id("lease_")
    opened = {
        "lease": lease, "grant": grant.id, "run": grant.run, "worker": 0, "segments": 1,
        "order": dataclasses.asdict(OrderSpec()), "view": False, "expires_at": grant.expires_at,
        "policy_epoch": 0, "plan_digest": "0" * 64,
    }  # fmt: skip
    intent = {"lease": lease, "grant": grant.id, "first": 0, "last": 0, "rows": 1, "bytes": 1}
    for kind, facts in ((EventKind.LeaseOpened, opened), (EventKind.SegmentIntent, intent)):
        house.record(
            EventDraft(
                kind=kind, owner_tenant="clinic", actor_tenant="startup", actor="startup/ml",
                facts=facts,
            )
        )  # fmt: skip
    return lease
