"""Questions about the log itself: is it whole, where does one event stand, what was there when."""

from __future__ import annotations

from gateway.lineage.parameters import Parameter
from gateway.lineage.question import DATASET, LIMIT, OF_DATASET, SINCE, STATE, UNTIL, Question

# Every LogCheckpoint covers the log up to a TenantHeads event (docs/formats/event-v0.md).
_COMPLETE = Question(
    name="log-complete",
    version=1,
    text="whether the log of a period has no gap, and which LogCheckpoints enclose it",
    parameters=(SINCE, UNTIL, LIMIT),
    columns=(
        "first_index", "last_index", "events", "is_gap_free", "your_events", "checkpoint_before",
        "checkpoint_after",
    ),
    views=("event",),
    # Each event is projected once, in one transaction with the mark of how far history is; a sum
    # beside the count tells one that came twice from one that is missing.
    ctes=(
        """span AS (
  SELECT min(idx) AS first_index, max(idx) AS last_index
  FROM event WHERE ($since IS NULL OR time >= $since) AND ($until IS NULL OR time < $until))""",
        """there AS (
  SELECT count(*) AS events, sum(idx::HUGEINT) AS places
  FROM event WHERE idx >= (SELECT first_index FROM span)
               AND idx <= (SELECT last_index FROM span))""",
        """heads AS (SELECT idx FROM event WHERE kind = 'TenantHeads')""",
    ),
    sql="""
SELECT s.first_index, s.last_index, t.events,
       t.events = s.last_index - s.first_index + 1
         AND 2 * t.places = (s.first_index + s.last_index)::HUGEINT * t.events AS is_gap_free,
       y.your_events,
       (SELECT max(idx) + 1 FROM heads WHERE idx < (SELECT first_index FROM span))
         AS checkpoint_before,
       (SELECT min(idx) + 1 FROM heads WHERE idx >= (SELECT last_index FROM span))
         AS checkpoint_after
FROM span s, there t,
     (SELECT count(*) AS your_events FROM seen_event
      WHERE ($since IS NULL OR time >= $since) AND ($until IS NULL OR time < $until)) y
WHERE y.your_events > 0 LIMIT $limit""",
)  # fmt: skip

_PLACE = Question(
    name="place-of-event",
    version=1,
    text="where something stands in the log, and the LogCheckpoint that covers it, for a proof",
    parameters=(
        Parameter(
            name="id", type="word", required=True, text="a decision's, grant's, lease's or run's id"
        ),
        LIMIT,
    ),
    columns=("index", "time", "kind", "tenant", "actor_tenant", "subject_tag", "checkpoint_size"),
    views=("event", "decision", "lease", "token", "request", "run"),
    sql="""
SELECT e.index, e.time, e.kind, e.tenant, e.actor_tenant, e.subject_tag,
       (SELECT min(h.idx) + 1 FROM event h WHERE h.kind = 'TenantHeads' AND h.idx >= e.index)
         AS checkpoint_size
FROM seen_event e
WHERE e.index IN (
  SELECT index FROM seen_decision WHERE $id IN (decision, "grant", run)
  UNION SELECT index FROM seen_lease WHERE $id IN (lease, "grant", run)
  UNION SELECT index FROM seen_token WHERE $id IN (jti, "grant")
  UNION SELECT index FROM seen_request WHERE $id IN (request, run)
  UNION SELECT index FROM seen_run WHERE run = $id)
ORDER BY e.index LIMIT $limit""",
)

_VERSIONS = Question(
    name="versions-at",
    version=1,
    text="which versions of which datasets were there at a time, and in what state",
    parameters=(DATASET, STATE, LIMIT),
    columns=("dataset", "version", "registered_at", "rows", "bytes", "manifest_digest", "state"),
    views=("version", "erasure", "dataset_state"),
    sql=f"""
SELECT v.dataset, v.version, v.time AS registered_at, v.rows, v.bytes, v.manifest_digest,
       CASE WHEN EXISTS (SELECT 1 FROM seen_erasure e
              WHERE e.dataset = v.dataset AND (e.version IS NULL OR e.version = v.version)
                AND e.columns IS NULL AND e.time <= $as_of AND e.index > v.index) THEN 'erased'
            ELSE coalesce((SELECT arg_max(s.state, s.index) FROM seen_dataset_state s
                           WHERE s.dataset = v.dataset AND s.time <= $as_of
                             AND s.index > (SELECT coalesce(max(e.index), -1) FROM seen_erasure e
                                            WHERE e.dataset = v.dataset AND e.version IS NULL
                                              AND e.index < v.index)), 'active')
       END AS state
FROM seen_version v WHERE {OF_DATASET} AND v.time <= $as_of
ORDER BY v.dataset, v.version LIMIT $limit""",  # noqa: S608 - our constants
)

QUESTIONS = (_COMPLETE, _PLACE, _VERSIONS)
