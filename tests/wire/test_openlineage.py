"""OpenLineage events: the specification's own tests are taken, what its schema refuses is not."""

from __future__ import annotations

import copy
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from referencing import Registry, Resource

from gateway.domain import claim
from gateway.errors import GatewayError, InvalidInput, TooLarge
from gateway.wire.openlineage import Claimed, read

HOST = "gateway.example:8787"
SPEC = Path(
    os.environ.get("GATEWAY_CORPORA", Path(__file__).parents[2] / "../shared/corpora")
).joinpath("openlineage/spec")
BASE: dict[str, Any] = {"_producer": "http://p", "_schemaURL": "http://s"}
EVENT: dict[str, Any] = {
    "eventType": "COMPLETE",
    "eventTime": "2026-11-25T10:00:00.123456Z",
    "producer": "https://example.com/p",
    "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent",
    "run": {"runId": "01912a3b-0000-7000-8000-000000000001", "facets": {"tags": {**BASE}}},
    "job": {"namespace": "airflow", "name": "dag.task", "facets": {}},
    "inputs": [
        {
            "namespace": "dataset-gateway",
            "name": "clinic/icu@3",
            "inputFacets": {"inputStatistics": {**BASE, "rowCount": 3}},
        },
        {"namespace": "postgres://db:5432", "name": "shop.orders"},
    ],
    "outputs": [
        {
            "namespace": "s3://lake",
            "name": "/features",
            "facets": {
                "columnLineage": {
                    **BASE,
                    "fields": {
                        "decade": {
                            "inputFields": [
                                {
                                    "namespace": "dataset-gateway",
                                    "name": "clinic/icu@3",
                                    "field": "age",
                                    "transformations": [
                                        {
                                            "type": "DIRECT",
                                            "subtype": "TRANSFORMATION",
                                            "masking": True,
                                        }
                                    ],
                                }
                            ]
                        }
                    },
                    "dataset": [
                        {"namespace": "postgres://db:5432", "name": "shop.orders", "field": "day"}
                    ],
                }
            },
        }
    ],
}


def said(event: Any) -> Claimed:
    return read(event, HOST)


def names(claimed: Claimed) -> list[str]:
    return [f"{t.namespace or ''}|{t.name}|{t.version or ''}" for t in claimed.things]


def drawn(claimed: Claimed) -> set[tuple[str, str]]:
    shown = names(claimed)
    return {(shown[a], shown[b]) for a, b in claimed.edges}


def changed(path: str, value: Any) -> dict[str, Any]:
    """EVENT with the member at `a.0.b` set, or removed when `value` is Ellipsis."""
    event: Any = copy.deepcopy(EVENT)
    *way, last = (int(step) if step.isdigit() else step for step in path.split("."))
    at = event
    for step in way:
        at = at[step]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return event  # type: ignore[no-any-return]


COLUMN = "outputs.0.facets.columnLineage"
NOT_TAKEN: list[tuple[str, Any]] = [
    ("eventTime", ...),
    ("eventTime", "yesterday"),
    ("eventTime", "2026-11-25T10:00:00"),
    ("eventTime", "2026-13-25T10:00:00Z"),
    ("eventTime", "1969-12-31T23:59:59Z"),
    ("eventTime", "0001-01-01T00:00:00+23:59"),
    ("eventTime", "2256-01-01T00:00:00Z"),
    ("eventTime", "9999-12-31T23:59:59Z"),
    ("eventTime", 17),
    ("eventType", "DONE"),
    ("producer", ...),
    ("schemaURL", None),
    ("run", "01912a3b-0000-7000-8000-000000000001"),
    ("run.runId", "17"),
    ("run.runId", ...),
    ("run.facets", []),
    ("run.facets.tags", {"_producer": "p"}),
    ("job.name", ...),
    ("job.namespace", 1),
    ("inputs", {}),
    ("inputs.0", "clinic/icu"),
    ("inputs.0.name", None),
    ("inputs.0.inputFacets.inputStatistics", None),
    ("outputs.0.facets.columnLineage.fields", ...),
    (f"{COLUMN}.fields.decade", []),
    (f"{COLUMN}.fields.decade.inputFields", ...),
    (f"{COLUMN}.fields.decade.inputFields.0.field", ...),
    (f"{COLUMN}.fields.decade.inputFields.0.transformations.0.type", ...),
    (f"{COLUMN}.fields.decade.inputFields.0.transformations.0.masking", "yes"),
    (f"{COLUMN}.dataset", {}),
    ("inputs.0.name", "x" * (claim.NAME_CHARS_MAX + 1)),
    ("inputs.0.name", "\ud800"),
]


