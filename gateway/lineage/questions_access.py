"""Questions about access: who read, who may, who was refused, who asked."""

from __future__ import annotations

from gateway.lineage.parameters import Parameter
from gateway.lineage.question import (
    AS_OF,
    COLUMN,
    DATASET,
    IN_TIME,
    LIMIT,
    OF_DATASET,
    PURPOSE,
    RUN,
    SINCE,
    STATE,
    SUBJECT,
    THE_DATASET,
    UNTIL,
    Question,
)
from gateway.lineage.views import released

_WHO_READ = Question(
    name="who-read",
    version=2,
    text="who received rows of a dataset, when, why, under which rule, into which run",
    parameters=(
        DATASET, COLUMN, SUBJECT, PURPOSE, RUN, SINCE, UNTIL, AS_OF, LIMIT,
    ),
    columns=(
        "dataset", "version", "split", "subject_tag", "actor_tenant", "purpose", "run",
        "columns", "masks", "rules", "bundle", "decision", "grant", "rows", "rows_at_most",
        "bytes", "leases", "first_read", "last_read", "through",
    ),
    views=("stream",),
    ctes=(released(IN_TIME),),
    # rows_at_most counts intents too: what was about to leave when a process died.
    sql=f"""
SELECT dataset, version, split, subject_tag, actor_tenant, purpose, run,
       any_value(columns) AS columns, any_value(masks) AS masks, any_value(rules) AS rules,
       any_value(bundle) AS bundle, any_value(decision) AS decision, "grant",
       sum(rows)::BIGINT AS rows, greatest(sum(rows), sum(intended))::BIGINT AS rows_at_most,
       sum(bytes)::BIGINT AS bytes, count(*) FILTER (WHERE through = 'stream') AS leases,
       min(first_read) AS first_read, max(last_read) AS last_read, through
FROM seen_stream JOIN released USING (lease)
WHERE {OF_DATASET}
  AND ($column IS NULL OR list_contains(columns, $column))
  AND ($subject IS NULL OR subject_tag = $subject)
  AND ($purpose IS NULL OR purpose = $purpose)
  AND ($run IS NULL OR run = $run OR ends_with(run, ':' || $run))
GROUP BY dataset, version, split, subject_tag, actor_tenant, purpose, run, "grant", through
ORDER BY last_read DESC, "grant", run, through LIMIT $limit""",  # noqa: S608 - our constants
)  # fmt: skip

_DENIALS = Question(
    name="denials",
    version=1,
    text="what was refused, to whom, for which reasons, how often",
    parameters=(DATASET, SUBJECT, PURPOSE, SINCE, UNTIL, AS_OF, LIMIT),
    columns=(
        "what", "tenant", "actor_tenant", "subject_tag", "dataset", "version", "action",
        "purpose", "reasons", "rules", "times", "first_time", "last_time", "last_decision",
    ),
    views=("denial",),
    sql=f"""
SELECT what, tenant, actor_tenant, subject_tag, dataset, version, action, purpose, reasons,
       rules, count(*) AS times, min(time) AS first_time, max(time) AS last_time,
       arg_max(decision, index) AS last_decision
FROM seen_denial
WHERE {OF_DATASET} AND {IN_TIME}
  AND ($subject IS NULL OR subject_tag = $subject)
  AND ($purpose IS NULL OR purpose = $purpose)
GROUP BY what, tenant, actor_tenant, subject_tag, dataset, version, action, purpose, reasons, rules
ORDER BY last_time DESC, times DESC LIMIT $limit""",  # noqa: S608 - our constants
)  # fmt: skip

