"""A preview is an access like any other: judged, filtered, masked, bounded, recorded first."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
from collections.abc import Coroutine, Iterator
from typing import Any

import pyarrow as pa
import pytest

import gateway.wire as W
from gateway import bootstrap
from gateway.config import Settings
from gateway.domain.dataset import DatasetRef
from gateway.domain.events import EventKind
from gateway.errors import AccessDenied, InvalidInput, LimitExceeded, NotFound
from gateway.services import preview, request_access, sources, stream, update
from gateway.services.house import House
from gateway.services.request_access import Ask
from gateway.wire.leases import LeaseRequest, OrderRequest
from tests.services.conftest import open_house
from tests.services.registrations import registered
from tests.services.simulator import add_rules, add_tenant, caller

ROWS = 3000
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
  - id: clinic.icu.look
    kind: allow
    principals: [startup/role:trainer]
    scope: dataset:clinic/icu
    actions: [preview]
    purpose: [health-research]
    columns: [age, hr]
    masks: {age: "x-bucket:10"}
    where: age >= 80
  - id: clinic.icu.narrow
    kind: allow
    principals: [startup/role:narrow]
    scope: dataset:clinic/icu
    actions: [preview]
    purpose: [health-research]
    columns: [hr]
    where: age >= 80
  - id: clinic.icu.stream
    kind: allow
    principals: [startup/role:streamer]
    scope: dataset:clinic/icu
    actions: [stream]
    purpose: [health-research]
    columns: [age, hr]
"""
OWNER = caller("clinic", "owner", "owner")
TRAINER = caller("startup", "ml", "trainer")
STREAMER = caller("startup", "st", "streamer")
NARROW = caller("startup", "nn", "narrow")
STRANGER = caller("rival", "spy", "trainer")
ASK = Ask(dataset="clinic/icu", purpose="health-research")


