"""An unmodified OpenLineage client against a real gateway."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import requests
from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import column_lineage_dataset
from openlineage.client.transport.http import (
    ApiKeyTokenProvider,
    HttpCompression,
    HttpConfig,
    HttpTransport,
)

from tests.journeys.home import Home, wait
from tests.lineage.receiver import Receiver

RUN_ID = "01912a3b-0000-7000-8000-000000000001"


@pytest.fixture(scope="module")
def home(receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    root = tmp_path_factory.mktemp("openlineage")
    sinks = f"{receiver.url} home={(root / 'told.jsonl').as_uri()}"
    made = Home.make(root, variables={"GATEWAY_LINEAGE_SINKS": sinks})
    made.start()
    made.client().datasets.register("home/icu", pa.table({"age": [1, 2, 3]}))
    yield made
    made.end()


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def client(home: Home, key: str, compression: HttpCompression | None) -> OpenLineageClient:
    config = HttpConfig(
        url=str(home.settings.server),
        auth=ApiKeyTokenProvider({"api_key": key}),
        compression=compression,
    )
    return OpenLineageClient(transport=HttpTransport(config))


def event(state: RunState, second: int) -> RunEvent:
    field = column_lineage_dataset.InputField("dataset-gateway", "home/icu@1", "age")
    fields = {"decade": column_lineage_dataset.Fields([field])}
    facet: Any = column_lineage_dataset.ColumnLineageDatasetFacet(fields)
    return RunEvent(
        eventType=state,
        eventTime=datetime(2026, 11, 25, 10, 0, second, tzinfo=UTC).isoformat(),
        run=Run(RUN_ID),
        job=Job("airflow", "features.daily"),
        producer="https://example.com/pipeline",
        inputs=[InputDataset("dataset-gateway", "home/icu@1")],
        outputs=[OutputDataset("s3://lake", "/features", facets={"columnLineage": facet})],
    )


def test_a_pipeline_tells_its_lineage_with_a_key_and_nothing_else(home: Home) -> None:
    key = json.loads(home.run("lineage", "key", "--valid", "1d", "--json"))["key"]
    client(home, key, None).emit(event(RunState.START, 1))
    packed = client(home, key, HttpCompression.GZIP)
    for _ in range(2):  # a retry whose answer was lost
        packed.emit(event(RunState.COMPLETE, 2))
    seen = json.loads(home.run("lineage", "trace", "home/icu", "--json"))
    edges = {(e["source"], e["target"], e["kind"]) for e in seen["edges"]}
    assert edges == {
        ("dataset:home/icu", "version:home/icu@1", "version"),
        ("version:home/icu@1", f"run:home/home:{RUN_ID}", "claimed"),
        (f"run:home/home:{RUN_ID}", "dataset:s3://lake:/features", "claimed"),
    }
    drawn = home.run("lineage", "trace", "home/icu", "--column", "age")
    assert drawn.splitlines() == [
        "column home/icu:age",
        "└─ claimed column s3://lake:/features:decade",
    ]
    sql = "SELECT count(*) AS n FROM claim"
    (row,) = json.loads(home.run("lineage", "query", sql, "--json"))["items"]
    assert row["n"] == 2


def test_the_key_opens_nothing_else(home: Home, tmp_path: Path) -> None:
    key = json.loads(home.run("lineage", "key", "--json"))["key"]
    server = home.settings.server
    headers = {"Authorization": f"Bearer {key}"}
    for path in ("/v1/datasets", "/v1/whoami", "/api/v1/lineage?nodeId=home/icu"):
        assert requests.get(f"{server}{path}", headers=headers, timeout=30).status_code == 401
    home.client().transport.revoke(key)
    with pytest.raises(requests.HTTPError, match="401"):
        client(home, key, None).emit(event(RunState.FAIL, 3))


def test_a_run_is_told_and_a_sink_that_hangs_holds_up_no_stream(
    home: Home, receiver: Receiver
) -> None:
    receiver.hangs = True
    gw = home.client()
    new = ("policy", "new", "home/icu", "--to", "role:trainer", "--purpose", "research")
    home.run(*new, "--columns", "age", "--push", "--dir", str(home.root / "rules"))
    how = {"purpose": "research", "batch_size": 2}
    rows = sum(len(b["age"]) for b in gw.stream("home/icu", run="run:r1", **how))
    gw.runs.finish("home:r1", model="m")
    path = home.root / "told.jsonl"
    wait(lambda: path.exists() and len(path.read_text().splitlines()) == 2, 30, "not told")
    events = [json.loads(line) for line in path.read_text().splitlines()]
    assert [event["eventType"] for event in events] == ["START", "COMPLETE"]
    (grant,) = events[1]["inputs"][0]["inputFacets"]["gateway_access"]["grants"]
    assert (rows, grant["rowsDelivered"], grant["columns"]) == (3, 3, ["age"])
    url = events[1]["inputs"][0]["inputFacets"]["gateway_access"]["_schemaURL"].partition("#")[0]
    assert requests.get(url, timeout=30).json()["$id"] == url
    ready = requests.get(f"{home.settings.server}/readyz", timeout=30).json()
    assert ready["ready"]
    assert "events behind" in ready["checks"]["lineage-sinks"]["detail"]
    assert "told.jsonl: up to event" in home.run("doctor")
    home.kill("lineage")
    receiver.hangs = False
    # What hung is answered now, and was sent again meanwhile: at least once.
    wait(lambda: "COMPLETE" in _types(receiver), 30, "not told")
    assert list(dict.fromkeys(_types(receiver))) == ["START", "COMPLETE"]


def _types(receiver: Receiver) -> list[str]:
    return [event["eventType"] for event in list(receiver.events)]
