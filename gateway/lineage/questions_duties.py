"""Questions that the law asks: purposes, bases, categories, transfers, retention, erasure.

What an owner says about a dataset in its card (`legal_basis`, `retention`, `region`) comes as
`terms` from control, which alone opens sealed cards, as the cards are now and for the asker's
own datasets. What nobody said is `unknown`, never `none`.
"""

from __future__ import annotations

from gateway.lineage.question import (
    AS_OF,
    DATASET,
    IN_TIME,
    LIMIT,
    OF_DATASET,
    PURPOSE,
    SINCE,
    TERMS,
    UNTIL,
    Question,
)
from gateway.lineage.views import released

# Tags whose last word is `special`: categories of GDPR Art. 9 and 10.
_SPECIAL = """special AS (
  SELECT dataset, version, list(column_name ORDER BY column_name) AS names FROM seen_tagged
  WHERE len(list_filter(tags, lambda t: regexp_matches(t, '(^|[.])special$'))) > 0
  GROUP BY dataset, version)"""

_RECORD = Question(
    name="processing-record",
    version=1,
    text="per purpose: datasets, categories, recipients, legal basis, regions (GDPR Art. 30)",
    parameters=(DATASET, PURPOSE, SINCE, UNTIL, AS_OF, LIMIT),
    columns=(
        "tenant", "purpose", "datasets", "categories", "legal_bases", "recipients",
        "recipient_regions", "retentions", "rows", "runs", "first_read", "last_read",
    ),
    views=("stream", "tagged"),
    ctes=(
        released(IN_TIME),
        TERMS,
        """category AS (
  SELECT dataset, version, list_sort(list_distinct(flatten(list(tags)))) AS tags
  FROM seen_tagged GROUP BY dataset, version)""",
    ),
    sql=f"""
SELECT s.tenant, s.purpose, list(DISTINCT s.dataset ORDER BY s.dataset) AS datasets,
       list_sort(list_distinct(flatten(list(coalesce(c.tags, []))))) AS categories,
       list_sort(list_distinct(list(coalesce(m.legal_basis, 'unknown')))) AS legal_bases,
       list(DISTINCT s.actor_tenant ORDER BY s.actor_tenant) AS recipients,
       list_sort(list_distinct(list(coalesce(s.region, 'unknown')))) AS recipient_regions,
       list_sort(list_distinct(list(coalesce(m.retention, 'unknown')))) AS retentions,
       sum(s.rows)::BIGINT AS rows, count(DISTINCT s.run) AS runs,
       min(s.first_read) AS first_read, max(s.last_read) AS last_read
FROM (SELECT * FROM seen_stream JOIN released USING (lease)
      WHERE {OF_DATASET} AND ($purpose IS NULL OR purpose = $purpose)) s
LEFT JOIN category c ON c.dataset = s.dataset AND c.version = s.version
LEFT JOIN terms m ON m.dataset = s.dataset
GROUP BY s.tenant, s.purpose ORDER BY s.tenant, s.purpose LIMIT $limit""",  # noqa: S608 - our constants
)  # fmt: skip

_SPECIAL_USE = Question(
    name="special-categories",
    version=1,
    text="reads of columns tagged special, and whether their legal basis is explicit (Art. 9)",
    parameters=(DATASET, PURPOSE, SINCE, UNTIL, AS_OF, LIMIT),
    columns=(
        "dataset", "version", "actor_tenant", "purpose", "special_columns", "legal_basis",
        "basis", "rows", "runs", "first_read", "last_read",
    ),
    views=("stream", "tagged"),
    ctes=(released(IN_TIME), TERMS, _SPECIAL),
    sql=f"""
SELECT s.dataset, s.version, s.actor_tenant, s.purpose,
       list_sort(list_distinct(flatten(list(list_intersect(s.columns, p.names)))))
         AS special_columns,
       any_value(m.legal_basis) AS legal_basis,
       CASE WHEN any_value(m.legal_basis) IS NULL THEN 'unknown'
            WHEN regexp_matches(lower(any_value(m.legal_basis)),
                                'explicit.?consent|art(icle|[.])? ?9 ?[(]2[)]|9[(]2[)]')
            THEN 'explicit' ELSE 'not-explicit' END AS basis,
       sum(s.rows)::BIGINT AS rows, count(DISTINCT s.run) AS runs,
       min(s.first_read) AS first_read, max(s.last_read) AS last_read
FROM (SELECT * FROM seen_stream JOIN released USING (lease)
      WHERE {OF_DATASET} AND ($purpose IS NULL OR purpose = $purpose)) s
JOIN special p ON p.dataset = s.dataset AND p.version = s.version
LEFT JOIN terms m ON m.dataset = s.dataset
WHERE list_has_any(s.columns, p.names)
GROUP BY s.dataset, s.version, s.actor_tenant, s.purpose
ORDER BY s.dataset, s.version, s.actor_tenant, s.purpose LIMIT $limit""",  # noqa: S608 - our constants
)  # fmt: skip