@pytest.mark.parametrize(("path", "value"), NOT_TAKEN)
def test_what_is_no_event_is_refused_by_its_member(path: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match="must be"):
        said(changed(path, value))


@pytest.mark.parametrize("event", [None, [], "x", {}, {"run": {}}, {**EVENT, "job": None}])
def test_what_is_none_of_the_three_events_is_refused(event: Any) -> None:
    with pytest.raises(InvalidInput):
        said(event)


def test_a_run_that_reads_and_writes_draws_edges_through_the_run() -> None:
    claimed = said(EVENT)
    assert (claimed.type, claimed.state) == ("run", "COMPLETE")
    assert claimed.at_us == 1_795_600_800_123_456
    run = "|01912a3b-0000-7000-8000-000000000001|"
    assert drawn(claimed) == {
        ("|clinic/icu|3", run),
        ("postgres://db:5432|shop.orders|", run),
        (run, "s3://lake|/features|"),
    }
    columns = {
        (edge.source_column, edge.target_column, edge.subtype, edge.masking)
        for edge in claimed.columns
    }
    assert columns == {("age", "decade", "TRANSFORMATION", True), ("day", None, None, False)}


@pytest.mark.parametrize(
    ("namespace", "name", "facet", "wanted"),
    [
        ("dataset-gateway", "clinic/icu", None, "|clinic/icu|"),
        ("dataset-gateway", "clinic/icu", "7", "|clinic/icu|7"),
        ("dataset-gateway", "clinic/icu@2", "7", "|clinic/icu|2"),
        ("dataset-gateway", "clinic/icu", "v7", "|clinic/icu|"),
        (f"dataset-gateway://{HOST}", "clinic/icu@2", None, "|clinic/icu|2"),
        ("dataset-gateway://other:8787", "clinic/icu@2", None,
         "dataset-gateway://other:8787|clinic/icu@2|"),
        ("dataset-gateway", "Not/Ours", None, "dataset-gateway|Not/Ours|"),
        ("dataset-gateway", "clinic/icu@0", None, "dataset-gateway|clinic/icu@0|"),
        ("s3://clinic", "clinic/icu", "7", "s3://clinic|clinic/icu|"),
    ],
)  # fmt: skip
def test_only_the_documented_namespace_names_our_datasets(
    namespace: str, name: str, facet: str | None, wanted: str
) -> None:
    event = changed("inputs.0", {"namespace": namespace, "name": name})
    if facet is not None:
        event["inputs"][0]["facets"] = {"version": {**BASE, "datasetVersion": facet}}
    assert wanted in names(said(event))


def test_events_without_a_run_are_taken_too() -> None:
    job = {k: v for k, v in EVENT.items() if k not in ("run", "eventType")}
    claimed = said(job)
    assert (claimed.type, claimed.state) == ("job", None)
    assert ("postgres://db:5432|shop.orders|", "airflow|dag.task|") in drawn(claimed)
    dataset = {k: EVENT[k] for k in ("eventTime", "producer", "schemaURL")}
    claimed = said({**dataset, "dataset": EVENT["outputs"][0]})
    assert (claimed.type, claimed.about) == ("dataset", None)
    assert ("|clinic/icu|3", "s3://lake|/features|") in drawn(claimed)


def test_a_facet_that_was_deleted_says_nothing() -> None:
    event = changed(COLUMN, {**BASE, "_deleted": True})
    assert not said(event).columns


def test_an_event_that_names_too_much_is_refused() -> None:
    many = [{"namespace": "s3://b", "name": str(n)} for n in range(claim.THINGS_MAX)]
    with pytest.raises(TooLarge, match="at most 512"):
        said(changed("inputs", many))
    fields = {
        str(n): {"inputFields": [{"namespace": "a", "name": "b", "field": "c"}]}
        for n in range(claim.COLUMNS_MAX + 1)
    }
    with pytest.raises(TooLarge, match="between columns"):
        said(changed(f"{COLUMN}.fields", fields))


# The specification's own schema and tests


