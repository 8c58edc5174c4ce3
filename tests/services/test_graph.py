"""Names of nodes as Marquez writes them, whose side is asked for, and names that come back."""

from __future__ import annotations

from typing import Any

import pytest

import gateway.wire as W
from gateway.domain.events import EventKind
from gateway.errors import AccessDenied, UnknownName
from gateway.services import graph
from gateway.services.house import House
from tests.services.simulator import caller
from tests.services.test_access import OWNER, TRAINER, run, shared
from tests.services.test_claims import claim
from tests.wire.test_openlineage import changed

__all__ = ["shared"]
AUDITOR = caller("startup", "bo", "auditor")


class Lineage:
    """The lineage process in a few lines: it knows what it was told to know."""

    def __init__(self, *nodes: dict[str, Any]) -> None:
        self.nodes = {node["id"]: node for node in nodes}
        self.asked: list[tuple[str, str | None]] = []

    async def trace(self, ref: str, side: Any, **given: Any) -> dict[str, Any]:
        self.asked.append((ref, side.tenant))
        if ref not in self.nodes:
            raise UnknownName("unknown")
        return {"nodes": [self.nodes[ref]], "edges": [], "truncated": False,
                "as_of_index": side.at_least}  # fmt: skip


def node(name: str, **facts: Any) -> dict[str, Any]:
    kind, _, rest = name.partition(":")
    return {"id": name, "kind": kind, "name": rest, "facts": facts}


def asked(house: House, ref: str, who: Any = AUDITOR, *nodes: dict[str, Any]) -> str | None:
    lineage = Lineage(*nodes)
    house.lineage = lineage  # type: ignore[assignment]
    with pytest.raises(UnknownName):
        run(graph.trace(house, who, ref, 3))
    return lineage.asked[-1][0] if lineage.asked else None


@pytest.mark.parametrize(
    ("ref", "ours"),
    [
        ("dataset:dataset-gateway:clinic/icu", "clinic/icu"),
        ("dataset:dataset-gateway://localhost:1:clinic/icu@2", "clinic/icu@2"),
        ("dataset:dataset-gateway://elsewhere:1:clinic/icu",) * 2,
        ("datasetField:dataset-gateway:clinic/icu:age", "column:clinic/icu:age"),
        ("datasetField:s3://lake:/features:decade", "column:s3://lake:/features:decade"),
        ("dataset:s3://lake:/features",) * 2,
        ("run:startup:r1",) * 2,
        ("clinic/icu",) * 2,
    ],
)
def test_nodes_as_marquez_names_them_are_ours(shared: House, ref: str, ours: str) -> None:
    assert asked(shared, ref) == ours


def test_who_may_not_audit_his_tenant_asks_nothing(shared: House) -> None:
    lineage = Lineage()
    shared.lineage = lineage  # type: ignore[assignment]
    with pytest.raises(AccessDenied):
        run(graph.columns(shared, TRAINER, "clinic/icu", 3, downstream=True))
    assert lineage.asked == []


def test_the_question_is_recorded_before_it_is_asked(shared: House) -> None:
    asked(shared, "dataset:s3://lake:/features", OWNER)
    last = [e for e in shared.journal.read(0) if e.kind is EventKind.QuestionAsked][-1]
    assert last.details["parameters"]["ref"] == "dataset:s3://lake:/features"


def test_a_claimed_job_gets_its_name_back_for_who_claimed_it(shared: House) -> None:
    event = changed("job.namespace", "airflow://prod:8080")
    event["job"]["name"] = "daily: features"
    receipt = claim(shared, event)
    tag = shared.journal.tags.job("startup", '["airflow://prod:8080","daily: features"]')
    job = node(f"job:startup/{tag}", claim=receipt.index)
    shared.lineage = Lineage(job)  # type: ignore[assignment]
    for ref in (job["id"], "job:airflow://prod:8080:daily: features"):
        found: W.Trace = run(graph.trace(shared, AUDITOR, ref, 3))
        assert found.nodes[0].name == "airflow://prod:8080:daily: features"
    assert asked(shared, "job:airflow:other", AUDITOR, job) is not None
