"""Questions about consent: what persons said, and what was read after they took it back."""

from __future__ import annotations

from gateway.domain.purpose import PURPOSES, and_above
from gateway.lineage.parameters import Parameter
from gateway.lineage.question import (
    AS_OF,
    DATASET,
    IN_TIME,
    LIMIT,
    OF_DATASET,
    PURPOSE,
    SINCE,
    UNTIL,
    Question,
)

_PAIRS = ", ".join(
    f"('{purpose}', '{above}')" for purpose in PURPOSES for above in sorted(and_above(purpose))
)
_COVERS = f"covers(purpose, consented) AS (VALUES {_PAIRS})"

_CONSENTS = Question(
    name="consents",
    version=1,
    text="the newest word of each person on each purpose: given or withdrawn, since when",
    parameters=(
        Parameter(name="dataset", type="dataset", text="only about this dataset or about all"),
        PURPOSE, AS_OF, LIMIT,
    ),
    columns=("person_tag", "purpose", "dataset", "state", "since", "index"),
    views=("consent",),
    sql="""
SELECT person_tag, purpose, dataset, arg_max(state, (holds_at, index)) AS state,
       arg_max(holds_at, (holds_at, index)) AS since, arg_max(index, (holds_at, index)) AS index
FROM seen_consent
WHERE ($dataset IS NULL OR dataset IS NULL OR dataset = $dataset)
  AND ($purpose IS NULL OR purpose = $purpose) AND ($as_of IS NULL OR time <= $as_of)
GROUP BY person_tag, purpose, dataset
ORDER BY index DESC, person_tag LIMIT $limit""",
)  # fmt: skip

# How many persons stand withdrawn under each consent (owner, purpose, dataset or all) since each
# moment; then each read is held against what covers its purpose. Which rows are whose is not
# known here: who had rows of the dataset may have had theirs. A stream that no word falls into is
# held as a whole, others read by read: millions of reads would each cost a look-up.
_AFTER = Question(
    name="reads-after-withdrawal",
    version=1,
    text="reads for a purpose after persons withdrew consent to it, or without any consent known",
    parameters=(DATASET, PURPOSE, SINCE, UNTIL, AS_OF, LIMIT),
    columns=(
        "state", "dataset", "version", "actor_tenant", "run", "purpose", "persons_at_most",
        "first_withdrawal", "rows", "first_read", "last_read",
    ),
    views=("stream", "consent"),
    ctes=(
        _COVERS,
        """word AS (
  SELECT *, coalesce(dataset, '') AS scope,
         lag(state) OVER (PARTITION BY tenant, purpose, dataset, person_tag
                          ORDER BY holds_at, index) AS before
  FROM seen_consent WHERE $as_of IS NULL OR time <= $as_of)""",
        """step AS (
  SELECT tenant, purpose, scope, holds_at,
         sum(CASE WHEN state = 'withdrawn' AND before IS DISTINCT FROM 'withdrawn' THEN 1
                  WHEN state = 'given' AND before = 'withdrawn' THEN -1 ELSE 0 END) AS change
  FROM word GROUP BY tenant, purpose, scope, holds_at)""",
        """level AS (
  SELECT tenant, purpose, scope, holds_at,
         sum(change) OVER (PARTITION BY tenant, purpose, scope ORDER BY holds_at) AS persons,
         min(CASE WHEN change > 0 THEN holds_at END)
           OVER (PARTITION BY tenant, purpose, scope ORDER BY holds_at) AS first_withdrawal
  FROM step)""",
        f"""reading AS (
  SELECT lease, time, rows
  FROM (SELECT lease, time, rows FROM confirmed
        UNION ALL SELECT 'keys:' || idx, time, rows FROM key_release) WHERE {IN_TIME})""",  # noqa: S608 - our constants
        """whole AS (
  SELECT lease, sum(rows) AS rows, min(time) AS first_read, max(time) AS last_read
  FROM reading GROUP BY lease)""",
        """parted AS (
  SELECT w.lease FROM whole w
  ASOF JOIN (SELECT DISTINCT holds_at FROM step) m ON w.last_read >= m.holds_at
  WHERE m.holds_at > w.first_read)""",
        """part AS (
  SELECT * FROM whole WHERE lease NOT IN (SELECT lease FROM parted)
  UNION ALL
  SELECT lease, rows, time, time FROM reading WHERE lease IN (SELECT lease FROM parted))""",
        f"""wanted AS (
  SELECT row_number() OVER () AS index, p.first_read AS time, p.rows, p.first_read, p.last_read,
         split_part(s.dataset, '/', 1) AS tenant, s.dataset, s.version, s.actor_tenant, s.run,
         s.purpose
  FROM part p JOIN seen_stream s ON s.lease = p.lease
  WHERE {OF_DATASET} AND ($purpose IS NULL OR purpose = $purpose))""",  # noqa: S608 - our constants
        """held AS (
  SELECT w.index, s.tenant AS known, l.persons, l.first_withdrawal
  FROM wanted w JOIN covers c ON c.purpose = w.purpose
  JOIN (SELECT DISTINCT tenant, purpose, scope FROM step) s
    ON s.tenant = w.tenant AND s.purpose = c.consented AND s.scope IN ('', w.dataset)
  ASOF LEFT JOIN level l
    ON l.tenant = s.tenant AND l.purpose = s.purpose AND l.scope = s.scope
   AND w.time >= l.holds_at)""",
        """judged AS (
  SELECT index, sum(persons) AS persons,
         min(first_withdrawal) FILTER (WHERE persons > 0) AS first_withdrawal
  FROM held GROUP BY index)""",
    ),
    sql="""
SELECT CASE WHEN j.index IS NULL THEN 'unknown' ELSE 'after-withdrawal' END AS state,
       w.dataset, w.version, w.actor_tenant, w.run, w.purpose,
       max(j.persons)::BIGINT AS persons_at_most, min(j.first_withdrawal) AS first_withdrawal,
       sum(w.rows)::BIGINT AS rows, min(w.first_read) AS first_read,
       max(w.last_read) AS last_read
FROM wanted w LEFT JOIN judged j ON j.index = w.index
WHERE j.index IS NULL OR j.persons > 0
GROUP BY 1, w.dataset, w.version, w.actor_tenant, w.run, w.purpose
ORDER BY state, last_read DESC, w.dataset, w.run LIMIT $limit""",
)  # fmt: skip

QUESTIONS = (_CONSENTS, _AFTER)
