"""Keys leave only for whole columns of whole shards, to whom a rule says, after their record."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import hashlib
import json
from collections.abc import Coroutine, Iterator
from typing import Any

import pyarrow as pa
import pytest

import gateway.wire as W
from gateway import bootstrap
from gateway.catalog.catalog import Catalog
from gateway.catalog.codec import decode, encode
from gateway.catalog.state import State
from gateway.config import Settings
from gateway.crypto.envelope import commitment
from gateway.domain.access import Limits
from gateway.domain.dataset import DatasetRef
from gateway.domain.events import EventDraft, EventKind
from gateway.errors import (
    AccessDenied,
    DatasetSuspended,
    GatewayError,
    InvalidInput,
    LeaseRevoked,
    LimitExceeded,
    NotFound,
)
from gateway.services import export, request_access, revoke, update
from gateway.services.house import House
from gateway.services.request_access import Ask
from gateway.services.revoke import Selector
from tests.services.conftest import open_house
from tests.services.registrations import manifest_of, registered
from tests.services.simulator import add_rules, add_tenant, caller

ROWS = 4000
ICU = pa.table(
    {
        "age": pa.array([n % 90 for n in range(ROWS)]),
        "hr": pa.array([60 + n % 40 for n in range(ROWS)]),
        "name": pa.array([f"person {n}" for n in range(ROWS)]),
    }
)
RULES = """
format: gateway-policy/v0
rules:
  - {id: clinic.icu.copy, kind: allow, principals: [startup/role:trainer], scope: "dataset:clinic/icu",
     actions: [export, stream], purpose: [health-research], columns: [age, hr], combinable: true}
  - {id: clinic.icu.masked, kind: allow, principals: [startup/role:trainer], scope: "dataset:clinic/icu",
     actions: [export], purpose: [analytics], columns: [age, hr], masks: {age: "x-bucket:10"},
     combinable: true}
  - {id: clinic.icu.some, kind: allow, principals: [startup/role:trainer], scope: "dataset:clinic/icu",
     actions: [export], purpose: [safety], columns: [age, hr], where: age >= 18, combinable: true}
  - {id: clinic.icu.few, kind: allow, principals: [startup/role:trainer], scope: "dataset:clinic/icu",
     actions: [export], purpose: [credit-risk], columns: [hr], limits: {max_rows: 100}, combinable: true}
  - {id: clinic.icu.stream, kind: allow, principals: [startup/role:streamer],
     scope: "dataset:clinic/icu", actions: [stream, preview], purpose: [health-research],
     columns: [age, hr]}
