"""Questions of whoever watches: rules without a second person, misuse, outliers, repeats."""

from __future__ import annotations

from gateway.lineage.parameters import Parameter
from gateway.lineage.question import (
    AS_OF,
    DATASET,
    IN_TIME,
    LIMIT,
    OF_DATASET,
    SINCE,
    SUBJECT,
    UNTIL,
    Question,
)

_MEDIAN_DAYS = 30

_OF_BUNDLE = Question(
    name="decisions-of-bundle",
    version=1,
    text="what was decided under one policy bundle, by which of its rules",
    parameters=(
        Parameter(name="bundle", type="bundle", text="SHA-256 of the bundle", required=True),
        SINCE, UNTIL, AS_OF, LIMIT,
    ),
    columns=(
        "tenant", "bundle", "rules", "action", "effect", "decisions", "subjects", "grants",
        "first_time", "last_time",
    ),
    views=("decision",),
    sql=f"""
SELECT tenant, bundle, rules, action, effect, count(*) AS decisions,
       count(DISTINCT subject_tag) AS subjects, count("grant") AS grants,
       min(time) AS first_time, max(time) AS last_time
FROM seen_decision WHERE bundle = $bundle AND {IN_TIME}
GROUP BY tenant, bundle, rules, action, effect
ORDER BY decisions DESC, rules, action, effect LIMIT $limit""",  # noqa: S608 - our constants
)  # fmt: skip

_REPLACED = Question(
    name="reads-under-replaced-rules",
    version=1,
    text="reads under grants that were decided by rules no longer in force when they happened",
    parameters=(DATASET, SINCE, UNTIL, AS_OF, LIMIT),
    columns=(
        "dataset", "version", "actor_tenant", "subject_tag", "run", "grant", "granted_under",
        "replaced_by", "replaced_at", "rows", "first_read", "last_read",
    ),
    views=("stream", "grant", "policy"),
    # The first publication after a Grant is of other rules, or one of the same rules is followed
    # by another: so each Grant is held against one publication, however many there are.
    ctes=(
        """spell AS (
  SELECT tenant, index, time, bundle,
         sum(CASE WHEN bundle IS DISTINCT FROM before THEN 1 ELSE 0 END)
           OVER (PARTITION BY tenant ORDER BY index) AS number
  FROM (SELECT *, lag(bundle) OVER (PARTITION BY tenant ORDER BY index) AS before
        FROM seen_policy WHERE bundle IS NOT NULL))""",
        """published AS (
  SELECT p.tenant, p.index, p.time, p.bundle, n.index AS then_index, n.time AS then_time,
         n.bundle AS then_bundle
  FROM spell p LEFT JOIN (SELECT tenant, number, min(index) AS index, min(time) AS time,
                                 any_value(bundle) AS bundle
                          FROM spell GROUP BY tenant, number) n
    ON n.tenant = p.tenant AND n.number = p.number + 1)""",
        """replaced AS (
  SELECT g."grant", g.bundle, p.bundle <> g.bundle AS is_at_once,
         CASE WHEN is_at_once THEN p.index ELSE p.then_index END AS index,
         CASE WHEN is_at_once THEN p.bundle ELSE p.then_bundle END AS by_bundle,
         CASE WHEN is_at_once THEN p.time ELSE p.then_time END AS at
  FROM (SELECT *, split_part(dataset, '/', 1) AS tenant
        FROM seen_grant WHERE bundle IS NOT NULL) g
  ASOF JOIN published p ON p.tenant = g.tenant AND g.index < p.index)""",
        f"""due AS (
  SELECT s.lease, p.bundle, p.index, p.by_bundle, p.at
  FROM seen_stream s JOIN replaced p ON p."grant" = s."grant"
  WHERE p.index IS NOT NULL AND {OF_DATASET})""",  # noqa: S608 - our constants
        f"""late AS (
  SELECT r.lease, sum(r.rows) AS rows, min(r.time) AS first_read, max(r.time) AS last_read
  FROM (SELECT lease, idx, time, rows FROM confirmed
        UNION ALL SELECT 'keys:' || idx, idx, time, rows FROM key_release) r
  JOIN due d ON d.lease = r.lease AND r.idx > d.index
  WHERE {IN_TIME} GROUP BY r.lease)""",  # noqa: S608 - our constants
    ),
    sql="""
SELECT s.dataset, s.version, s.actor_tenant, s.subject_tag, s.run, s."grant",
       d.bundle AS granted_under, d.by_bundle AS replaced_by, d.at AS replaced_at,
       sum(r.rows)::BIGINT AS rows, min(r.first_read) AS first_read, max(r.last_read) AS last_read
FROM late r JOIN due d ON d.lease = r.lease JOIN seen_stream s ON s.lease = r.lease
GROUP BY s.dataset, s.version, s.actor_tenant, s.subject_tag, s.run, s."grant", d.bundle,
         d.by_bundle, d.at
ORDER BY last_read DESC, s."grant" LIMIT $limit""",
)  # fmt: skip

