"""The lineage graph of one thing: where it came from, what came of it.

    dataset → version → grant → run → model
              version, run → version (made from them)
    column → run → model, column → column (claimed)

Edges follow what was recorded, on the asker's side only: a dataset's owner sees the runs and
models that received its rows, and not what else those runs read. Edges of kind `claimed` are
what the asker's own tenant said (OpenLineage); all others the gateway saw.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import duckdb

from gateway.domain.dataset import DatasetRef
from gateway.errors import InvalidInput
from gateway.lineage import answers
from gateway.lineage.claims import key_of
from gateway.lineage.edges import (
    CLAIM_COLUMN_EDGE,
    CLAIM_EDGE,
    COLUMN_EDGE,
    COLUMN_EDGE_VIEWS,
    EDGE,
    EDGE_VIEWS,
    MODEL,
)
from gateway.lineage.names import require_reference
from gateway.lineage.views import released, with_views

NODES_MAX = 2000
DEPTH_MAX = 20
DEPTH_DEFAULT = 20
_REF_CHARS_MAX = 1100
_TENANT = "[a-z0-9_-]*"
_FORMS = "write `tenant/name`, `tenant/name@3`, `run:NAME`, `model:NAME` or a `grant_…`"

_SIDE = "($operator OR owner = $tenant OR actor = $tenant)"


class _Level:
    """The statements over one set of edges: those of things, or those of columns."""

    def __init__(self, views: tuple[str, ...], edge: str, claims: str) -> None:
        select = with_views(views, "SELECT source, target, kind FROM edge", edge)
        self.make = f"CREATE OR REPLACE TEMP TABLE observed AS {select}"
        table = claims.rpartition(" ")[2]

        def at(near: str) -> str:
            # Numbers first: names and sides are read of the few rows that are left.
            return f"""{claims} WHERE {_SIDE} AND rowid IN (
                SELECT rowid FROM {table}
                WHERE {near}_key IN (SELECT unnest($keys::BIGINT[])))"""  # noqa: S608

        self.claimed = f"""SELECT DISTINCT id FROM (
            SELECT source AS id FROM ({at("source")})
            UNION ALL SELECT target FROM ({at("target")})) ORDER BY id"""  # noqa: S608
        self.steps = {
            way: f"""SELECT DISTINCT source, target, 'claimed' FROM ({at(near)})
                ORDER BY source, target LIMIT {NODES_MAX + 1}"""  # noqa: S608
            for way, near in (("down", "source"), ("up", "target"))
        }


_FOUND = """SELECT DISTINCT id FROM (SELECT source AS id FROM observed
  UNION ALL SELECT target FROM observed)
  WHERE regexp_full_match(id, $pattern, 's') ORDER BY id LIMIT 100"""
_STEPS = {
    way: f"""SELECT DISTINCT source, target, kind FROM observed
        WHERE {near} IN (SELECT unnest($ids))
        ORDER BY source, target LIMIT {NODES_MAX + 1}"""  # noqa: S608
    for way, near in (("down", "source"), ("up", "target"))
}
_COLUMNS_OF = f"""SELECT DISTINCT id FROM (
  SELECT 'column:' || source || ':' || source_column AS id FROM claim_column
  WHERE {_SIDE} AND source = $dataset
  UNION ALL SELECT 'column:' || target || ':' || target_column FROM claim_column
  WHERE {_SIDE} AND target = $dataset AND target_column IS NOT NULL) ORDER BY id LIMIT 100"""  # noqa: S608
_CLAIMED_ALONE = f"""SELECT DISTINCT id FROM (
  SELECT about AS id FROM claim WHERE {_SIDE} UNION ALL SELECT job FROM claim WHERE {_SIDE})
  WHERE id IN (SELECT unnest($names)) ORDER BY id"""  # noqa: S608
_THINGS = _Level(EDGE_VIEWS, EDGE, CLAIM_EDGE)
_COLUMNS = _Level(COLUMN_EDGE_VIEWS, COLUMN_EDGE, CLAIM_COLUMN_EDGE)
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
        UnknownName: nothing of that name is on this side.
    """
    walk = walk or Walk()
    side = {"tenant": tenant, "operator": is_operator}
    level = _COLUMNS if walk.of_columns else _THINGS
    cursor.execute(level.make, side)
    starts = _starts(cursor, level, ref, side)
    if not starts:  # known, perhaps, and without an edge
        names = {**side, "names": _exact(ref, tenant)}
        starts = [row[0] for row in cursor.execute(_CLAIMED_ALONE, names).fetchall()]
    if not starts:
        require_reference(cursor, ref, side)
        starts = [_alone(ref)]
    edges: dict[tuple[str, str, str], None] = {}
    for way in ("up", "down"):
        if walk.direction in (way, "both"):
            edges.update(dict.fromkeys(_walked(cursor, level, starts, way, walk.depth, side)))
    kept = list(edges)[:NODES_MAX]
    ids = list(dict.fromkeys([*starts, *(end for edge in kept for end in edge[:2])]))
    return {
        "nodes": _nodes(cursor, ids, side),
        "edges": [{"source": s, "target": t, "kind": k} for s, t, k in kept],
        "starts": starts,
        "truncated": len(edges) > len(kept),
    }


