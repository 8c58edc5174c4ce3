"""The edges of the lineage graph, as SQL over the sided views.

`edge` is what the gateway saw. `any_edge` has what a tenant claimed beside it, of kind `claimed`;
only the graph reads it, never a question.
"""

from __future__ import annotations

MODEL = "model || coalesce('@sha256:' || artifact, '')"
EDGE_VIEWS = ("version", "grant", "lease", "run", "derivation")
EDGE = f"""edge AS MATERIALIZED (
  SELECT DISTINCT 'dataset:' || dataset AS source,
         'version:' || dataset || '@' || version AS target, 'version' AS kind
  FROM (SELECT dataset, version FROM seen_version UNION SELECT dataset, version FROM seen_grant
        UNION SELECT dataset, version FROM seen_derivation)
  WHERE version IS NOT NULL
  UNION ALL
  SELECT 'version:' || dataset || '@' || version, 'grant:' || "grant", 'granted' FROM seen_grant
  UNION ALL
  SELECT DISTINCT 'grant:' || "grant", 'run:' || actor_tenant || '/' || run, 'streamed'
  FROM seen_lease WHERE run IS NOT NULL
  UNION ALL
  SELECT DISTINCT 'run:' || actor_tenant || '/' || run,
         'model:' || actor_tenant || '/' || {MODEL}, 'made'
  FROM seen_run WHERE model IS NOT NULL
  UNION ALL
  SELECT DISTINCT coalesce('version:' || origin || '@' || origin_version,
                           'run:' || actor_tenant || '/' || run),
         'version:' || dataset || '@' || version, 'derived'
  FROM seen_derivation)"""  # noqa: S608 - this file's constants
ANY_EDGE_VIEWS = (*EDGE_VIEWS, "claim_edge")
ANY_EDGE = """any_edge AS MATERIALIZED (
  SELECT source, target, kind FROM edge
  UNION ALL
  SELECT DISTINCT source, target, 'claimed' FROM seen_claim_edge)"""

# Columns, at the level of datasets: which runs received them, and what a tenant claims they became.
COLUMN_EDGE_VIEWS = ("stream", "run", "claim_column")
COLUMN_EDGE = f"""any_edge AS MATERIALIZED (
  SELECT DISTINCT 'column:' || dataset || ':' || name AS source,
         'run:' || actor_tenant || '/' || run AS target,
         CASE WHEN list_contains(masked, name) THEN 'masked' ELSE 'streamed' END AS kind
  FROM (SELECT dataset, actor_tenant, run, masked, unnest(columns) AS name FROM seen_stream
        WHERE run IS NOT NULL)
  UNION ALL
  SELECT DISTINCT 'run:' || actor_tenant || '/' || run,
         'model:' || actor_tenant || '/' || {MODEL}, 'made'
  FROM seen_run WHERE model IS NOT NULL
  UNION ALL
  SELECT DISTINCT 'column:' || source || ':' || source_column,
         coalesce('column:' || target || ':' || target_column, 'dataset:' || target), 'claimed'
  FROM seen_claim_column)"""  # noqa: S608 - this file's constants