def _wrapped(facet_dir: str, facets: dict[str, Any]) -> dict[str, Any]:
    """The facets of a test of the specification, where their names say that they belong."""
    event = copy.deepcopy(EVENT)
    dataset = {"namespace": "s3://lake", "name": "/other"}
    if facet_dir == "LineageFacet":
        is_of_job = "entries" in facets["lineage"]
        (event["job"] if is_of_job else event["outputs"][0]).setdefault("facets", {}).update(facets)
    elif facet_dir.endswith("OutputDatasetFacet") or facet_dir == "BaseSubsetDatasetFacet":
        event["outputs"].append({**dataset, "outputFacets": facets})
    elif facet_dir.endswith("InputDatasetFacet"):
        event["inputs"].append({**dataset, "inputFacets": facets})
    elif facet_dir.endswith("DatasetFacet"):
        event["outputs"].append({**dataset, "facets": facets})
    elif facet_dir.endswith("JobFacet"):
        event["job"]["facets"] = facets
    else:
        event["run"]["facets"] = facets
    return event


@cache
def schemas() -> tuple[Any, Any]:
    """Validators of an event, and of the facet whose content we read most of."""
    documents = [SPEC / "OpenLineage.json", SPEC / "facets" / "ColumnLineageDatasetFacet.json"]
    known = [json.loads(path.read_text()) for path in documents]
    registry: Any = Registry().with_resources(
        (document["$id"], Resource.from_contents(document)) for document in known
    )
    facet = {"$ref": f"{known[1]['$id']}#/$defs/ColumnLineageDatasetFacet"}
    return (
        Draft202012Validator(known[0], registry=registry),
        Draft202012Validator(facet, registry=registry),
    )


needs_spec = pytest.mark.skipif(
    not SPEC.is_dir(), reason="the specification of OpenLineage is not here (GATEWAY_CORPORA)"
)


@needs_spec
def test_every_test_of_the_specification_is_taken() -> None:
    validator, _ = schemas()
    tests = sorted((SPEC / "tests").rglob("*.json"))
    assert len(tests) >= 47
    for path in tests:
        value = json.loads(path.read_text())
        event = value if path.parent.name == "tests" else _wrapped(path.parent.name, value)
        validator.validate(event)
        said(event)


@needs_spec
def test_the_lineage_facet_draws_what_it_says() -> None:
    tests = SPEC / "tests" / "LineageFacet"

    def of(name: str) -> Claimed:
        return said(_wrapped("LineageFacet", json.loads((tests / f"{name}.json").read_text())))

    run = "|01912a3b-0000-7000-8000-000000000001|"
    warehouse = "postgresql://warehouse:5432|public."
    assert (f"{warehouse}customers|", "s3://lake|/features|") in drawn(of("dataset-to-dataset"))
    assert ("postgresql://production:5432|public.transactions|", run) in drawn(of("implicit-job"))
    assert (run, f"{warehouse}extracted_data|") in drawn(of("generator"))
    other = "|b7dce052-51a6-4d66-98b9-5fd8b78a79c7|"
    assert (other, f"{warehouse}daily_summary|") in drawn(of("job-to-dataset"))
    assert (other, "|605f451b-c768-4c77-9ff4-8501f6324513|") in drawn(of("job-to-job"))


_LEAVES = (..., None, 0, 1.5, True, "", "x", [], {}, [None], {"a": "b"})  # `...`: it is not there


def _paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [at, *(path for key, item in inner for path in _paths(item, (*at, key)))]


PATHS = [path for path in _paths(EVENT) if path]


@needs_spec
@pytest.mark.parametrize("value", _LEAVES, ids=repr)
@pytest.mark.parametrize("path", PATHS, ids=lambda path: ".".join(map(str, path)))
def test_no_event_is_taken_that_the_schema_refuses(path: tuple[Any, ...], value: Any) -> None:
    """And none fails with anything but a typed error."""
    event: Any = copy.deepcopy(EVENT)
    at = event
    for step in path[:-1]:
        at = at[step]
    if value is ... and isinstance(at, list):
        return
    if value is ...:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    try:
        said(event)
    except GatewayError:
        return
    _valid(event)


def _valid(event: dict[str, Any]) -> None:
    validator, of_facet = schemas()
    try:
        validator.validate(event)
        for dataset in (*event.get("inputs", ()), *event.get("outputs", ())):
            facet = dataset.get("facets", {}).get("columnLineage")
            if facet is not None:
                of_facet.validate(facet)
    except ValidationError as error:
        raise AssertionError(f"taken, but {error.message}") from error
