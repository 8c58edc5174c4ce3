"""The graph: whose side it is on, and how it is drawn."""

from __future__ import annotations

import xml.etree.ElementTree as ET  # our own output
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.client import graph as graph_
from gateway.errors import InvalidInput, UnknownName
from gateway.lineage.projection import Projection
from gateway.lineage.trace import Walk, trace
from tests.lineage.history import History, clinic_and_startup


@pytest.fixture(scope="module")
def projection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Projection]:
    made = Projection(tmp_path_factory.mktemp("trace"), b"k" * 32)
    history = clinic_and_startup()
    grant = history.decide("startup/ml", "rival/xray", run="run-1")  # the same run reads a rival
    history.read(history.lease(grant), [0], 999)
    made.append(history.pairs())
    yield made
    made.close()


def graph(projection: Projection, ref: str, tenant: str | None, **more: Any) -> dict[str, Any]:
    with projection.reading() as cursor:
        return trace(cursor, ref, tenant=tenant, walk=Walk(**more))


def ids(found: dict[str, Any], kind: str) -> set[str]:
    return {node["id"] for node in found["nodes"] if node["kind"] == kind}


@pytest.mark.parametrize(
    "ref", ["clinic/icu", "clinic/icu@1", "run:run-1", "run:startup/run-1", "model:sepsis-v2"]
)
def test_a_stranger_finds_nothing(projection: Projection, ref: str) -> None:
    with pytest.raises(UnknownName):
        graph(projection, ref, "stranger")


@pytest.mark.parametrize(
    "ref",
    ["", "x", "a/b/c", "clinic/.*", "run:", "grant_.*", "run:.*", "model:.*", "x" * 1101, None],
)
def test_a_reference_is_a_name_and_never_a_pattern(projection: Projection, ref: Any) -> None:
    with pytest.raises((InvalidInput, UnknownName)):
        graph(projection, ref, "clinic")


@pytest.mark.parametrize(
    ("ref", "nearest"),
    [
        ("clinic/icu@7", ["clinic/icu@2", "clinic/icu@1"]),
        ("run:run-11", ["run:run-1"]),
        ("run:startup/run-11", ["run:run-1"]),
        ("model:sepsis-v3", ["model:sepsis-v2"]),
        ("grant_nobody", []),
        ("dataset:s3://lake:rows", []),
        ("job:startup/nobody", []),
        ("column:clinic/icu:agee", ["age"]),
        ("column:clinic/icuu:age", ["clinic/icu"]),
        ("clinic/icuu", ["clinic/icu"]),
    ],
)
def test_a_mistyped_reference_is_named_with_what_is_near_it(
    projection: Projection, ref: str, nearest: list[str]
) -> None:
    of_columns = ref.startswith("column:")
    with pytest.raises(UnknownName) as refused:
        graph(projection, ref, "clinic", of_columns=of_columns)
    assert set(nearest) <= set(refused.value.facts["nearest"])
    with pytest.raises(UnknownName) as refused:
        graph(projection, ref, "stranger", of_columns=of_columns)
    assert refused.value.facts["nearest"] == []


@pytest.mark.parametrize("ref", ["column:clinic/new:hr", "run:run-denied", "clinic/denied"])
def test_what_is_known_and_went_nowhere_stands_alone(tmp_path: Path, ref: str) -> None:
    history = clinic_and_startup()
    history.version("clinic/new")
    history.decide(
        "startup/ml", "clinic/denied", allow=False, reasons=("no-rule",), run="run-denied"
    )
    made = Projection(tmp_path, b"k" * 32)
    made.append(history.pairs())
    found = graph(made, ref, "clinic", of_columns=ref.startswith("column:"))
    assert (len(found["nodes"]), found["edges"]) == (1, [])
    assert graph_.tree(found["nodes"], found["edges"]).endswith(f"{ref.partition(':')[2] or ref}\n")
    made.close()