def _starts(
    cursor: duckdb.DuckDBPyConnection, level: _Level, ref: str, side: dict[str, Any]
) -> list[str]:
    """The nodes that `ref` names, seen or claimed."""
    of_columns = level is _COLUMNS
    pattern = _column_pattern(ref) if of_columns else _pattern(ref)
    found = [row[0] for row in cursor.execute(_FOUND, {"pattern": pattern}).fetchall()]
    dataset = _dataset_of(ref) if of_columns else None
    if dataset is not None:
        rows = cursor.execute(_COLUMNS_OF, {**side, "dataset": dataset}).fetchall()
    else:
        wanted = [name for name in _exact(ref, side["tenant"]) if name not in found]
        keys = [key_of(name) for name in wanted]
        rows = cursor.execute(level.claimed, {**side, "keys": keys}).fetchall()
        rows = [row for row in rows if row[0] in wanted]
    return list(dict.fromkeys([*found, *(row[0] for row in rows)]))


def _alone(ref: str) -> str:
    """The node of what is known and has no edge yet, such as a column that nobody received."""
    kind = ref.partition(":")[0]
    if kind in ("dataset", "version", "column", "run", "model", "grant"):
        return ref
    if ref.startswith("grant_"):
        return f"grant:{ref}"
    return f"{'version' if '@' in ref else 'dataset'}:{ref}"


def _walked(
    cursor: duckdb.DuckDBPyConnection,
    level: _Level,
    starts: list[str],
    way: str,
    depth: int,
    side: dict[str, Any],
) -> Iterator[tuple[str, str, str]]:
    """Edges, the nearest first, until NODES_MAX are passed: step by step, each node once."""
    far = 1 if way == "down" else 0
    known, frontier, count = set(starts), list(starts), 0
    for _ in range(max(1, min(depth, DEPTH_MAX))):
        rows = cursor.execute(_STEPS[way], {"ids": frontier}).fetchall()
        keys = [key_of(node) for node in frontier]
        rows += cursor.execute(level.steps[way], {**side, "keys": keys}).fetchall()
        yield from rows
        count += len(rows)
        frontier = [node for node in dict.fromkeys(row[far] for row in rows) if node not in known]
        if not frontier or count > NODES_MAX:
            return
        known.update(frontier)


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
        # A run is recorded as `tenant:name`; its people call it by its name.
        scope = f"({kind}:|{_TENANT}:)?" if kind == "run" else f"({kind}:)?"
        return f"{kind}:({_TENANT}/)?{scope}{_quoted(rest)}{tail}"
    if kind == "job" and rest:
        return f"job:({_TENANT}/)?{_quoted(rest)}"
    name = rest if kind in ("dataset", "version", "grant") else ref
    if is_foreign(ref):
        return f"dataset:{_quoted(name)}"
    if name.startswith("grant_"):
        return f"grant:{_quoted(name)}"
    if kind == "column":
        raise InvalidInput(
            "a column is traced apart from its dataset",
            advice="`gateway lineage trace DATASET --column NAME`, or `/api/v1/column-lineage`",
        )
    try:
        dataset = DatasetRef.parse(name)
    except InvalidInput as cause:
        raise InvalidInput(f"{cause.message}, nor another reference", advice=_FORMS) from cause
    return f"{'dataset' if dataset.version is None else 'version'}:{_quoted(str(dataset))}"


def _column_pattern(ref: str) -> str:
    """The same for columns: of one column, or of every column of a dataset."""
    if isinstance(ref, str) and ref.startswith("column:") and len(ref) <= 2 * _REF_CHARS_MAX:
        return _quoted(ref)
    pattern, dataset = _pattern(ref), _dataset_of(ref)
    return pattern if dataset is None else f"column:{_quoted(dataset)}:.*"


def _dataset_of(ref: str) -> str | None:
    """The dataset whose columns are meant, as its columns' nodes name it."""
    kind, _, rest = ref.partition(":")
    if is_foreign(ref):
        return rest
    if kind in ("dataset", "version"):
        return str(DatasetRef.parse(rest).unversioned)
    return str(DatasetRef.parse(ref).unversioned) if "/" in ref and ":" not in ref else None


def _exact(ref: str, tenant: str | None) -> list[str]:
    """The ids under which a claim may name what `ref` names; a claim's runs are its tenant's."""
    kind, _, rest = ref.partition(":")
    if kind in ("run", "job"):
        return [ref, f"{kind}:{tenant}/{rest}"]
    if kind in ("column", "version") or is_foreign(ref):
        return [ref]
    name = rest if kind == "dataset" else ref
    if ":" in name or "/" not in name:
        return []
    return [f"{'version' if '@' in name else 'dataset'}:{name}"]


def is_foreign(ref: str) -> bool:
    """Whether `dataset:NAMESPACE:NAME` names a dataset that only claims know of."""
    kind, _, rest = ref.partition(":")
    return kind == "dataset" and ":" in rest


def _quoted(text: str) -> str:
    return "".join(c if c.isalnum() and c.isascii() else f"\\x{{{ord(c):x}}}" for c in text)
