"""The lineage graph of one thing: where it came from, what came of it.

    dataset → version → grant → run → model
              version, run → version (made from them)
    column → run → model, column → column (claimed)

Edges follow what was recorded, on the asker's side only: a dataset's owner sees the runs and
models that received its rows, and not what else those runs read. Edges of kind `claimed` are
what the asker's own tenant said (OpenLineage); all others the gateway saw.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import duckdb

from gateway.domain.dataset import DatasetRef
from gateway.errors import InvalidInput, NotFound
from gateway.lineage import answers
from gateway.lineage.edges import (
    ANY_EDGE,
    ANY_EDGE_VIEWS,
    COLUMN_EDGE,
    COLUMN_EDGE_VIEWS,
    EDGE,
    MODEL,
)
from gateway.lineage.views import released, with_views

NODES_MAX = 2000
DEPTH_MAX = 20
DEPTH_DEFAULT = 20
_REF_CHARS_MAX = 1100
_TENANT = "[a-z0-9_-]*"

_NODE = "node AS (SELECT source AS id FROM any_edge UNION SELECT target FROM any_edge)"


def _reach(near: str, far: str) -> str:
    return f"""reach(id, depth) AS (
      SELECT unnest($starts::VARCHAR[]), 0
      UNION SELECT e.{far}, r.depth + 1 FROM reach r JOIN any_edge e ON e.{near} = r.id
      WHERE r.depth < $depth)"""  # noqa: S608


class _Level:
    """The statements over one set of edges: those of things, or those of columns."""

    def __init__(self, views: tuple[str, ...], *edges: str) -> None:
        self.starts = with_views(
            views,
            "SELECT id FROM node WHERE regexp_full_match(id, $pattern, 's') ORDER BY id LIMIT 100",
            *edges,
            _NODE,
        )
        self.down, self.up = (
            with_views(
                views,
                f"""SELECT DISTINCT e.source, e.target, e.kind FROM any_edge e
                    JOIN reach r ON r.id = e.{near} AND r.depth < $depth
                    ORDER BY e.source, e.target LIMIT {NODES_MAX + 1}""",  # noqa: S608
                *edges,
                _reach(near, far),
            )
            for near, far in (("source", "target"), ("target", "source"))
        )


_THINGS = _Level(ANY_EDGE_VIEWS, EDGE, ANY_EDGE)
_COLUMNS = _Level(COLUMN_EDGE_VIEWS, COLUMN_EDGE)
# What was last claimed of a run or a job, and where the journal has it.
_CLAIM_OF = """SELECT {0} AS id, max_by(state, claimed_at) AS claimed_state,
  max(claimed_at) AS claimed_at, max_by(index, claimed_at) AS claim
  FROM seen_claim GROUP BY {0}"""
_FACTS = {
    "version": (
        ("version",),
        """SELECT 'version:' || dataset || '@' || version AS id, time AS registered_at, rows, bytes,
           manifest_digest FROM seen_version""",
    ),
    "grant": (
        ("grant", "stream"),
        """SELECT 'grant:' || g."grant" AS id, g.purpose, g.actor_tenant, g.subject_tag, g.columns,
           g.masks, g.time AS granted_at, g.revoked_at,
           (SELECT sum(rows)::BIGINT FROM seen_stream s JOIN released r ON r.lease = s.lease
            WHERE s."grant" = g."grant") AS rows
           FROM seen_grant g""",
    ),
    "run": (
        ("lease", "run", "claim"),
        f"""SELECT coalesce(s.id, c.id) AS id, s.* EXCLUDE (id), c.* EXCLUDE (id)
           FROM (SELECT 'run:' || actor_tenant || '/' || run AS id, actor_tenant,
                   min(time) AS started_at,
                   (SELECT max(f.time) FROM seen_run f
                    WHERE f.run = l.run AND f.actor_tenant = l.actor_tenant) AS finished_at
                 FROM seen_lease l WHERE run IS NOT NULL GROUP BY l.actor_tenant, l.run) s
           FULL JOIN ({_CLAIM_OF.format("about")}) c ON c.id = s.id""",  # noqa: S608
    ),
    "job": (("claim",), _CLAIM_OF.format("coalesce(job, about)")),
    "column": (
        ("claim_column",),
        """SELECT 'column:' || target || ':' || target_column AS id, list(DISTINCT {
             'dataset': source, 'field': source_column, 'transformationType': type,
             'transformationSubtype': subtype, 'masking': masking}) AS "inputFields"
           FROM seen_claim_column WHERE target_column IS NOT NULL
           GROUP BY target, target_column""",
    ),
    "model": (
        ("run",),
        f"""SELECT DISTINCT 'model:' || actor_tenant || '/' || {MODEL} AS id, actor_tenant,
           artifact AS sha256, time AS made_at FROM seen_run WHERE model IS NOT NULL""",  # noqa: S608
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """How far, which way, along what."""

    depth: int = DEPTH_DEFAULT  # steps, 1 to DEPTH_MAX
    direction: str = "both"  # `up`, `down` or `both`
    of_columns: bool = False  # `ref` is then `column:DATASET:NAME`, or a dataset: all its columns

    def __post_init__(self) -> None:
        if self.direction not in ("up", "down", "both"):
            raise InvalidInput("`direction` is `up`, `down` or `both`")


def trace(
    cursor: duckdb.DuckDBPyConnection,
    ref: str,
    *,
    tenant: str | None,
    is_operator: bool = False,
    walk: Walk | None = None,
) -> dict[str, Any]:
    """Nodes and edges around `ref`, at most `depth` steps away.

    Args:
        cursor: on one snapshot of the projection.
        ref: `tenant/name`, `tenant/name@3`, `grant_…`, `run:…`, `model:NAME[@sha256:…]`,
            `dataset:NAMESPACE:NAME` of a claim, or a node's id from an earlier graph.
        tenant: whose side; None for an operator.
        is_operator: every tenant, without private attributes.
        walk: how far, which way, along what.

    Raises:
        NotFound: nothing of that name is on this side.
    """
    walk = walk or Walk()
    side = {"tenant": tenant, "operator": is_operator}
    level = _COLUMNS if walk.of_columns else _THINGS
    pattern = _column_pattern(ref) if walk.of_columns else _pattern(ref)
    found = cursor.execute(level.starts, {**side, "pattern": pattern}).fetchall()
    starts = [row[0] for row in found]
    if not starts:
        raise NotFound(f"lineage knows no `{ref[:80]}`")
    given = {**side, "starts": starts, "depth": max(1, min(walk.depth, DEPTH_MAX))}
    edges: dict[tuple[str, ...], None] = {}
    for sql, name in ((level.up, "up"), (level.down, "down")):
        if walk.direction in (name, "both"):
            edges.update(dict.fromkeys(cursor.execute(sql, given).fetchall()))
    kept = list(edges)[:NODES_MAX]
    ids = list(dict.fromkeys([*starts, *(end for edge in kept for end in edge[:2])]))
    return {
        "nodes": _nodes(cursor, ids, side),
        "edges": [{"source": s, "target": t, "kind": k} for s, t, k in kept],
        "starts": starts,
        "truncated": len(edges) > len(kept),
    }


def _nodes(
    cursor: duckdb.DuckDBPyConnection, ids: list[str], side: dict[str, Any]
) -> list[dict[str, Any]]:
    facts: dict[str, dict[str, Any]] = {}
    for kind, (views, sql) in _FACTS.items():
        wanted = [name for name in ids if name.startswith(f"{kind}:")]
        if wanted:
            statement = with_views(views, "SELECT * FROM facts WHERE id IN (SELECT unnest($ids))",
                                   *([released()] if "stream" in views else []),
                                   f"facts AS ({sql})")  # fmt: skip
            facts.update(_facts(cursor.execute(statement, {**side, "ids": wanted})))
    return [
        {
            "id": name,
            "kind": name.partition(":")[0],
            "name": name.partition(":")[2],
            "facts": facts.get(name, {}),
        }
        for name in ids
    ]


def _facts(cursor: duckdb.DuckDBPyConnection) -> dict[str, dict[str, Any]]:
    names = [column[0] for column in cursor.description or ()]
    return {
        row[0]: {
            name: answers.plain(value)
            for name, value in zip(names[1:], row[1:], strict=True)
            if value is not None
        }
        for row in cursor.fetchall()
    }


def _pattern(ref: str) -> str:
    """A regular expression (RE2) for the node ids that `ref` names."""
    if not isinstance(ref, str) or not 0 < len(ref) <= _REF_CHARS_MAX:
        raise InvalidInput("a reference is text of a reasonable length")
    kind, _, rest = ref.partition(":")
    if kind in ("run", "model") and rest:
        tail = "" if "@sha256:" in rest or kind == "run" else "(@sha256:[0-9a-f]*)?"
        return f"{kind}:({_TENANT}/)?({kind}:)?{_quoted(rest)}{tail}"
    if kind == "job" and rest:
        return f"job:({_TENANT}/)?{_quoted(rest)}"
    name = rest if kind in ("dataset", "version", "grant") else ref
    if is_foreign(ref):
        return f"dataset:{_quoted(name)}"
    if name.startswith("grant_"):
        return f"grant:{_quoted(name)}"
    dataset = DatasetRef.parse(name)
    return f"{'dataset' if dataset.version is None else 'version'}:{_quoted(str(dataset))}"


def _column_pattern(ref: str) -> str:
    """The same for columns: of one column, or of every column of a dataset."""
    if isinstance(ref, str) and ref.startswith("column:") and len(ref) <= 2 * _REF_CHARS_MAX:
        return _quoted(ref)
    pattern = _pattern(ref)
    if is_foreign(ref):
        return f"column:{_quoted(ref.partition(':')[2])}:.*"
    if pattern.startswith(("dataset:", "version:")):
        dataset = DatasetRef.parse(ref.rpartition(":")[2]).unversioned
        return f"column:{_quoted(str(dataset))}:.*"
    return pattern


def is_foreign(ref: str) -> bool:
    """Whether `dataset:NAMESPACE:NAME` names a dataset that only claims know of."""
    kind, _, rest = ref.partition(":")
    return kind == "dataset" and ":" in rest


def _quoted(text: str) -> str:
    return "".join(c if c.isalnum() and c.isascii() else f"\\x{{{ord(c):x}}}" for c in text)
