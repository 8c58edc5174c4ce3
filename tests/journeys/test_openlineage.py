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

from tests.journeys.home import Home

RUN_ID = "01912a3b-0000-7000-8000-000000000001"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    made = Home.make(tmp_path_factory.mktemp("openlineage"))
    made.start()
    made.client().datasets.register("home/icu", pa.table({"age": [1, 2, 3]}))
    yield made
    made.end()


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
