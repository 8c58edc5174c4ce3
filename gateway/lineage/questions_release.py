"""Questions about what left and where it went: shards, columns, runs, models, other tenants."""

from __future__ import annotations

from gateway.lineage.edges import EDGE, EDGE_VIEWS
from gateway.lineage.parameters import Parameter
from gateway.lineage.question import (
    AS_OF,
    DATASET,
    IN_TIME,
    LIMIT,
    OF_DATASET,
    PURPOSE,
    SINCE,
    TERMS,
    THE_DATASET,
    UNTIL,
    Question,
)
from gateway.lineage.views import released

_DEPTH_MAX = 20

_RUNS_OF_SHARD = Question(
    name="runs-of-shard",
    version=1,
    text="which runs may have received rows of one shard, and how much of their stream left",
    parameters=(
        THE_DATASET,
        Parameter(name="shard", type="place", text="number of the shard, from 0", required=True),
        SINCE, UNTIL, AS_OF, LIMIT,
    ),
    columns=(
        "dataset", "version", "split", "actor_tenant", "subject_tag", "run", "through",
        "segments_received", "segments_in_stream", "rows", "first_read", "last_read",
    ),
    views=("stream", "version", "release"),
    ctes=(
        released(IN_TIME),
        """having_shard AS (SELECT dataset, version FROM seen_version WHERE shards > $shard)""",
    ),
    # The order of rows is secret: who had a part of a stream may have had any of its shards.
    sql=f"""
SELECT dataset, version, split, actor_tenant, subject_tag, run, 'stream' AS through,
       sum(least(segments, segments_in_stream))::BIGINT AS segments_received,
       sum(segments_in_stream)::BIGINT AS segments_in_stream, sum(rows)::BIGINT AS rows,
       min(first_read) AS first_read, max(last_read) AS last_read
FROM seen_stream s JOIN released USING (lease) JOIN having_shard USING (dataset, version)
WHERE {OF_DATASET} AND s.through = 'stream'
GROUP BY dataset, version, split, actor_tenant, subject_tag, run
UNION ALL
SELECT dataset, version, split, actor_tenant, subject_tag, run, 'keys', NULL, NULL,
       sum(rows)::BIGINT, min(time), max(time)
FROM seen_release JOIN having_shard USING (dataset, version)
WHERE {OF_DATASET} AND {IN_TIME}
GROUP BY dataset, version, split, actor_tenant, subject_tag, run
ORDER BY last_read DESC, actor_tenant, run LIMIT $limit""",  # noqa: S608 - our constants
)  # fmt: skip

_UNMASKED = Question(
    name="column-unmasked",
    version=2,
    text="where a column went without a mask: readers, runs, models",
    parameters=(
        THE_DATASET,
        Parameter(name="column", type="column", text="name of the column", required=True),
        PURPOSE, SINCE, UNTIL, AS_OF, LIMIT,
    ),
    columns=(
        "dataset", "version", "actor_tenant", "subject_tag", "run", "purpose", "rows",
        "rows_at_most", "first_read", "last_read", "models", "through",
    ),
    views=("stream", "run"),
    ctes=(released(IN_TIME),),
    sql=f"""
SELECT s.dataset, s.version, s.actor_tenant, s.subject_tag, s.run, s.purpose,
       sum(s.rows)::BIGINT AS rows, greatest(sum(s.rows), sum(s.intended))::BIGINT AS rows_at_most,
       min(s.first_read) AS first_read, max(s.last_read) AS last_read,
       any_value(f.models) AS models, s.through
FROM (SELECT * FROM seen_stream JOIN released USING (lease)
      WHERE {OF_DATASET} AND list_contains(columns, $column)
        AND NOT list_contains(masked, $column)
        AND ($purpose IS NULL OR purpose = $purpose)) s
LEFT JOIN (SELECT run, actor_tenant, list(model ORDER BY index) AS models FROM seen_run
           WHERE model IS NOT NULL AND ($as_of IS NULL OR time <= $as_of)
           GROUP BY run, actor_tenant) f
       ON f.run = s.run AND f.actor_tenant = s.actor_tenant
GROUP BY s.dataset, s.version, s.actor_tenant, s.subject_tag, s.run, s.purpose, s.through
ORDER BY last_read DESC, s.actor_tenant, s.run, s.through LIMIT $limit""",  # noqa: S608 - our constants
)  # fmt: skip