_TRANSFERS = Question(
    name="transfers",
    version=1,
    text="what left the region that a dataset's card names, to whom and where",
    parameters=(DATASET, PURPOSE, SINCE, UNTIL, AS_OF, LIMIT),
    columns=(
        "dataset", "region", "actor_tenant", "recipient_region", "leaves_region", "purpose",
        "rows", "bytes", "first_read", "last_read",
    ),
    views=("stream",),
    ctes=(released(IN_TIME), TERMS),
    sql=f"""
SELECT s.dataset, any_value(m.region) AS region, s.actor_tenant, s.region AS recipient_region,
       CASE WHEN any_value(m.region) IS NULL OR s.region IS NULL THEN 'unknown' ELSE 'yes' END
         AS leaves_region,
       s.purpose, sum(s.rows)::BIGINT AS rows, sum(s.bytes)::BIGINT AS bytes,
       min(s.first_read) AS first_read, max(s.last_read) AS last_read
FROM (SELECT * FROM seen_stream JOIN released USING (lease)
      WHERE {OF_DATASET} AND ($purpose IS NULL OR purpose = $purpose)) s
LEFT JOIN terms m ON m.dataset = s.dataset
WHERE m.region IS NULL OR s.region IS NULL
   OR NOT list_contains(list_transform(string_split(lower(m.region), ','), lambda r: trim(r)),
                        lower(s.region))
GROUP BY s.dataset, s.actor_tenant, s.region, s.purpose
ORDER BY leaves_region DESC, s.dataset, s.actor_tenant, s.region, s.purpose
LIMIT $limit""",  # noqa: S608 - our constants
)  # fmt: skip

_RETENTION = Question(
    name="reads-after-retention",
    version=1,
    text="reads of versions whose retention has ended, or of which nobody said when it ends",
    parameters=(DATASET, SINCE, UNTIL, AS_OF, LIMIT),
    columns=(
        "dataset", "version", "registered_at", "retention", "ends_at", "state", "actor_tenants",
        "runs", "rows", "first_read", "last_read",
    ),
    views=("received", "version"),
    ctes=(
        TERMS,
        """ending AS (
  SELECT v.dataset, v.version, v.time AS registered_at, m.retention,
         coalesce(m.retention_until::TIMESTAMP,
                  v.time + to_months(m.retention_months::INTEGER)
                         + to_days(m.retention_days::INTEGER)) AS ends_at
  FROM seen_version v LEFT JOIN terms m ON m.dataset = v.dataset)""",
    ),
    sql=f"""
SELECT e.dataset, e.version, e.registered_at, e.retention, e.ends_at,
       CASE WHEN e.ends_at IS NULL THEN 'unknown' ELSE 'after-end' END AS state,
       list(DISTINCT r.actor_tenant ORDER BY r.actor_tenant) AS actor_tenants,
       count(DISTINCT r.run) AS runs, sum(r.rows)::BIGINT AS rows,
       min(r.time) AS first_read, max(r.time) AS last_read
FROM ending e
JOIN (SELECT * FROM seen_received WHERE {OF_DATASET} AND {IN_TIME}) r
  ON r.dataset = e.dataset AND r.version = e.version
WHERE e.ends_at IS NULL OR r.time >= e.ends_at
GROUP BY e.dataset, e.version, e.registered_at, e.retention, e.ends_at
ORDER BY state, e.dataset, e.version LIMIT $limit""",  # noqa: S608 - our constants
)  # fmt: skip

_ERASED = Question(
    name="reads-after-erasure",
    version=1,
    text="per erasure: what was released before it, and that nothing was after it",
    parameters=(DATASET, AS_OF, LIMIT),
    columns=(
        "dataset", "version", "columns", "erasure", "erased_at", "certificate", "rows_before",
        "runs_before", "rows_after", "runs_after",
    ),
    views=("received", "erasure"),
    sql=f"""
SELECT e.dataset, e.version, e.columns, e.erasure, any_value(e.time) AS erased_at,
       any_value(e.certificate) AS certificate,
       coalesce(sum(r.rows) FILTER (WHERE r.index < e.index), 0)::BIGINT AS rows_before,
       count(DISTINCT r.run) FILTER (WHERE r.index < e.index) AS runs_before,
       coalesce(sum(r.rows) FILTER (WHERE r.index > e.index), 0)::BIGINT AS rows_after,
       count(DISTINCT r.run) FILTER (WHERE r.index > e.index) AS runs_after
FROM (SELECT * FROM seen_erasure
      WHERE ($dataset IS NULL OR dataset = $dataset)
        AND ($dataset_version IS NULL OR version IS NULL OR version = $dataset_version)
        AND ($as_of IS NULL OR time <= $as_of)) e
LEFT JOIN (SELECT * FROM seen_received WHERE {OF_DATASET} AND ($as_of IS NULL OR time <= $as_of)) r
       ON r.dataset = e.dataset AND (e.version IS NULL OR r.version = e.version)
      AND (e.columns IS NULL OR list_has_any(r.columns, e.columns))
GROUP BY e.dataset, e.version, e.columns, e.erasure
ORDER BY erased_at DESC, e.erasure LIMIT $limit""",  # noqa: S608 - our constants
)  # fmt: skip

QUESTIONS = (_RECORD, _SPECIAL_USE, _TRANSFERS, _RETENTION, _ERASED)