_RUNS = Question(
    name="runs-of-dataset",
    version=1,
    text="which training runs received rows of a dataset, and which models came out",
    parameters=(THE_DATASET, COLUMN, SINCE, UNTIL, AS_OF, LIMIT),
    columns=(
        "actor_tenant", "run", "subject_tags", "versions", "purposes", "columns", "rows",
        "rows_at_most", "first_read", "last_read", "models", "finished",
    ),
    views=("stream", "run"),
    ctes=(released(IN_TIME),),
    sql=f"""
SELECT r.actor_tenant, r.run, list(DISTINCT r.subject_tag ORDER BY r.subject_tag) AS subject_tags,
       list(DISTINCT r.version ORDER BY r.version) AS versions,
       list(DISTINCT r.purpose ORDER BY r.purpose) AS purposes,
       list_sort(list_distinct(flatten(list(DISTINCT r.columns)))) AS columns,
       sum(r.rows)::BIGINT AS rows, greatest(sum(r.rows), sum(r.intended))::BIGINT AS rows_at_most,
       min(r.first_read) AS first_read, max(r.last_read) AS last_read,
       any_value(f.models) AS models, any_value(f.finished) AS finished
FROM (SELECT * FROM seen_stream JOIN released USING (lease)
      WHERE {OF_DATASET}
        AND ($column IS NULL OR list_contains(columns, $column))) r
LEFT JOIN (SELECT run, actor_tenant, max(time) AS finished,
                  list(model || coalesce('@sha256:' || artifact, '') ORDER BY index)
                  FILTER (WHERE model IS NOT NULL) AS models
           FROM seen_run WHERE $as_of IS NULL OR time <= $as_of GROUP BY run, actor_tenant) f
       ON f.run = r.run AND f.actor_tenant = r.actor_tenant
GROUP BY r.actor_tenant, r.run
ORDER BY last_read DESC, r.actor_tenant, r.run LIMIT $limit""",  # noqa: S608 - our constants
)  # fmt: skip

_DECISIONS = Question(
    name="decisions-of-dataset",
    version=1,
    text="every decision about a dataset: asked for what, answered how, by which rules",
    parameters=(
        THE_DATASET, SUBJECT, PURPOSE,
        Parameter(name="effect", type="effect", text="only `allow` or only `deny`"),
        SINCE, UNTIL, AS_OF, LIMIT,
    ),
    columns=(
        "time", "index", "decision", "effect", "action", "dataset", "version", "split",
        "purpose", "subject_tag", "actor_tenant", "run", "reasons", "rules", "bundle",
        "policy_epoch", "columns", "masks", "grant",
    ),
    views=("decision",),
    sql=f"""
SELECT time, index, decision, effect, action, dataset, version, split, purpose, subject_tag,
       actor_tenant, run, reasons, rules, bundle, policy_epoch, columns, masks, "grant"
FROM seen_decision
WHERE {OF_DATASET} AND {IN_TIME}
  AND ($effect IS NULL OR effect = $effect)
  AND ($subject IS NULL OR subject_tag = $subject)
  AND ($purpose IS NULL OR purpose = $purpose)
ORDER BY index DESC LIMIT $limit""",  # noqa: S608 - our constants
)  # fmt: skip

_GRANTS = Question(
    name="grants-of-dataset",
    version=1,
    text="who may read a dataset at a time, and who no longer may",
    parameters=(THE_DATASET, COLUMN, SUBJECT, PURPOSE, STATE, LIMIT),
    columns=(
        "grant", "dataset", "version", "split", "purpose", "subject_tag", "actor_tenant", "run",
        "columns", "masks", "rules", "bundle", "decision", "granted_at", "expires_at",
        "revoked_at", "revoked_because", "state",
    ),
    views=("grant",),
    sql=f"""
SELECT "grant", dataset, version, split, purpose, subject_tag, actor_tenant, run, columns, masks,
       rules, bundle, decision, time AS granted_at, expires_at,
       CASE WHEN revoked_at <= $as_of THEN revoked_at END AS revoked_at,
       CASE WHEN revoked_at <= $as_of THEN revoked_because END AS revoked_because,
       CASE WHEN revoked_at <= $as_of THEN 'revoked' WHEN expires_at <= $as_of THEN 'expired'
            ELSE 'active' END AS state
FROM seen_grant
WHERE {OF_DATASET} AND time <= $as_of
  AND ($column IS NULL OR list_contains(columns, $column))
  AND ($subject IS NULL OR subject_tag = $subject)
  AND ($purpose IS NULL OR purpose = $purpose)
ORDER BY index DESC LIMIT $limit""",  # noqa: S608 - our constants
)  # fmt: skip