_PROVENANCE = Question(
    name="provenance-of-model",
    version=1,
    text="which versions went into a model, directly or through what they were made from",
    parameters=(
        Parameter(
            name="model", type="model", required=True, text="NAME or NAME@sha256:... of a model"
        ),
        LIMIT,
    ),
    columns=(
        "dataset", "version", "steps", "registered_at", "rows", "manifest_digest", "tags",
        "licence", "legal_basis",
    ),
    views=(*EDGE_VIEWS, "tagged"),
    ctes=(
        EDGE,
        TERMS,
        f"""up(id, depth) AS (
  SELECT DISTINCT 'run:' || actor_tenant || '/' || run, 0 FROM seen_run
  WHERE model = $model OR model || '@sha256:' || artifact = $model
  UNION SELECT e.source, u.depth + 1 FROM up u JOIN edge e ON e.target = u.id
  WHERE u.depth < {_DEPTH_MAX})""",  # noqa: S608 - our constants
        """reached AS (SELECT id, min(depth) AS depth FROM up WHERE id LIKE 'version:%'
                       GROUP BY id)""",
    ),
    sql="""
SELECT v.dataset, v.version, r.depth AS steps, v.registered_at, v.rows, v.manifest_digest,
       (SELECT list_sort(list_distinct(flatten(list(t.tags)))) FROM seen_tagged t
        WHERE t.dataset = v.dataset AND t.version = v.version) AS tags,
       coalesce(m.licence, 'unknown') AS licence,
       coalesce(m.legal_basis, 'unknown') AS legal_basis
FROM reached r
JOIN (SELECT 'version:' || dataset || '@' || version AS id, dataset, version,
             any_value(time) AS registered_at, any_value(rows) AS rows,
             any_value(manifest_digest) AS manifest_digest
      FROM (SELECT dataset, version, time, rows, manifest_digest FROM seen_version
            UNION ALL SELECT DISTINCT dataset, version, NULL::TIMESTAMP, NULL::BIGINT, NULL::VARCHAR
            FROM seen_grant)
      GROUP BY dataset, version) v ON v.id = r.id
LEFT JOIN terms m ON m.dataset = v.dataset
ORDER BY steps, v.dataset, v.version LIMIT $limit""",
)  # fmt: skip

_DOWNSTREAM = Question(
    name="downstream-of-dataset",
    version=1,
    text="every run, model and version that came of a dataset: what to retrain or erase",
    parameters=(THE_DATASET, LIMIT),
    columns=("kind", "name", "steps"),
    views=EDGE_VIEWS,
    ctes=(
        EDGE,
        f"""down(id, depth) AS (
  SELECT DISTINCT source, 0 FROM edge
  WHERE source = 'version:' || $dataset || '@' || $dataset_version
     OR ($dataset_version IS NULL AND source = 'dataset:' || $dataset)
  UNION SELECT e.target, d.depth + 1 FROM down d JOIN edge e ON e.source = d.id
  WHERE d.depth < {_DEPTH_MAX})""",  # noqa: S608 - our constants
    ),
    sql="""
SELECT split_part(id, ':', 1) AS kind, substr(id, strpos(id, ':') + 1) AS name,
       min(depth)::BIGINT AS steps
FROM down WHERE depth > 0 AND split_part(id, ':', 1) IN ('run', 'model', 'version')
GROUP BY id ORDER BY steps, kind, name LIMIT $limit""",
)

