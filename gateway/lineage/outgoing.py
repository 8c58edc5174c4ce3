"""Runs as OpenLineage RunEvents, from the projection: what happened, in the order of the journal.

A run is what a trainer named (`--run`); a stream without a name is a run of its own. It STARTs
with its first lease. A further Grant that it streams under, and the revocation of one of several,
are RUNNING. It ends once: COMPLETE when it was finished (or its unnamed stream was handed back),
ABORT when its last Grant was revoked (or its unnamed stream was stopped). What comes later is
OTHER. Every event tells all inputs up to then. The same journal event always gives the same
RunEvent but for its LogCheckpoint, so what is sent twice is the same to whoever receives it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import duckdb

from gateway.wire import access_facet
from gateway.wire.openlineage import NAMESPACE

BATCH_MIN = 200  # told together: a batch costs three statements
_SPEC = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
_FACETS = "https://openlineage.io/spec/facets"
_COMPLETE = frozenset({"finished", "closed returned", "closed replaced", "closed run-finished"})

# A lease with the run it belongs to: the lease's own name when nobody gave one.
_LEASE = """
lease_of AS (
  SELECT l.idx, l.time, l.lease, l.grant_id, g.actor, coalesce(l.run, g.run, l.lease) AS run,
         coalesce(l.run, g.run) IS NULL AS is_unnamed
  FROM lease l JOIN granted g USING (grant_id)
  WHERE $tenant IS NULL OR g.owner = $tenant OR g.actor = $tenant)"""
_HAPPENED = f"""
WITH {_LEASE},
happened AS (
  SELECT l.idx, l.time, l.actor, l.run, 'began' AS what, NULL AS artifact, NULL AS model
  FROM lease_of l
  WHERE l.idx >= $start AND NOT EXISTS (
    SELECT 1 FROM lease_of e
    WHERE e.grant_id = l.grant_id AND e.run = l.run AND e.actor = l.actor AND e.idx < l.idx)
  UNION ALL
  SELECT c.idx, c.time, l.actor, l.run, 'closed ' || c.reason_code, NULL, NULL
  FROM lease_change c JOIN lease_of l USING (lease)
  WHERE c.idx >= $start AND c.change = 'closed' AND l.is_unnamed
  UNION ALL
  SELECT f.idx, f.time, f.actor, f.run, 'finished', f.artifact, f.model
  FROM run_finished f
  WHERE f.idx >= $start AND EXISTS (
    SELECT 1 FROM lease_of l WHERE l.run = f.run AND l.actor = f.actor AND l.idx < f.idx)
  UNION ALL
  SELECT DISTINCT r.idx, r.time, l.actor, l.run, 'revoked', NULL, NULL
  FROM revocation r JOIN lease_of l USING (grant_id)
  WHERE r.idx >= $start AND l.idx < r.idx AND NOT l.is_unnamed)
SELECT idx, time, actor, run, what, artifact, model FROM happened
WHERE idx < $stop AND idx <= (
  SELECT max(idx) FROM (SELECT idx FROM happened ORDER BY idx LIMIT {BATCH_MIN}))
ORDER BY idx, actor, run"""  # noqa: S608 - this file's constants

# The batch that is being told: one row per thing that happened.
_BATCH = """
told AS (SELECT unnest($told::STRUCT(place BIGINT, idx BIGINT, actor VARCHAR, run VARCHAR)[],
                       recursive := true)),
of_run AS (SELECT t.place, t.idx AS upto, l.*
           FROM told t JOIN lease_of l ON l.run = t.run AND l.actor = t.actor AND l.idx <= t.idx)"""

# Whether the run began before, and whether it ended before.
_BEFORE = f"""
WITH {_LEASE}, {_BATCH},
earlier AS (
  SELECT o.place, count(*) > 0 AS began, bool_and(r.idx IS NOT NULL) AS ended
  FROM of_run o
  LEFT JOIN (SELECT grant_id, min(idx) AS idx FROM revocation GROUP BY grant_id) r
         ON r.grant_id = o.grant_id AND r.idx < o.upto
  WHERE o.idx < o.upto GROUP BY o.place)