_ALONE = Question(
    name="rules-without-second-person",
    version=1,
    text="rules that came into force without the approval of a second person",
    parameters=(SINCE, UNTIL, AS_OF, LIMIT),
    columns=("time", "index", "tenant", "bundle", "rules", "files", "subject_tag"),
    views=("policy",),
    sql=f"""
SELECT time, index, tenant, bundle, rules, files, subject_tag
FROM seen_policy WHERE proposal IS NULL AND {IN_TIME}
ORDER BY index DESC LIMIT $limit""",  # noqa: S608 - our constants
)

_MISUSED = Question(
    name="tokens-misused",
    version=2,
    text="signs that a grant was used by another, after its end, or with several keys",
    parameters=(SUBJECT, SINCE, UNTIL, AS_OF, LIMIT),
    columns=("sign", "time", "grant", "dataset", "actor_tenant", "subject_tag", "detail"),
    views=("grant", "lease", "token"),
    sql=f"""
SELECT * FROM (
SELECT CASE WHEN l.subject_tag <> g.subject_tag THEN 'other-subject'
            WHEN l.time >= g.revoked_at THEN 'after-revocation' ELSE 'after-end' END AS sign,
       l.time, g."grant", g.dataset, g.actor_tenant, l.subject_tag, l.lease AS detail
FROM seen_lease l JOIN seen_grant g ON g."grant" = l."grant"
WHERE l.subject_tag <> g.subject_tag OR l.time >= g.revoked_at OR l.time >= g.expires_at
UNION ALL
SELECT 'several-keys', max(t.time), t."grant", any_value(t.dataset), any_value(t.actor_tenant),
       any_value(t.subject_tag), count(DISTINCT k.thumbprint) || ' keys'
FROM seen_token t JOIN token k ON k.idx = t.index JOIN seen_grant g ON g."grant" = t."grant"
WHERE g.run IS NULL
GROUP BY t."grant" HAVING count(DISTINCT k.thumbprint) > 1)
WHERE {IN_TIME} AND ($subject IS NULL OR subject_tag = $subject)
ORDER BY time DESC, sign, "grant" LIMIT $limit""",  # noqa: S608 - our constants
)

_UNUSUAL = Question(
    name="unusual-volumes",
    version=1,
    text="days on which a subject received many times its own median of the days before",
    parameters=(
        DATASET,
        Parameter(name="factor", type="factor", text="how many times the median; default: 10"),
        SUBJECT, SINCE, UNTIL, AS_OF, LIMIT,
    ),
    columns=("day", "actor_tenant", "subject_tag", "rows", "bytes", "median_bytes", "days_before"),
    views=("received",),
    ctes=(
        f"""daily AS (
  SELECT date_trunc('day', time)::DATE AS day, actor_tenant, subject_tag,
         sum(rows)::BIGINT AS rows, sum(bytes)::BIGINT AS bytes
  FROM seen_received WHERE {OF_DATASET} AND ($as_of IS NULL OR time <= $as_of)
    AND ($until IS NULL OR time < $until) AND ($subject IS NULL OR subject_tag = $subject)
  GROUP BY ALL)""",  # noqa: S608 - our constants
    ),
    sql=f"""
SELECT day, actor_tenant, subject_tag, rows, bytes, median(bytes) OVER before AS median_bytes,
       count(*) OVER before AS days_before
FROM daily
WINDOW before AS (PARTITION BY actor_tenant, subject_tag ORDER BY day
                  ROWS BETWEEN {_MEDIAN_DAYS} PRECEDING AND 1 PRECEDING)
QUALIFY bytes > $factor * median_bytes AND ($since IS NULL OR day >= $since::DATE)
ORDER BY day DESC, bytes DESC, subject_tag LIMIT $limit""",  # noqa: S608 - our constants
)  # fmt: skip

