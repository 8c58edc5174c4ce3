"""The edges of the lineage graph, as SQL over the sided views.

`edge` is what the gateway saw: few, made of what each tenant may see. Claims may be millions; they
are followed by number, and only the graph reads them.
"""

from __future__ import annotations

MODEL = "model || coalesce('@sha256:' || artifact, '')"
EDGE_VIEWS = ("version", "grant", "lease", "release", "run", "derivation")
EDGE = f"""edge AS MATERIALIZED (
  SELECT DISTINCT 'dataset:' || dataset AS source,
         'version:' || dataset || '@' || version AS target, 'version' AS kind
  FROM (SELECT dataset, version FROM seen_version UNION SELECT dataset, version FROM seen_grant
        UNION SELECT dataset, version FROM seen_derivation)
  WHERE version IS NOT NULL
  UNION ALL
  SELECT 'version:' || dataset || '@' || version, 'grant:' || "grant", 'granted' FROM seen_grant
  UNION ALL
  SELECT 'grant:' || parent, 'grant:' || "grant", 'cut' FROM seen_grant WHERE parent IS NOT NULL
  UNION ALL
  SELECT DISTINCT 'grant:' || "grant", 'run:' || actor_tenant || '/' || run, 'streamed'
  FROM seen_lease WHERE run IS NOT NULL
  UNION ALL
  SELECT DISTINCT 'grant:' || "grant", 'run:' || actor_tenant || '/' || run, 'keys'
  FROM seen_release WHERE run IS NOT NULL
  UNION ALL
  SELECT DISTINCT 'run:' || actor_tenant || '/' || run,
         'model:' || actor_tenant || '/' || {MODEL}, 'made'
  FROM seen_run WHERE model IS NOT NULL
  UNION ALL
  SELECT DISTINCT coalesce('version:' || origin || '@' || origin_version,
                           'run:' || actor_tenant || '/' || run),
         'version:' || dataset || '@' || version, 'derived'
  FROM seen_derivation)"""  # noqa: S608 - this file's constants
# Columns, at the level of datasets: which runs received them (without a run: under which Grants),
# and what these made.
COLUMN_EDGE_VIEWS = ("stream", "run")
COLUMN_EDGE = f"""edge AS MATERIALIZED (
  SELECT DISTINCT 'column:' || dataset || ':' || name AS source,
         coalesce('run:' || actor_tenant || '/' || run, 'grant:' || "grant") AS target,
         CASE WHEN list_contains(masked, name) THEN 'masked'
              WHEN through = 'keys' THEN 'keys' ELSE 'streamed' END AS kind
  FROM (SELECT dataset, actor_tenant, run, "grant", masked, through, unnest(columns) AS name
        FROM seen_stream)
  UNION ALL
  SELECT DISTINCT 'run:' || actor_tenant || '/' || run,
         'model:' || actor_tenant || '/' || {MODEL}, 'made'
  FROM seen_run WHERE model IS NOT NULL)"""  # noqa: S608 - this file's constants

# What a tenant claims beside it, as (source, target, source_key, target_key); no question reads it.
CLAIM_EDGE = "SELECT source, target, source_key, target_key FROM claim_edge"
CLAIM_COLUMN_EDGE = """SELECT 'column:' || source || ':' || source_column AS source,
  coalesce('column:' || target || ':' || target_column, 'dataset:' || target) AS target,
  source_key, target_key FROM claim_column"""