def test_a_column_that_left_without_a_run_or_as_keys_is_traced_to_its_grant(tmp_path: Path) -> None:
    history = History()
    history.version("clinic/icu")
    read = history.decide("startup/ml", "clinic/icu", columns=(2,), run=None)
    history.read(history.lease(read), [0], 10)
    copy = history.decide("startup/ml", "clinic/icu", columns=(2,), run="run-1", action="export")
    history.add(
        "KeysReleased", "clinic", "startup", "startup/ml", dataset="clinic/icu",
        dataset_id="clinic-icu", version=1, grant=copy, decision="dec_" + "a" * 26,
        split=None, columns=[2], shards=["s1"], keys=1, rows=10, bytes=80,
    )  # fmt: skip
    history.finish("startup", "run-1", "copied")
    made = Projection(tmp_path, b"k" * 32)
    made.append(history.pairs())
    found = graph(made, "column:clinic/icu:hr", "clinic", of_columns=True)
    assert {(e["kind"], e["target"].partition("@")[0]) for e in found["edges"]} == {
        ("streamed", f"grant:{read}"),
        ("keys", "run:startup/run-1"),
        ("made", "model:startup/copied"),
    }
    things = graph(made, "model:copied", "clinic", direction="up")
    assert "version:clinic/icu@1" in ids(things, "version")
    made.close()


def test_an_owner_does_not_see_what_else_a_run_read(projection: Projection) -> None:
    found = graph(projection, "run:run-1", "clinic")
    assert ids(found, "dataset") == {"dataset:clinic/icu"}
    assert ids(found, "model") == {
        "model:startup/sepsis-v2@sha256:" + "12" * 32,
        "model:lab/lab-model@sha256:" + "12" * 32,
    }
    assert ids(graph(projection, "run:run-1", "rival"), "dataset") == {"dataset:rival/xray"}


def test_a_trainer_sees_all_that_went_into_its_model(projection: Projection) -> None:
    found = graph(projection, "model:sepsis-v2", "startup", direction="up")
    assert ids(found, "version") == {"version:clinic/icu@1", "version:rival/xray@1"}
    assert ids(found, "run") == {"run:startup/run-1"}


def test_directions_and_depth_bound_the_graph(projection: Projection) -> None:
    assert ids(graph(projection, "clinic/icu", "clinic", direction="up"), "version") == set()
    one = graph(projection, "clinic/icu", "clinic", direction="down", depth=1)
    assert ids(one, "version") == {"version:clinic/icu@1", "version:clinic/icu@2"}
    assert ids(one, "grant") == set()
    with pytest.raises(InvalidInput, match="direction"):
        graph(projection, "clinic/icu", "clinic", direction="sideways")


def test_a_nodes_id_is_a_reference_too(projection: Projection) -> None:
    for node in graph(projection, "clinic/icu", "clinic")["nodes"]:
        assert node["id"] in graph(projection, node["id"], "clinic")["starts"]


def test_facts_tell_what_was_granted_and_read(projection: Projection) -> None:
    found = graph(projection, "clinic/icu@1", "clinic")
    (grant,) = [n["facts"] for n in found["nodes"] if n["kind"] == "grant"]
    assert (grant["rows"], grant["columns"]) == (300, ["age", "hr", "label"])
    assert grant["revoked_at"].endswith("Z")


def test_a_tree_reads_from_dataset_to_model(projection: Projection) -> None:
    found = graph(projection, "clinic/icu@1", "clinic")
    lines = graph_.tree(found["nodes"], found["edges"]).splitlines()
    assert lines[0] == "dataset clinic/icu"
    assert [line.strip("└├─ │").split()[0] for line in lines[1:]] == [
        "version", "granted", "streamed", "made",
    ]  # fmt: skip
    ET.fromstring(graph_.svg(found["nodes"], found["edges"]))  # noqa: S314


def test_what_was_made_from_a_dataset_is_seen_by_both_owners_and_nobody_else(
    tmp_path: Path,
) -> None:
    history = clinic_and_startup()
    origins = [
        {"dataset": name, "dataset_id": name.replace("/", "-"), "version": 1}
        for name in ("clinic/icu", "rival/xray")
    ]
    history.version("startup/risk", origins=origins, origin_runs=["run-1"])
    made = Projection(tmp_path, b"k" * 32)
    made.append(history.pairs())

    def derived(tenant: str) -> set[tuple[str, str]]:
        found = graph(made, "startup/risk@1", tenant, direction="up", depth=1)
        return {(e["source"], e["kind"]) for e in found["edges"] if e["kind"] == "derived"}

    assert derived("clinic") == {("version:clinic/icu@1", "derived")}
    assert derived("rival") == {("version:rival/xray@1", "derived")}
    assert {name for name, _ in derived("startup")} == {
        "version:clinic/icu@1", "version:rival/xray@1", "run:startup/run-1"
    }  # fmt: skip
    with pytest.raises(UnknownName):
        derived("stranger")
    down = graph(made, "clinic/icu@1", "clinic", direction="down")
    assert "version:startup/risk@1" in ids(down, "version")
    made.close()