_POLICY = Question(
    name="policy-in-force",
    version=1,
    text="which policy bundle was in force at a time, since when, and what it decided",
    parameters=(
        Parameter(name="tenant", type="tenant", text="only this tenant's policy"), STATE, LIMIT,
    ),
    columns=(
        "tenant", "bundle", "in_force_since", "rules", "files", "subject_tag", "bundles_so_far",
        "decisions",
    ),
    views=("policy", "decision"),
    sql="""
SELECT p.tenant, arg_max(p.bundle, p.index) AS bundle, max(p.time) AS in_force_since,
       arg_max(p.rules, p.index) AS rules, arg_max(p.files, p.index) AS files,
       arg_max(p.subject_tag, p.index) AS subject_tag, count(*) AS bundles_so_far,
       (SELECT count(*) FROM seen_decision d
        WHERE d.tenant = p.tenant AND d.time <= $as_of AND d.time >= max(p.time)) AS decisions
FROM seen_policy p
WHERE p.time <= $as_of AND ($tenant_name IS NULL OR p.tenant = $tenant_name)
GROUP BY p.tenant ORDER BY p.tenant LIMIT $limit""",
)  # fmt: skip

_TOKENS = Question(
    name="tokens-of-grant",
    version=2,
    text="every token issued under a grant, or under one cut from it, and to which key",
    parameters=(
        Parameter(name="grant", type="grant", text="a grant's id (grant_...)", required=True),
        AS_OF, LIMIT,
    ),
    columns=(
        "issued_at", "index", "grant", "dataset", "version", "actor_tenant", "subject_tag",
        "jti", "thumbprint", "expires_at", "revoked_at", "parent",
    ),
    views=("token", "grant"),
    ctes=(
        """tree("grant") AS (
  SELECT $grant UNION SELECT g."grant" FROM seen_grant g JOIN tree t ON g.parent = t."grant")""",
    ),
    sql="""
SELECT t.time AS issued_at, t.index, t."grant", t.dataset, t.version, t.actor_tenant,
       t.subject_tag, t.jti, t.thumbprint, t.expires_at, g.revoked_at, g.parent
FROM seen_token t JOIN seen_grant g ON g."grant" = t."grant"
WHERE t."grant" IN (SELECT "grant" FROM tree) AND ($as_of IS NULL OR t.time <= $as_of)
ORDER BY t.index LIMIT $limit""",
)  # fmt: skip

_ASKED = Question(
    name="questions-asked",
    version=1,
    text="who asked lineage what, and when",
    parameters=(
        Parameter(name="question", type="question", text="only this question"),
        SUBJECT, SINCE, UNTIL, AS_OF, LIMIT,
    ),
    columns=(
        "time", "index", "question", "parameters_digest", "tenant", "actor_tenant",
        "subject_tag",
    ),
    views=("question",),
    sql=f"""
SELECT time, index, question, parameters_digest, tenant, actor_tenant, subject_tag
FROM seen_question
WHERE {IN_TIME} AND ($question IS NULL OR question = $question)
  AND ($subject IS NULL OR subject_tag = $subject)
ORDER BY index DESC LIMIT $limit""",  # noqa: S608 - our constants
)  # fmt: skip

_KEYS_RELEASED = Question(
    name="keys-released",
    version=1,
    text="which data keys left the gateway for good, for whom, under which decision",
    parameters=(DATASET, COLUMN, SUBJECT, PURPOSE, SINCE, UNTIL, AS_OF, LIMIT),
    columns=(
        "time", "index", "dataset", "version", "split", "subject_tag", "actor_tenant", "purpose",
        "run", "columns", "shards", "keys", "rows", "bytes", "decision", "grant", "rules",
    ),
    views=("release",),
    sql=f"""
SELECT time, index, dataset, version, split, subject_tag, actor_tenant, purpose, run, columns,
       shards, keys, rows, bytes, decision, "grant", rules
FROM seen_release
WHERE {OF_DATASET} AND {IN_TIME}
  AND ($column IS NULL OR list_contains(columns, $column))
  AND ($subject IS NULL OR subject_tag = $subject)
  AND ($purpose IS NULL OR purpose = $purpose)
ORDER BY index DESC LIMIT $limit""",  # noqa: S608 - our constants
)  # fmt: skip

QUESTIONS = (
    _WHO_READ, _DENIALS, _RUNS, _DECISIONS, _GRANTS, _POLICY, _TOKENS, _KEYS_RELEASED, _ASKED,
)  # fmt: skip
