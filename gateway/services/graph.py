"""The lineage graph around a thing or a column, as far as the caller may see; recorded first.

What the gateway saw and what the caller's own tenant claimed stand side by side; an edge's kind
says which. Names of claimed jobs are sealed in the journal: control puts them back for those
whose claims they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import gateway.wire as W
from gateway.domain.events import canonical
from gateway.errors import UnknownName
from gateway.services.audit import recorded, require_expired, side, side_of
from gateway.services.house import House
from gateway.services.request_access import Caller
from gateway.wire.openlineage import NAMESPACE

NAMES_MAX = 200  # jobs of one graph that get their names back
_SPLITS_MAX = 8
_NODE = re.compile(r"[a-z0-9_-]+/[0-9a-f]{32}\Z")


async def trace(house: House, caller: Caller, ref: str, depth: int) -> W.Trace:
    """Where a dataset, run or model came from, and what came of it."""
    return await _graph(house, caller, ref, {"depth": depth})


async def columns(
    house: House, caller: Caller, ref: str, depth: int, *, downstream: bool
) -> W.Trace:
    """What a column, or each column of a dataset, was made from, and what received it."""
    given = {"depth": depth, "of_columns": True, "direction": "both" if downstream else "up"}
    return await _graph(house, caller, ref, given)


async def _graph(house: House, caller: Caller, ref: str, given: dict[str, Any]) -> W.Trace:
    name = _ours(ref, urlsplit(house.issuer).netloc)
    tenant = side_of(house, caller, None, _dataset_of(name))
    await recorded(house, caller, tenant, ("trace", {"ref": ref, **given}))
    for candidate in _candidates(house, tenant, name):
        try:
            found = await house.lineage.trace(candidate, side(house, tenant), **given)
            require_expired(house, int(found["as_of_index"]))
        except UnknownName:
            if not candidate.startswith("job:"):
                raise
            continue
        return _trace(found, _names(house, found["nodes"]))
    raise UnknownName.near(
        f"there is no `{ref[:80]}` in the history of `{tenant}`", [], parameter="nodeId"
    )


def _ours(ref: str, authority: str) -> str:
    """Marquez' names of nodes as ours: `dataset:NAMESPACE:NAME`, `datasetField:…:…:FIELD`."""
    kind, _, rest = ref.partition(":")
    if kind not in ("dataset", "datasetField"):
        return ref
    for namespace in (f"{NAMESPACE}://{authority}:", f"{NAMESPACE}:"):
        ours = rest.removeprefix(namespace)
        if ours != rest and not ours.startswith("//"):
            return ours if kind == "dataset" else f"column:{ours}"
    return ref if kind == "dataset" else f"column:{rest}"


def _dataset_of(name: str) -> str | None:
    """The dataset of this gateway that is named; None for runs, models and foreign names."""
    kind, _, rest = name.rpartition(":")
    if kind in ("", "dataset", "version"):
        return rest if "/" in rest else None
    kind, _, rest = name.partition(":")
    dataset = rest.partition(":")[0]
    return dataset if kind == "column" and "/" in dataset else None


def _candidates(house: House, tenant: str, name: str) -> Iterator[str]:
    """The name; a job's by its tag, wherever its namespace may end."""
    kind, _, rest = name.partition(":")
    if kind != "job" or _NODE.match(rest):
        yield name
        return
    ends = [place for place, char in enumerate(rest) if char == ":"][-_SPLITS_MAX:]
    for end in reversed(ends):
        job = canonical([rest[:end], rest[end + 1 :]]).decode()
        yield f"job:{tenant}/{house.journal.tags.job(tenant, job)}"


def _names(house: House, nodes: list[dict[str, Any]]) -> dict[str, str]:
    """The names of claimed jobs, from the newest event that named each."""
    found: dict[str, str] = {}
    for node in [node for node in nodes if node["kind"] == "job"][:NAMES_MAX]:
        index = node["facts"].get("claim")
        if index is None:
            continue
        (event,) = house.journal.read(index, index + 1)
        jobs: Mapping[str, Any] = (event.details or {}).get("jobs", {})
        job = jobs.get(node["id"].rpartition("/")[2])
        if job is not None:  # erased with its month otherwise
            found[node["id"]] = ":".join(job)
    return found


def _trace(graph: dict[str, Any], names: Mapping[str, str]) -> W.Trace:
    return W.Trace(
        nodes=tuple(
            W.TraceNode(
                id=node["id"],
                kind=node["kind"],
                name=names.get(node["id"], node["name"]),
                facts=dict(node["facts"]),
            )
            for node in graph["nodes"]
        ),
        edges=tuple(
            W.TraceEdge(source=edge["source"], target=edge["target"], kind=edge["kind"])
            for edge in graph["edges"]
        ),
        truncated=graph["truncated"],
    )
