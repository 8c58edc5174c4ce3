"""Claims in the projection: their tables, and the rows of one LineageClaimed. Pure.

Kept apart from what the gateway saw: no table, view or question of observed facts reads these.
Nodes are named as the graph names them (trace.py); a column's dataset goes without its version.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

_EVENT = {
    "idx": "BIGINT",
    "time": "TIMESTAMP",
    "owner": "VARCHAR",
    "actor": "VARCHAR",
    "actor_tag": "VARCHAR",
}
TABLES: dict[str, dict[str, str]] = {
    "claim": {
        **_EVENT,
        "type": "VARCHAR",  # `run`, `job` or `dataset`
        "state": "VARCHAR",
        "claimed_at": "BIGINT",  # Unix microseconds, by the sender's clock
        "about": "VARCHAR",  # node of the run or job
        "job": "VARCHAR",  # node of the run's job
    },
    "claim_edge": {
        **_EVENT,
        "source": "VARCHAR",
        "target": "VARCHAR",
        "source_key": "BIGINT",  # `key_of` the node: millions of edges are followed by numbers
        "target_key": "BIGINT",
    },
    "claim_column": {
        **_EVENT,
        "source": "VARCHAR",
        "source_column": "VARCHAR",
        "target": "VARCHAR",
        "target_column": "VARCHAR",  # null: it shaped every column
        "type": "VARCHAR",
        "subtype": "VARCHAR",
        "masking": "BOOLEAN",
        "source_key": "BIGINT",  # of the nodes `column:DATASET:NAME`
        "target_key": "BIGINT",
    },
}


def claimed(
    batch: defaultdict[str, list[tuple[object, ...]]],
    head: tuple[object, ...],
    facts: Mapping[str, Any],
) -> None:
    """Add the rows of one event that begins with the columns `head`."""
    things, actor = facts["things"], head[3]
    nodes = [_node(thing, actor) for thing in things]
    keys = [key_of(node) for node in nodes]
    about = None if facts["about"] is None else nodes[facts["about"]]
    jobs = (node for node in nodes if node.startswith("job:"))
    job = next(jobs, None) if facts["type"] == "run" else None
    batch["claim"].append((*head, facts["type"], facts["state"], facts["claimed_at"], about, job))
    batch["claim_edge"].extend(
        (*head, nodes[edge["source"]], nodes[edge["target"]], keys[edge["source"]],
         keys[edge["target"]])
        for edge in facts["edges"]
    )  # fmt: skip
    batch["claim_column"].extend(_column_row(head, things, c) for c in facts["columns"])


def key_of(node: str) -> int:
    """A stable 63-bit number for a node's id."""
    digest = hashlib.blake2b(node.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _column_row(
    head: tuple[object, ...], things: list[Mapping[str, Any]], c: Mapping[str, Any]
) -> tuple[object, ...]:
    source, target = _dataset(things[c["source"]]), _dataset(things[c["target"]])
    name = c["target_column"]
    into = f"dataset:{target}" if name is None else f"column:{target}:{name}"
    return (
        *head,
        source,
        c["source_column"],
        target,
        name,
        c["type"],
        c["subtype"],
        c["masking"],
        key_of(f"column:{source}:{c['source_column']}"),
        key_of(into),
    )


def _node(thing: Mapping[str, Any], actor: object) -> str:
    kind, version = thing["kind"], thing["version"]
    if kind != "dataset":
        return f"{kind}:{actor}/{thing['name']}"
    if version is not None:
        return f"version:{thing['name']}@{version}"
    return f"dataset:{_dataset(thing)}"


def _dataset(thing: Mapping[str, Any]) -> str:
    namespace = thing["namespace"]
    return str(thing["name"]) if namespace is None else f"{namespace}:{thing['name']}"