def run(act: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(act)


async def furnish(house: House) -> None:
    await add_tenant(house, "clinic", ("owner", "owner"))
    await add_tenant(house, "startup", ("ml", "trainer"), ("st", "streamer"), ("nn", "narrow"))
    await add_tenant(house, "rival", ("spy", "trainer"))
    await registered(house, OWNER, "clinic/icu", ICU)
    await add_rules(house, "clinic", RULES)


@pytest.fixture(scope="module")
def icu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    base = tmp_path_factory.mktemp("icu")
    settings = Settings(**{f"{n}_dir": base / n for n in ("state", "config", "runtime")})
    bootstrap.init(settings)
    house = open_house(settings)
    run(furnish(house))
    yield house
    house.journal.close()


@pytest.fixture(autouse=True)
def resumed(icu: House) -> Iterator[None]:
    yield
    ref = DatasetRef.parse("clinic/icu")
    run(update.update(icu, OWNER, ref, W.DatasetChanges(suspended=False), None))


def table_of(shown: W.Preview) -> Any:
    return pa.ipc.open_stream(base64.b64decode(shown.arrow)).read_all()


def test_only_who_may_preview_sees_rows_and_denials_are_recorded(icu: House) -> None:
    start = icu.journal.durable_size
    with pytest.raises(NotFound):
        run(preview.preview(icu, STRANGER, ASK, 5))
    with pytest.raises(AccessDenied):
        run(preview.preview(icu, STREAMER, ASK, 5))
    with pytest.raises(AccessDenied):
        run(preview.preview(icu, TRAINER, dataclasses.replace(ASK, purpose="marketing"), 5))
    with pytest.raises(InvalidInput):
        run(preview.preview(icu, TRAINER, ASK, 101))
    kinds = [e.kind for e in icu.journal.read(start) if e.kind != EventKind.TenantHeads]
    assert kinds == [EventKind.AccessDecided] * 3
    assert not list(icu.places.views.iterdir())


def test_rows_come_filtered_masked_bounded_and_after_their_intent(icu: House) -> None:
    start = icu.journal.durable_size
    shown = run(preview.preview(icu, TRAINER, ASK, 7))
    rows = table_of(shown)
    expected = [n for n in range(ROWS) if n % 90 >= 80][:7]
    assert rows.to_pydict() == {"age": [80] * 7, "hr": [60 + n % 40 for n in expected]}
    assert shown.rows == 7
    assert "age" in (shown.row_filter or "")
    events = [e for e in icu.journal.read(start) if e.kind != EventKind.TenantHeads]
    assert [e.kind for e in events] == [
        EventKind.AccessDecided,
        EventKind.LeaseOpened,
        EventKind.SegmentIntent,
        EventKind.SegmentsConfirmed,
        EventKind.LeaseClosed,
    ]
    assert events[0].facts["action"] == "preview"
    assert events[0].facts["limits"]["max_rows"] == 7
    assert events[2].facts["rows"] == 7
    assert icu.catalog.grant(shown.grant).rows_charged == 7
    assert not icu.catalog.leases()
    assert not list(icu.places.views.iterdir())


def test_a_grant_to_preview_opens_no_stream(icu: House) -> None:
    ask = dataclasses.replace(ASK, action="preview")
    _, grant = run(request_access.request_grant(icu, TRAINER, ask))
    holder = dataclasses.replace(TRAINER, grant=grant.id)
    with pytest.raises(AccessDenied, match="opens no stream"):
        run(stream.open_lease(icu, holder, LeaseRequest(order=OrderRequest())))


def test_a_suspended_dataset_shows_nothing(icu: House) -> None:
    changes = W.DatasetChanges(suspended=True)
    run(update.update(icu, OWNER, DatasetRef.parse("clinic/icu"), changes, None))
    with pytest.raises(AccessDenied):
        run(preview.preview(icu, TRAINER, ASK, 5))


def test_what_changed_while_the_view_was_made_is_not_shown(
    icu: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = preview.views.build_view

    def slow(*arguments: Any) -> Any:
        made = build(*arguments)
        asyncio.run_coroutine_threadsafe(suspend(), loop).result()
        return made

    async def suspend() -> None:
        changes = W.DatasetChanges(suspended=True)
        await update.update(icu, OWNER, DatasetRef.parse("clinic/icu"), changes, None)

    async def act() -> None:
        nonlocal loop
        loop = asyncio.get_running_loop()
        await preview.preview(icu, TRAINER, ASK, 5)

    loop: Any = None
    monkeypatch.setattr(preview.views, "build_view", slow)
    start = icu.journal.durable_size
    with pytest.raises(AccessDenied):
        run(act())
    assert EventKind.SegmentIntent not in [e.kind for e in icu.journal.read(start)]
    assert not list(icu.places.views.iterdir())


def test_a_limit_on_bytes_holds_for_previews_too(icu: House) -> None:
    few = Ask(
        dataset="clinic/icu",
        purpose="health-research",
        limits=request_access.Limits(max_bytes=10),
    )
    with pytest.raises(LimitExceeded):
        run(preview.preview(icu, TRAINER, few, 5))


def test_a_withheld_column_is_denied_or_left_out_and_its_keys_stay_away(icu: House) -> None:
    """Without keys its metadata aborts pyarrow and a filter hangs it (tests/shards/killers.py)."""
    with pytest.raises(AccessDenied):
        run(preview.preview(icu, TRAINER, dataclasses.replace(ASK, columns=("name",)), 5))
    both = dataclasses.replace(ASK, columns=("age", "name"))
    assert table_of(run(preview.preview(icu, TRAINER, both, 5))).schema.names == ["age"]


def test_the_key_of_a_filters_withheld_column_goes_to_the_decoder_alone(
    icu: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, jobs, made = preview.views.build_view, [], []

    def seen(job: Any, progress: Any) -> Any:
        jobs.append(job)
        made.append(build(job, progress))
        return made[-1]

    monkeypatch.setattr(preview.views, "build_view", seen)
    shown = table_of(run(preview.preview(icu, NARROW, ASK, 5)))
    assert shown.to_pydict() == {"hr": [60, 61, 62, 63, 64]}  # of rows 80 to 84
    ids = {column.name: str(column.field_id) for column in jobs[0].manifest.columns}
    held = {dek.rpartition("/")[2] for dek in jobs[0].deks}
    assert held == {"footer", ids["hr"], ids["age"]}
    worker_gets, _ = sources._source(made[0], ())
    told = {n: v for n, v in dataclasses.asdict(worker_gets).items() if isinstance(v, bytes)}
    assert told == {"key": made[0].key, "schema": made[0].schema}
    assert made[0].key not in jobs[0].deks.values()
    assert pa.ipc.read_schema(pa.py_buffer(made[0].schema)).names == ["hr"]