SELECT t.place, coalesce(e.began, false),
       coalesce(e.ended, false) OR EXISTS (
         SELECT 1 FROM run_finished f WHERE f.run = t.run AND f.actor = t.actor AND f.idx < t.idx)
FROM told t LEFT JOIN earlier e USING (place) ORDER BY t.place"""  # noqa: S608

_INPUTS = f"""
WITH {_LEASE}, {_BATCH},
counted AS (
  SELECT place, lease, sum(rows) AS rows, sum(intended) AS intended
  FROM (SELECT o.place, o.lease, c.rows, 0 AS intended
        FROM of_run o JOIN confirmed c ON c.lease = o.lease AND c.idx <= o.upto
        UNION ALL SELECT o.place, o.lease, 0, i.rows
        FROM of_run o JOIN intent i ON i.lease = o.lease AND i.idx <= o.upto)
  GROUP BY place, lease)
SELECT o.place, g.dataset, g.version, g.grant_id, g.decision, g.purpose,
       any_value(d.policy_epoch), any_value(s.names), any_value(s.masks), any_value(s.masked),
       coalesce(sum(c.rows), 0)::BIGINT, coalesce(sum(c.intended), 0)::BIGINT,
       any_value(CASE WHEN r.idx <= o.upto THEN r.time END)
FROM of_run o JOIN granted g USING (grant_id)
LEFT JOIN column_set s ON s.id = g.column_set
LEFT JOIN decision d ON d.decision = g.decision
LEFT JOIN counted c ON c.place = o.place AND c.lease = o.lease
LEFT JOIN (SELECT grant_id, min(idx) AS idx, arg_min(time, idx) AS time FROM revocation
           GROUP BY grant_id) r ON r.grant_id = g.grant_id
GROUP BY o.place, g.dataset, g.version, g.grant_id, g.decision, g.purpose
ORDER BY o.place, g.dataset, g.version, g.grant_id"""  # noqa: S608


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """One thing that a RunEvent is made of."""

    idx: int
    time: datetime
    actor: str
    run: str
    what: str  # `began`, `finished`, `revoked`, or `closed REASON` of an unnamed stream
    artifact: str | None
    model: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """In whose name events are sent, and which side of history they tell."""

    issuer: str  # URL of this gateway
    tenant: str | None  # None: an operator's side

    @property
    def namespace(self) -> str:
        """Of our datasets, jobs and models."""
        return f"{NAMESPACE}://{self.issuer.partition('://')[2]}"


def happened(
    cursor: duckdb.DuckDBPyConnection, voice: Voice, start: int, stop: int
) -> list[Happened]:
    """What to tell of from event `start` up to `stop`: at least BATCH_MIN if there are so many.

    One journal event may end many runs; they are never torn apart.
    """
    given = {"start": start, "stop": stop, "tenant": voice.tenant}
    rows = cursor.execute(_HAPPENED, given).fetchall()
    names = ("idx", "time", "actor", "run", "what", "artifact", "model")
    return [Happened(**dict(zip(names, row, strict=True))) for row in rows]


def run_events(
    cursor: duckdb.DuckDBPyConnection,
    voice: Voice,
    batch: Sequence[Happened],
    log: dict[str, Any],
) -> list[bytes]:
    """The RunEvent of each, as one line of JSON; two statements, however many there are.

    Args:
        cursor: on a snapshot that has the last of them.
        voice: whose side.
        batch: what happened.
        log: node, size and root of a LogCheckpoint that covers it.
    """
    told = [
        {"place": place, "idx": of.idx, "actor": of.actor, "run": of.run}
        for place, of in enumerate(batch)
    ]
    given = {"told": told, "tenant": voice.tenant}
    before = cursor.execute(_BEFORE, given).fetchall()
    inputs: dict[int, list[tuple[Any, ...]]] = {}
    for place, *row in cursor.execute(_INPUTS, given).fetchall():
        inputs.setdefault(place, []).append(tuple(row))
    return [
        _run_event(voice, of, inputs.get(place, []), (began, ended), log)
        for of, (place, began, ended) in zip(batch, before, strict=True)
    ]


def _run_event(
    voice: Voice,
    of: Happened,
    inputs: list[tuple[Any, ...]],
    before: tuple[bool, bool],
    log: dict[str, Any],
) -> bytes:
    event = {
        "eventType": _state(of, inputs, before),
        "eventTime": _iso(of.time),
        "producer": voice.issuer,
        "schemaURL": _SPEC,
        "run": {"runId": run_id(voice, of), "facets": {}},
        "job": {"namespace": voice.namespace, "name": _name(of), "facets": {}},
        "inputs": _inputs(voice, inputs, {**log, "index": of.idx}),
        "outputs": _outputs(voice, of),
    }
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()


def _state(of: Happened, inputs: list[tuple[Any, ...]], before: tuple[bool, bool]) -> str:
    began, ended = before
    if ended:
        return "OTHER"
    if of.what == "began":
        return "RUNNING" if began else "START"
    if of.what == "revoked":
        return "ABORT" if all(row[-1] is not None for row in inputs) else "RUNNING"
    return "COMPLETE" if of.what in _COMPLETE else "ABORT"


def run_id(voice: Voice, of: Happened) -> str:
    """The run's own name when it is a UUID; else one that follows from where and whose it is."""
    _, _, name = of.run.rpartition(":")
    try:
        return (
            str(uuid.UUID(name)) if len(name) == len(str(uuid.NAMESPACE_URL)) else _uuid(voice, of)
        )
    except ValueError:
        return _uuid(voice, of)


