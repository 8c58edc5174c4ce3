"""Claims in lineage: on the side of who claims, apart from what was seen."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.domain.claim import COLUMNS_MAX, EDGES_MAX
from gateway.domain.consent import PERSONS_MAX
from gateway.errors import UnknownName
from gateway.lineage.asking import Asker, ask
from gateway.lineage.batch import ROWS_OF_EVENT_MAX
from gateway.lineage.projection import Projection
from gateway.lineage.questions import QUESTIONS
from gateway.lineage.views import with_views
from tests.lineage.history import History, clinic_and_startup
from tests.lineage.test_trace import graph, ids

OURS = {"kind": "dataset", "namespace": None, "name": "clinic/icu", "version": 1}
LAKE = {"kind": "dataset", "namespace": "s3://lake", "name": "/features", "version": None}
SHOP = {"kind": "dataset", "namespace": "postgres://db", "name": "shop.orders", "version": None}
RUN = {"kind": "run", "namespace": None, "name": "startup:run-1", "version": None}
JOB = {"kind": "job", "namespace": None, "name": "ab" * 16, "version": None}


def claim(history: History, tenant: str = "startup", number: int = 1, **changes: Any) -> None:
    facts = {
        "claim": f"{number:064x}", "type": "run", "state": "COMPLETE",
        "claimed_at": 1_780_000_000_000_000, "about": 0, "things": [RUN, JOB, OURS, LAKE, SHOP],
        "edges": [{"source": 2, "target": 0}, {"source": 4, "target": 0},
                  {"source": 0, "target": 3}],
        "columns": [{"source": 2, "source_column": "age", "target": 3, "target_column": "decade",
                     "type": "DIRECT", "subtype": "TRANSFORMATION", "masking": True}],
        **changes,
    }  # fmt: skip
    history.add("LineageClaimed", tenant, tenant, f"{tenant}/ml", **facts)


@pytest.fixture(scope="module")
def projection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Projection]:
    made = Projection(tmp_path_factory.mktemp("claims"), b"k" * 32)
    history = clinic_and_startup()
    claim(history)
    claim(history)  # twice in the journal: beyond what the catalogue remembers
    claim(history, "rival", 2)  # claims something about the clinic's dataset
    made.append(history.pairs())
    yield made
    made.close()


def kinds(found: dict[str, Any]) -> dict[tuple[str, str], str]:
    return {(e["source"], e["target"]): e["kind"] for e in found["edges"]}


def test_nobody_but_who_claims_sees_it(projection: Projection) -> None:
    for tenant in ("clinic", "lab", "stranger"):
        with pytest.raises(UnknownName):
            graph(projection, "dataset:s3://lake:/features", tenant)
    down = graph(projection, "clinic/icu", "clinic", direction="down")
    assert "claimed" not in {edge["kind"] for edge in down["edges"]}


def test_what_was_claimed_and_what_was_seen_meet_and_stay_apart(projection: Projection) -> None:
    found = kinds(graph(projection, "dataset:s3://lake:/features", "startup", direction="up"))
    assert found["run:startup/startup:run-1", "dataset:s3://lake:/features"] == "claimed"
    assert found["version:clinic/icu@1", "run:startup/startup:run-1"] == "claimed"
    assert found["dataset:clinic/icu", "version:clinic/icu@1"] == "version"


def test_a_claim_about_anothers_dataset_tells_its_claimant_nothing(projection: Projection) -> None:
    found = graph(projection, "version:clinic/icu@1", "rival")
    (node,) = [n for n in found["nodes"] if n["id"] == "version:clinic/icu@1"]
    assert node["facts"] == {}
    assert {edge["kind"] for edge in found["edges"]} == {"claimed"}
    assert ids(found, "grant") == set()


def test_a_foreign_node_is_a_reference_too(projection: Projection) -> None:
    for ref in ("dataset:postgres://db:shop.orders", "run:startup/startup:run-1"):
        assert graph(projection, ref, "startup")["starts"] == [ref]


def test_no_named_question_takes_a_claim_for_a_fact(projection: Projection) -> None:
    """Questions of observed facts never read a table of claims; one is about claims alone."""
    for question in QUESTIONS.values():
        sql, _ = question.statement()
        assert "claim_edge" not in sql
        assert "claim_column" not in sql
    given = {"dataset": "clinic/icu"}
    with projection.reading() as cursor:
        table = ask(cursor, QUESTIONS["downstream-of-dataset"], given,
                    asker=Asker(tenant="startup"), now=1_790_000_000.0)  # fmt: skip
    assert not any("lake" in str(row) for row in table.rows)


def test_columns_keep_how_they_were_made(projection: Projection) -> None:
    sql = with_views(("claim_column",), "SELECT DISTINCT source, source_column, target, "
                     "target_column, subtype, masking FROM seen_claim_column")  # fmt: skip
    with projection.reading() as cursor:
        rows = cursor.execute(sql, {"tenant": "startup", "operator": False}).fetchall()
    assert rows == [("clinic/icu", "age", "s3://lake:/features", "decade", "TRANSFORMATION", True)]


def columns(projection: Projection, ref: str, tenant: str, **more: Any) -> dict[str, Any]:
    return graph(projection, ref, tenant, of_columns=True, **more)


def test_an_owner_sees_which_runs_and_models_received_a_column(projection: Projection) -> None:
    found = kinds(columns(projection, "column:clinic/icu:age", "clinic"))
    assert found["column:clinic/icu:age", "run:startup/run-1"] == "masked"
    plain = kinds(columns(projection, "column:clinic/icu:hr", "clinic"))
    assert plain["column:clinic/icu:hr", "run:startup/run-1"] == "streamed"
    assert ("run:startup/run-1", "model:startup/sepsis-v2@sha256:" + "12" * 32) in found
    assert "claimed" not in found.values()
    every = ids(columns(projection, "clinic/icu@1", "clinic"), "column")
    assert {"column:clinic/icu:age", "column:clinic/icu:hr"} <= every


def test_who_claims_sees_what_a_column_became(projection: Projection) -> None:
    found = columns(projection, "dataset:s3://lake:/features", "startup", direction="up")
    key = ("column:clinic/icu:age", "column:s3://lake:/features:decade")
    assert kinds(found)[key] == "claimed"
    (node,) = [n for n in found["nodes"] if n["id"] == key[1]]
    assert node["facts"]["inputFields"] == [
        {"dataset": "clinic/icu", "field": "age", "transformationType": "DIRECT",
         "transformationSubtype": "TRANSFORMATION", "masking": True}
    ]  # fmt: skip
    for tenant in ("clinic", "rival"):
        with pytest.raises(UnknownName):
            columns(projection, key[1], "lab" if tenant == "clinic" else "stranger")
    assert ids(columns(projection, key[0], "clinic"), "column") == {key[0]}


def test_a_column_of_any_name_is_found_and_is_never_a_pattern(projection: Projection) -> None:
    for name in (".*", "age|hr", "", "\\E.*", "a:b"):
        with pytest.raises(UnknownName):
            columns(projection, f"column:clinic/icu:{name}", "clinic")


def test_a_claim_of_nothing_is_projected_too(tmp_path: Path) -> None:
    history = clinic_and_startup()
    claim(history, things=[RUN], edges=[], columns=[])
    made = Projection(tmp_path, b"k" * 32)
    made.append(history.pairs(made.projected, len(history.events) - 1))
    made.append(history.pairs(made.projected))
    assert made.projected == len(history.events)
    made.close()


def test_the_largest_claims_at_once_leave_the_file_as_its_seal_says(tmp_path: Path) -> None:
    history = clinic_and_startup()
    things = [{**LAKE, "name": f"/t/{n}"} for n in range(512)]
    edges = [{"source": n % 512, "target": (n * 7 + 1) % 512} for n in range(EDGES_MAX)]
    for number in range(70):  # 143,360 edges: more than a row group
        claim(history, number=number, things=things, edges=edges, columns=[])
    made = Projection(tmp_path / "a", b"k" * 32)
    made.append(history.pairs(stop=20))
    made.seal()
    made.append(history.pairs(made.projected))
    shutil.copytree(tmp_path / "a", tmp_path / "killed")
    opened = Projection(tmp_path / "killed", b"k" * 32)
    assert (opened.rebuilt_because, opened.projected) == (None, 20)
    opened.close()
    made.close()


def test_one_event_is_never_more_rows_than_are_counted_for() -> None:
    assert max(EDGES_MAX, COLUMNS_MAX, PERSONS_MAX) <= ROWS_OF_EVENT_MAX