_OTHERS = Question(
    name="reads-by-others",
    version=1,
    text="what other organisations received, for which purpose, under which rules",
    parameters=(DATASET, PURPOSE, SINCE, UNTIL, AS_OF, LIMIT),
    columns=(
        "tenant", "actor_tenant", "dataset", "purpose", "rules", "runs", "subjects", "rows",
        "bytes", "first_read", "last_read",
    ),
    views=("stream",),
    ctes=(released(IN_TIME),),
    sql=f"""
SELECT tenant, actor_tenant, dataset, purpose,
       list_sort(list_distinct(flatten(list(coalesce(rules, []))))) AS rules,
       count(DISTINCT run) AS runs, count(DISTINCT subject_tag) AS subjects,
       sum(rows)::BIGINT AS rows, sum(bytes)::BIGINT AS bytes,
       min(first_read) AS first_read, max(last_read) AS last_read
FROM seen_stream JOIN released USING (lease)
WHERE actor_tenant <> tenant AND {OF_DATASET} AND ($purpose IS NULL OR purpose = $purpose)
GROUP BY tenant, actor_tenant, dataset, purpose
ORDER BY last_read DESC, actor_tenant, dataset LIMIT $limit""",  # noqa: S608 - our constants
)  # fmt: skip

_USAGE = Question(
    name="usage",
    version=1,
    text="rows, bytes, runs and streams per month, owner, recipient and dataset",
    parameters=(DATASET, SINCE, UNTIL, AS_OF, LIMIT),
    columns=(
        "month", "tenant", "actor_tenant", "dataset", "runs", "streams", "rows", "bytes",
    ),
    views=("stream",),
    ctes=(
        f"""monthly AS (
  SELECT lease, date_trunc('month', time) AS month, sum(rows) AS rows, sum(bytes) AS bytes
  FROM (SELECT lease, time, rows, bytes FROM confirmed
        UNION ALL SELECT 'keys:' || idx, time, rows, bytes FROM key_release)
  WHERE {IN_TIME} AND lease IN (SELECT lease FROM seen_stream) GROUP BY ALL)""",  # noqa: S608 - our constants
    ),
    sql=f"""
SELECT strftime(month, '%Y-%m') AS month, tenant, actor_tenant, dataset,
       count(DISTINCT run) AS runs,
       count(DISTINCT lease) FILTER (WHERE through = 'stream') AS streams,
       sum(rows)::BIGINT AS rows, sum(bytes)::BIGINT AS bytes
FROM seen_stream JOIN monthly USING (lease) WHERE {OF_DATASET}
GROUP BY month, tenant, actor_tenant, dataset
ORDER BY month DESC, tenant, actor_tenant, dataset LIMIT $limit""",  # noqa: S608 - our constants
)  # fmt: skip

_PERIODS = Question(
    name="periods-of-use",
    version=1,
    text="each use with its start, its end, the versions it read and who was behind it",
    parameters=(DATASET, SINCE, UNTIL, AS_OF, LIMIT),
    columns=(
        "actor_tenant", "run", "subject_tags", "started_at", "ended_at", "finished_at", "versions",
        "purposes", "rows", "models",
    ),
    views=("stream", "run"),
    ctes=(released(IN_TIME),),
    sql=f"""
SELECT s.actor_tenant, s.run, list(DISTINCT s.subject_tag ORDER BY s.subject_tag) AS subject_tags,
       min(s.first_read) AS started_at, max(s.last_read) AS ended_at,
       any_value(f.finished_at) AS finished_at,
       list_sort(list_distinct(list(s.dataset || '@' || s.version))) AS versions,
       list(DISTINCT s.purpose ORDER BY s.purpose) AS purposes, sum(s.rows)::BIGINT AS rows,
       any_value(f.models) AS models
FROM (SELECT * FROM seen_stream JOIN released USING (lease) WHERE {OF_DATASET}) s
LEFT JOIN (SELECT run, actor_tenant, max(time) AS finished_at,
                  list(model ORDER BY index) FILTER (WHERE model IS NOT NULL) AS models
           FROM seen_run WHERE $as_of IS NULL OR time <= $as_of GROUP BY run, actor_tenant) f
       ON f.run = s.run AND f.actor_tenant = s.actor_tenant
GROUP BY s.actor_tenant, s.run
ORDER BY started_at DESC, s.actor_tenant, s.run LIMIT $limit""",  # noqa: S608 - our constants
)  # fmt: skip

QUESTIONS = (_RUNS_OF_SHARD, _UNMASKED, _PROVENANCE, _DOWNSTREAM, _OTHERS, _USAGE, _PERIODS)