def _uuid(voice: Voice, of: Happened) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{voice.namespace}/{_name(of)}"))


def _name(of: Happened) -> str:
    return f"{of.actor}/{of.run.removeprefix(f'{of.actor}:')}"


def _inputs(voice: Voice, rows: list[tuple[Any, ...]], log: dict[str, Any]) -> list[dict[str, Any]]:
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault((row[0], row[1]), []).append(_grant(row))
    return [
        {
            "namespace": voice.namespace,
            "name": dataset,
            "facets": {"version": _version(voice, str(version))},
            "inputFacets": {
                access_facet.FACET: {
                    "_producer": voice.issuer,
                    "_schemaURL": access_facet.schema_url(voice.issuer),
                    "grants": grants,
                    "log": log,
                }
            },
        }
        for (dataset, version), grants in found.items()
    ]


def _grant(row: tuple[Any, ...]) -> dict[str, Any]:
    _, _, grant, decision, purpose, epoch, names, masks, masked, rows, at_most, revoked = row
    return {
        "grant": grant,
        "decision": decision,
        "purpose": purpose or "",
        **({} if epoch is None else {"policyEpoch": epoch}),
        "columns": names or [],
        "masks": {
            name: mask[len(name) + 1 :]
            for name, mask in zip(masked or (), masks or (), strict=True)
        },
        "rowsDelivered": rows,
        "rowsAtMost": max(rows, at_most),
        **({} if revoked is None else {"revokedAt": _iso(revoked)}),
    }


def _outputs(voice: Voice, of: Happened) -> list[dict[str, Any]]:
    if of.model is None:
        return []
    facets = {} if of.artifact is None else {"version": _version(voice, f"sha256:{of.artifact}")}
    name = f"model:{of.actor}/{of.model}"
    return [{"namespace": voice.namespace, "name": name, "facets": facets}]


def _version(voice: Voice, version: str) -> dict[str, str]:
    return {
        "_producer": voice.issuer,
        "_schemaURL": f"{_FACETS}/1-0-1/DatasetVersionDatasetFacet.json",
        "datasetVersion": version,
    }


def _iso(time: datetime) -> str:
    return time.replace(tzinfo=UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