_REPEATED = Question(
    name="repeated-reads",
    version=1,
    text="segments that a run received more than once in the same pass over the data",
    parameters=(DATASET, SINCE, UNTIL, AS_OF, LIMIT),
    columns=(
        "dataset", "version", "actor_tenant", "subject_tag", "run", "grant", "epoch", "rank",
        "segments", "times_most", "first_read", "last_read",
    ),
    views=("stream", "lease"),
    # A pass has one order of segments. Numbered, and which segments came twice found first, so
    # that millions of ranges stay cheap to group.
    ctes=(
        """pass AS (
  SELECT lease, epoch, rank,
         dense_rank() OVER (ORDER BY "grant", run, epoch, rank, world) AS pass FROM seen_lease)""",
        f"""range_of_lease AS (
  SELECT lease, time, first_segment, last_segment FROM confirmed WHERE {IN_TIME})""",  # noqa: S608 - our constants
        """twice AS (
  SELECT p.pass, c.segment
  FROM (SELECT lease, first_segment AS segment FROM range_of_lease
        UNION ALL SELECT lease, unnest(range(first_segment + 1, last_segment + 1))
        FROM range_of_lease WHERE last_segment > first_segment) c
  JOIN pass p ON p.lease = c.lease
  GROUP BY p.pass, c.segment HAVING count(*) > 1)""",
        """again AS (
  SELECT t.pass, t.segment, count(*) AS times, min(c.time) AS first_read,
         max(c.time) AS last_read, max(c.lease) AS lease
  FROM twice t JOIN pass p ON p.pass = t.pass
  JOIN range_of_lease c ON c.lease = p.lease
                       AND t.segment BETWEEN c.first_segment AND c.last_segment
  GROUP BY t.pass, t.segment)""",
    ),
    sql=f"""
SELECT s.dataset, s.version, s.actor_tenant, s.subject_tag, s.run, s."grant", p.epoch, p.rank,
       a.segments, a.times_most, a.first_read, a.last_read
FROM (SELECT max(lease) AS lease, count(*) AS segments, max(times) AS times_most,
             min(first_read) AS first_read, max(last_read) AS last_read
      FROM again GROUP BY pass) a
JOIN pass p ON p.lease = a.lease
JOIN (SELECT * FROM seen_stream WHERE {OF_DATASET}) s ON s.lease = a.lease
ORDER BY a.segments DESC, a.last_read DESC, s."grant" LIMIT $limit""",  # noqa: S608 - our constants
)  # fmt: skip

_UNUSED = Question(
    name="unused-tokens",
    version=1,
    text="tokens under which nothing was ever read",
    parameters=(DATASET, SUBJECT, SINCE, UNTIL, AS_OF, LIMIT),
    columns=(
        "issued_at", "index", "grant", "dataset", "version", "actor_tenant", "subject_tag",
        "expires_at",
    ),
    views=("token", "lease", "release"),
    sql=f"""
SELECT time AS issued_at, index, "grant", dataset, version, actor_tenant, subject_tag, expires_at
FROM seen_token t
WHERE {OF_DATASET} AND {IN_TIME} AND ($subject IS NULL OR subject_tag = $subject)
  AND NOT EXISTS (SELECT 1 FROM seen_lease l WHERE l."grant" = t."grant"
                  AND ($as_of IS NULL OR l.time <= $as_of))
  AND NOT EXISTS (SELECT 1 FROM seen_release k WHERE k."grant" = t."grant"
                  AND ($as_of IS NULL OR k.time <= $as_of))
ORDER BY index DESC LIMIT $limit""",  # noqa: S608 - our constants
)  # fmt: skip

QUESTIONS = (_OF_BUNDLE, _REPLACED, _ALONE, _MISUSED, _UNUSUAL, _REPEATED, _UNUSED)
