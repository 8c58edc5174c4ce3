"""Runs as RunEvents: when they start and end, what they tell, to whom, and that they are valid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from gateway.lineage.outgoing import Voice, happened, run_events
from gateway.lineage.projection import Projection
from gateway.wire import access_facet
from gateway.wire.openlineage import read
from tests.lineage.history import BEGIN, History
from tests.wire.test_openlineage import SPEC

HOST = "gateway.example:8787"
ISSUER = f"https://{HOST}"
LOG = {"node": "n1", "size": 10_000, "root": "ab" * 32}
PAGE = Path(__file__).parents[2] / "docs/formats/openlineage-access-v1.json"


class Told(History):
    """A history with what a sink would be told of it."""

    def __init__(self) -> None:
        super().__init__()
        for dataset in ("clinic/icu", "rival/xray"):
            self.version(dataset)

    def told(self, place: Path, tenant: str | None = None, start: int = 0) -> list[dict[str, Any]]:
        projection = Projection(place, b"k" * 32)
        projection.append(self.pairs(projection.projected))
        voice = Voice(issuer=ISSUER, tenant=tenant)
        with projection.reading() as cursor:
            found = happened(cursor, voice, start, projection.projected)
            together = run_events(cursor, voice, found, LOG)
            alone = [run_events(cursor, voice, [one], LOG)[0] for one in found[:20]]
            assert together[:20] == alone
        projection.close()
        return [json.loads(line) for line in together]

    def finished(self, run: str, **more: Any) -> None:
        facts = {"run": run, "model": None, "artifact_sha256": None, **more}
        self.add("RunFinished", "startup", "startup", "startup/ml", **facts)

    def closed(self, lease: str, reason: str, owner: str = "clinic") -> None:
        self.add("LeaseClosed", owner, None, None, lease=lease, reason_code=reason)


@pytest.fixture
def history() -> Told:
    return Told()


def states(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(event["job"]["name"], event["eventType"]) for event in events]


def names(event: dict[str, Any]) -> list[str]:
    return [dataset["name"] for dataset in event["inputs"]]


def test_a_run_starts_once_and_completes_with_its_model(history: Told, tmp_path: Path) -> None:
    grant = history.decide("startup/ml", "clinic/icu", run="startup:r1", masks={"1": "x-bucket:10"})
    history.read(history.lease(grant), [0, 1], 100)
    history.lease(grant)  # another rank
    second = history.decide("startup/ml", "rival/xray", run="startup:r1")
    history.lease(second)
    history.finished("startup:r1", model="sepsis", artifact_sha256="12" * 32)
    history.decide("startup/ml", "clinic/icu", run="startup:r2")  # a grant that is never used
    history.finished("startup:r2")
    events = history.told(tmp_path)
    assert states(events) == [
        ("startup/r1", "START"), ("startup/r1", "RUNNING"), ("startup/r1", "COMPLETE"),
    ]  # fmt: skip
    start, _, end = events
    assert len({event["run"]["runId"] for event in events}) == 1
    assert names(start) == ["clinic/icu"]
    assert names(end) == ["clinic/icu", "rival/xray"]
    assert end["outputs"][0]["name"] == "model:startup/sepsis"
    facet = end["inputs"][0]["inputFacets"]["gateway_access"]
    (told,) = facet["grants"]
    assert (told["grant"], told["purpose"], told["policyEpoch"]) == (grant, "health-research", 1)
    assert (told["columns"], told["masks"]) == (["age", "hr"], {"age": "x-bucket:10"})
    assert told["rowsDelivered"] == 100
    assert start["inputs"][0]["inputFacets"]["gateway_access"]["grants"][0]["rowsDelivered"] == 0
    assert facet["log"] == {**LOG, "index": len(history.events) - 3}
    assert end["inputs"][0]["facets"]["version"]["datasetVersion"] == "1"


def test_a_run_whose_last_grant_is_revoked_is_aborted_and_ends_once(
    history: Told, tmp_path: Path
) -> None:
    grants = [
        history.decide("startup/ml", dataset, run="startup:r1")
        for dataset in ("clinic/icu", "rival/xray")
    ]
    for grant in grants:
        history.lease(grant)
    for grant in grants:
        history.revoke(grant)
    history.finished("startup:r1")
    events = history.told(tmp_path)
    assert [event["eventType"] for event in events] == [
        "START", "RUNNING", "RUNNING", "ABORT", "OTHER",
    ]  # fmt: skip
    revoked = [g for d in events[2]["inputs"] for g in d["inputFacets"]["gateway_access"]["grants"]]
    assert sum("revokedAt" in grant for grant in revoked) == 1


@pytest.mark.parametrize(
    ("reason", "state"), [("returned", "COMPLETE"), ("revoked", "ABORT"), ("expired", "ABORT")]
)
def test_a_stream_that_nobody_named_is_a_run_of_its_own(
    history: Told, tmp_path: Path, reason: str, state: str
) -> None:
    grant = history.decide("startup/ml", "clinic/icu", run=None)
    leases = [history.lease(grant) for _ in range(2)]
    history.closed(leases[0], reason)
    events = history.told(tmp_path)
    assert [e["eventType"] for e in events] == ["START", "START", state]
    assert events[0]["run"]["runId"] == events[2]["run"]["runId"] != events[1]["run"]["runId"]


def test_a_run_named_by_a_uuid_keeps_it(history: Told, tmp_path: Path) -> None:
    name = "01912a3b-0000-7000-8000-000000000001"
    history.lease(history.decide("startup/ml", "clinic/icu", run=f"startup:{name}"))
    history.lease(history.decide("startup/ml", "clinic/icu", run="startup:r1"))
    first, second = history.told(tmp_path)
    assert first["run"]["runId"] == name
    assert second["run"]["runId"] != name


def test_a_tenants_sink_is_told_its_own_side(history: Told, tmp_path: Path) -> None:
    for dataset in ("clinic/icu", "rival/xray"):
        history.lease(history.decide("startup/ml", dataset, run="startup:r1"))
    history.lease(history.decide("lab/bob", "rival/xray", run="lab:r1"))
    history.finished("startup:r1", model="m")
    by_tenant = {
        tenant: history.told(tmp_path / str(tenant), tenant)
        for tenant in (None, "clinic", "rival", "startup", "stranger")
    }
    assert [names(e) for e in by_tenant["clinic"]] == [["clinic/icu"]] * 2
    assert states(by_tenant["clinic"])[0] == ("startup/r1", "START")
    assert {name for e in by_tenant["rival"] for name in names(e)} == {"rival/xray"}
    assert len(by_tenant["startup"]) == 3
    assert len(by_tenant[None]) == 4
    assert by_tenant["stranger"] == []
    assert "rival" not in json.dumps(by_tenant["clinic"])


def test_the_same_event_again_says_the_same(history: Told, tmp_path: Path) -> None:
    grant = history.decide("startup/ml", "clinic/icu", run="startup:r1")
    history.read(history.lease(grant), [0], 7)
    history.finished("startup:r1")
    first = history.told(tmp_path / "a")
    history.lease(grant)
    history.decide("startup/ml", "rival/xray", run="startup:r1")
    assert history.told(tmp_path / "b")[: len(first)] == first
    assert history.told(tmp_path / "b", start=len(history.events)) == []


def test_what_one_revocation_ends_is_told_together(history: Told, tmp_path: Path) -> None:
    grants = []
    for number in range(130):
        grants.append(history.decide("startup/ml", "clinic/icu", run=f"startup:r{number}"))
        history.lease(grants[-1])
    history.add("GrantRevoked", "clinic", "clinic", "clinic/own", grants=grants,
                reason_code="requested")  # fmt: skip
    start = len(history.events) - 1
    events = history.told(tmp_path, start=start)
    assert len(events) == 130
    assert {event["eventType"] for event in events} == {"ABORT"}


def test_the_schema_of_the_facet_is_published() -> None:
    assert json.loads(PAGE.read_text()) == access_facet.schema()


def test_every_event_is_valid_and_its_facet_too(history: Told, tmp_path: Path) -> None:
    grant = history.decide("startup/ml", "clinic/icu", run="startup:r1", masks={"2": "m"})
    history.read(history.lease(grant), [0], 7)
    history.revoke(grant)
    history.lease(history.decide("startup/ml", "clinic/icu", run=None))
    history.finished("startup:r1", model="gr-1", artifact_sha256="12" * 32)
    events = history.told(tmp_path)
    for event in events:
        assert read(event, HOST).type == "run"  # we take what we tell
        assert event["eventTime"] >= f"{BEGIN}"[:0]
    if not SPEC.is_dir():
        pytest.skip("the specification of OpenLineage is not here (GATEWAY_CORPORA)")
    known = [json.loads((SPEC / "OpenLineage.json").read_text()), access_facet.schema(ISSUER)]
    registry: Any = Registry().with_resources(
        (document["$id"], Resource.from_contents(document)) for document in known
    )
    whole = Draft202012Validator(
        known[0], registry=registry, format_checker=Draft202012Validator.FORMAT_CHECKER
    )
    facet = Draft202012Validator({"$ref": access_facet.schema_url(ISSUER)}, registry=registry)
    for event in events:
        whole.validate(event)
        for dataset in event["inputs"]:
            facet.validate(dataset["inputFacets"][access_facet.FACET])