"""  # noqa: E501
OWNER = caller("clinic", "owner", "owner")
TRAINER = caller("startup", "ml", "trainer")
STREAMER = caller("startup", "st", "streamer")
STRANGER = caller("rival", "spy", "trainer", "owner")
ASK = Ask(dataset="clinic/icu", purpose="health-research")


def run(act: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(act)


async def furnish(house: House) -> None:
    await add_tenant(house, "clinic", ("owner", "owner"))
    await add_tenant(house, "startup", ("ml", "trainer"), ("st", "streamer"))
    await add_tenant(house, "rival", ("spy", "trainer"))
    await registered(house, OWNER, "clinic/icu", ICU, splits={"train": 0.8, "test": 0.2})
    await add_rules(house, "clinic", RULES)


@pytest.fixture(scope="module")
def icu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    base = tmp_path_factory.mktemp("icu")
    places = {f"{name}_dir": base / name for name in ("state", "config", "runtime")}
    settings = Settings(**places)
    bootstrap.init(settings)
    house = open_house(settings)
    run(furnish(house))
    yield house
    house.journal.close()


def kinds(house: House, start: int) -> list[EventKind]:
    return [e.kind for e in house.journal.read(start) if e.kind != EventKind.TenantHeads]


@pytest.mark.parametrize("purpose", ["analytics", "safety", "credit-risk", "marketing"])
def test_what_keys_cannot_enforce_is_denied_and_no_key_is_opened(
    icu: House, purpose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, grants = icu.journal.durable_size, icu.catalog.grants()
    monkeypatch.delattr(export, "open_keys")
    with pytest.raises(AccessDenied) as denied:
        run(export.release(icu, TRAINER, dataclasses.replace(ASK, purpose=purpose)))
    if purpose != "marketing":
        assert "without --encrypted" in denied.value.advice
    assert kinds(icu, start) == [EventKind.AccessDecided]
    assert icu.catalog.decision(denied.value.decision or "").effect == "deny"
    assert icu.catalog.grants() == grants


def test_a_grant_to_stream_exports_nothing_and_strangers_see_nothing(icu: House) -> None:
    with pytest.raises(AccessDenied):
        run(export.release(icu, STREAMER, ASK))
    with pytest.raises(NotFound):
        run(export.release(icu, STRANGER, ASK))
    with pytest.raises(AccessDenied):  # not even the owner, without a rule
        run(export.release(icu, OWNER, ASK))
    streaming = dataclasses.replace(ASK, run="r1")
    _, grant = run(request_access.request_grant(icu, TRAINER, streaming))
    with pytest.raises(NotFound):
        run(export.part(icu, TRAINER, grant.id, 0, 0))
    exported = run(export.release(icu, TRAINER, streaming))
    assert exported.id != grant.id  # the run's Grant to stream is not shared


def test_keys_of_the_approved_leaves_and_footers_come_after_their_record(icu: House) -> None:
    start = icu.journal.durable_size
    done = run(export.release(icu, TRAINER, dataclasses.replace(ASK, columns=("age",))))
    manifest = manifest_of(icu, "clinic/icu")
    leaves = {
        "ref:" + leaf.dek: leaf.commitment
        for shard in manifest.shards
        for leaf in (shard.footer, *shard.leaves_of({1}))
    }
    found = {ref: commitment(base64.b64decode(key)) for ref, key in done.keys.items()}
    assert found == leaves
    named = [{s.footer_key, *s.column_keys.values()} for s in done.shards]
    assert set().union(*named) == set(leaves)
    assert kinds(icu, start) == [EventKind.AccessDecided, EventKind.KeysReleased]
    assert not any(key in repr(done) for key in done.keys.values())
    *_, release = icu.catalog.key_releases(manifest.dataset_id)
    assert release.recipient == "startup/ml"
    assert release.columns == (1,)
    assert release.shards == tuple(shard.id for shard in manifest.shards)
    assert icu.catalog.grant(done.id).rows_charged == ROWS


def test_releases_are_known_after_a_restart_and_from_a_snapshot(icu: House) -> None:
    done = run(export.release(icu, TRAINER, ASK))
    dataset_id = icu.catalog.dataset("clinic", "icu").dataset_id
    replayed = Catalog()
    for event in icu.journal.read(0):
        replayed.apply(event)
    saved = Catalog(decode(State, json.loads(json.dumps(encode(State, replayed.state)))))
    for catalog in (replayed, saved):
        assert catalog.key_releases(dataset_id) == icu.catalog.key_releases(dataset_id)
        assert len(catalog.key_releases(dataset_id, done.id)) == 1


@pytest.mark.parametrize(
    "change",
    [{"columns": [1, 3]}, {"version": 2}, {"dataset": "clinic/other"}, {"keys": -1}],
)
def test_a_record_that_does_not_fit_its_grant_is_no_record(
    icu: House, change: dict[str, Any]
) -> None:
    done = run(export.release(icu, TRAINER, ASK))
    event = [e for e in icu.journal.read(0) if e.kind == EventKind.KeysReleased][-1]
    draft = EventDraft(
        kind=event.kind,
        owner_tenant="clinic",
        actor_tenant="startup",
        actor="startup/ml",
        facts={**event.facts, **change},
    )
    with pytest.raises(InvalidInput):
        icu.record(draft)
    assert event.facts["grant"] == done.id


def test_no_key_leaves_when_the_record_cannot_be_written(
    icu: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = House.recorded

    async def full(house: House, draft: Any) -> int:
        if draft.kind == EventKind.KeysReleased:
            raise GatewayError("the disk is full")
        return await real(house, draft)

    monkeypatch.setattr(House, "recorded", full)
    with pytest.raises(GatewayError, match="disk is full"):
        run(export.release(icu, TRAINER, ASK))


def test_sealed_shards_come_in_parts_to_their_recipient_alone(
    icu: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "EXPORT_PART_BYTES", 10_000)
    done = run(export.release(icu, TRAINER, dataclasses.replace(ASK, split="test")))
    assert {shard.split for shard in done.shards} == {"test"}
    count = len(done.shards)
    shard, data = done.shards[0], b""
    while len(data) < shard.bytes:
        part = run(export.part(icu, TRAINER, done.id, 0, len(data)))
        assert 0 < len(part) <= 10_000
        data += part
    assert hashlib.sha256(data).hexdigest() == shard.sha256
    for who, number, start, error in (
        (STRANGER, 0, 0, NotFound),
        (STREAMER, 0, 0, NotFound),
        (OWNER, 0, 0, NotFound),
        (TRAINER, count, 0, NotFound),
        (TRAINER, 0, shard.bytes, InvalidInput),
    ):
        with pytest.raises(error):
            run(export.part(icu, who, done.id, number, start))


def test_a_split_that_is_not_there_is_denied(icu: House) -> None:
    grants = icu.catalog.grants()
    with pytest.raises(GatewayError):
        run(export.release(icu, TRAINER, dataclasses.replace(ASK, split="secret")))
    assert icu.catalog.grants() == grants


def test_revoking_and_suspending_end_the_download_and_say_what_left(icu: House) -> None:
    done = run(export.release(icu, TRAINER, ASK))
    ref = DatasetRef.parse("clinic/icu")
    run(update.update(icu, OWNER, ref, W.DatasetChanges(suspended=True), None))
    with pytest.raises((AccessDenied, DatasetSuspended)):
        run(export.part(icu, TRAINER, done.id, 0, 0))
    with pytest.raises(AccessDenied):
        run(export.release(icu, TRAINER, ASK))
    run(update.update(icu, OWNER, ref, W.DatasetChanges(suspended=False), None))
    assert run(export.part(icu, TRAINER, done.id, 0, 0))[:4] == b"PARE"
    ended = run(revoke.revoke(icu, OWNER, Selector(grant=done.id), "over"))
    assert ended.keys_released == len(done.keys)
    with pytest.raises(LeaseRevoked):
        run(export.part(icu, TRAINER, done.id, 0, 0))


def test_all_exports_of_a_run_share_one_budget(icu: House) -> None:
    ask = dataclasses.replace(ASK, run="r9", limits=Limits(max_rows=ROWS + 1))
    run(export.release(icu, TRAINER, ask))
    with pytest.raises(LimitExceeded):
        run(export.release(icu, TRAINER, ask))
