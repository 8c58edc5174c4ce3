"""What one tenant may see of the projection, as SQL: the only place where sides are decided.

A tenant sees an event where it is the owner of what was touched or the actor who touched it.
Of the other side it sees no private attribute: an actor never sees which of the owner's rules
spoke (`rules`), an owner never sees the actor's token ids and key thumbprints. An operator
sees that things happened in every tenant, and the private attributes of none. Who asked for
a dataset that he may not see (`not-visible`) sees there what he sees after asking for a name
that nobody has, and no decision.

Every view takes the parameters `$tenant` (NULL for an operator) and `$operator`.
"""

from __future__ import annotations

from gateway.domain.access import NOT_VISIBLE

_SIDE = "($operator OR {0}.owner = $tenant OR {0}.actor = $tenant)"
_HIDDEN = f"list_contains(d.reasons, '{NOT_VISIBLE}')"
_EXPIRES = "make_timestamp({0}.expires_at * 1000000)"
_KEYS = "'keys:' || {0}.idx"  # stands where a stream has its lease


def _side(alias: str) -> str:
    return _SIDE.format(alias)


_READ = f"""
SELECT c.time, c.idx AS index, g.dataset, g.version, g.split, g.purpose,
       coalesce(l.actor_tag, g.actor_tag) AS subject_tag, g.actor AS actor_tenant,
       coalesce(l.run, g.run) AS run, c.rows, c.bytes, s.names AS columns, s.masks,
       l.lease, g.grant_id AS "grant", c.first_segment, c.last_segment,
       CASE WHEN g.owner = $tenant THEN g.rules END AS rules
FROM confirmed c
JOIN lease l ON l.lease = c.lease
JOIN granted g ON g.grant_id = l.grant_id
LEFT JOIN column_set s ON s.id = g.column_set
WHERE {_side("g")}
"""  # noqa: S608 - built from this file's constants

# One row per lease and per release of keys, with what its Grant says; `released` below counts what
# left through it. Keys open every row of their shards, for good and as stored, so without masks.
_STREAM = f"""
SELECT 'stream' AS through, l.lease, g.dataset, g.version, g.split, g.purpose, g.action,
       coalesce(l.actor_tag, g.actor_tag) AS subject_tag, g.actor AS actor_tenant,
       coalesce(l.run, g.run) AS run, s.names AS columns, s.masks, g.grant_id AS "grant",
       CASE WHEN g.owner = $tenant THEN g.rules END AS rules, g.bundle, g.decision,
       g.owner AS tenant, g.region, s.masked, l.segments AS segments_in_stream
FROM lease l
JOIN granted g ON g.grant_id = l.grant_id
LEFT JOIN column_set s ON s.id = g.column_set
WHERE {_side("g")}
UNION ALL
SELECT 'keys', {_KEYS.format("k")}, g.dataset, g.version, g.split, g.purpose, g.action,
       g.actor_tag, g.actor, g.run, s.names, [], g.grant_id,
       CASE WHEN g.owner = $tenant THEN g.rules END, g.bundle, g.decision,
       g.owner, g.region, [], NULL
FROM key_release k
JOIN granted g ON g.grant_id = k.grant_id
LEFT JOIN column_set s ON s.id = g.column_set
WHERE {_side("g")}
"""  # noqa: S608

_DECISION = f"""
SELECT d.time, d.idx AS index, d.decision, d.effect, d.action, d.owner AS tenant, d.dataset,
       d.version, d.split, d.purpose, d.actor_tag AS subject_tag, d.actor AS actor_tenant,
       d.run, d.reasons, CASE WHEN d.owner = $tenant THEN d.rules END AS rules, d.bundle,
       d.policy_epoch, s.names AS columns, s.masks, d.grant_id AS "grant"
FROM decision d LEFT JOIN column_set s ON s.id = d.column_set
WHERE {_side("d")} AND ($operator OR d.owner = $tenant OR NOT {_HIDDEN})
"""  # noqa: S608

_GRANT = f"""
SELECT g.time, g.idx AS index, g.grant_id AS "grant", g.decision, g.action, g.dataset,
       g.version, g.split, g.purpose, g.actor_tag AS subject_tag, g.actor AS actor_tenant,
       g.run, CASE WHEN g.owner = $tenant THEN g.rules END AS rules, g.bundle,
       s.names AS columns, s.masks, {_EXPIRES.format("g")} AS expires_at,
       r.time AS revoked_at, r.reason_code AS revoked_because, g.parent
FROM granted g
LEFT JOIN column_set s ON s.id = g.column_set
LEFT JOIN (SELECT grant_id, min(time) AS time, arg_min(reason_code, idx) AS reason_code
           FROM revocation GROUP BY grant_id) r ON r.grant_id = g.grant_id
WHERE {_side("g")}
"""  # noqa: S608

_LEASE = f"""
SELECT l.time, l.idx AS index, l.lease, g.grant_id AS "grant", g.dataset, g.version,
       coalesce(l.actor_tag, g.actor_tag) AS subject_tag, g.actor AS actor_tenant,
       coalesce(l.run, g.run) AS run, l.segments, l.by_view, l.epoch, l.rank, l.world,
       l.code, l.framework, c.time AS closed_at, c.reason_code AS closed_because
FROM lease l
JOIN granted g ON g.grant_id = l.grant_id
LEFT JOIN (SELECT lease, min(time) AS time, arg_min(reason_code, idx) AS reason_code
           FROM lease_change WHERE change = 'closed' GROUP BY lease) c ON c.lease = l.lease
WHERE {_side("g")}
"""  # noqa: S608

# Data keys that left for good: what their recipient can read is beyond any later act.
_RELEASE = f"""
SELECT k.time, k.idx AS index, g.dataset, g.version, g.split, g.purpose,
       g.actor_tag AS subject_tag, g.actor AS actor_tenant, g.run, s.names AS columns,
       k.shards, k.keys, k.rows, k.bytes, g.decision, g.grant_id AS "grant",
       CASE WHEN g.owner = $tenant THEN g.rules END AS rules
FROM key_release k
JOIN granted g ON g.grant_id = k.grant_id
LEFT JOIN column_set s ON s.id = g.column_set
WHERE {_side("g")}
"""  # noqa: S608

# Whatever somebody received, by when: rows of streams, and all those that keys open.
_RECEIVED = f"""
SELECT time, index, dataset, version, purpose, subject_tag, actor_tenant, run, "grant", columns,
       rows, bytes
FROM ({_READ})
UNION ALL
SELECT time, index, dataset, version, purpose, subject_tag, actor_tenant, run, "grant", columns,
       rows, bytes
FROM ({_RELEASE})
"""  # noqa: S608

_DENIAL = f"""
SELECT d.time, d.idx AS index, 'access' AS what, d.owner AS tenant, d.actor AS actor_tenant,
       d.actor_tag AS subject_tag, d.dataset, d.version, d.action, d.purpose, d.reasons,
       CASE WHEN d.owner = $tenant THEN d.rules END AS rules, d.decision, d.run
FROM decision d
WHERE d.effect = 'deny' AND {_side("d")} AND ($operator OR d.owner = $tenant OR NOT {_HIDDEN})
UNION ALL
SELECT d.time, d.idx, 'request', d.actor, d.actor, d.actor_tag, NULL, NULL, '/v1/datasets', NULL,
       ['not-found'], NULL, NULL, NULL
FROM decision d
WHERE NOT $operator AND d.actor = $tenant AND d.owner <> $tenant AND {_HIDDEN}
UNION ALL
SELECT r.time, r.idx, 'stream', g.owner, g.actor, coalesce(r.actor_tag, g.actor_tag),
       g.dataset, g.version, g.action, g.purpose, [r.error], NULL, g.decision,
       coalesce(l.run, g.run)
FROM stream_refused r
JOIN lease l ON l.lease = r.lease
JOIN granted g ON g.grant_id = l.grant_id
WHERE {_side("g")}
UNION ALL
SELECT r.time, r.idx, 'request', r.owner, r.actor, r.actor_tag, NULL, NULL, r.route, NULL,
       [r.error], NULL, NULL, NULL
FROM request_refused r WHERE {_side("r")}
"""  # noqa: S608

_POLICY = f"""
SELECT p.time, p.idx AS index, p.tenant, p.bundle, p.files, p.rules,
       p.actor_tag AS subject_tag, p.actor AS actor_tenant, p.proposal
FROM policy p WHERE {_side("p")}
"""  # noqa: S608

_QUESTION = f"""
SELECT q.time, q.idx AS index, q.question, q.parameters_digest, q.owner AS tenant,
       q.actor AS actor_tenant, q.actor_tag AS subject_tag
FROM question q WHERE {_side("q")}
"""  # noqa: S608

_TOKEN = f"""
SELECT t.time, t.idx AS index, g.grant_id AS "grant", g.dataset, g.version,
       g.actor AS actor_tenant, coalesce(t.actor_tag, g.actor_tag) AS subject_tag,
       CASE WHEN g.actor = $tenant THEN t.jti END AS jti,
       CASE WHEN g.actor = $tenant THEN t.thumbprint END AS thumbprint,
       {_EXPIRES.format("t")} AS expires_at
FROM token t JOIN granted g ON g.grant_id = t.grant_id
WHERE {_side("g")}
"""  # noqa: S608

# A run's end and its model: seen by the run's tenant and by owners whose data the run had.
_RUN = f"""
SELECT f.time, f.idx AS index, f.run, f.actor AS actor_tenant, f.model, f.artifact,
       CASE WHEN f.actor = $tenant THEN
         (SELECT any_value(a.attestation) FROM run_attested a
          WHERE a.run = f.run AND a.actor = f.actor AND a.idx > f.idx)
       END AS attestation
FROM run_finished f
WHERE {_side("f")}
   OR EXISTS (SELECT 1 FROM granted g LEFT JOIN lease l ON l.grant_id = g.grant_id
              WHERE g.actor = f.actor AND g.owner = $tenant
                AND coalesce(l.run, g.run) = f.run)
"""  # noqa: S608

_VERSION = f"""
SELECT v.time, v.idx AS index, v.dataset, v.version, v.profile, v.rows, v.bytes, v.shards,
       v.manifest_digest
FROM version v WHERE {_side("v")}
"""  # noqa: S608

_VERSION_COLUMN = f"""
SELECT v.dataset, v.version, c.name
FROM version v JOIN version_column c USING (dataset_id, version) WHERE {_side("v")}
"""  # noqa: S608

# What a version was made from: seen by both sides of it and by the owner of the origin.
_DERIVATION = f"""
SELECT d.time, d.idx AS index, d.dataset, d.version, d.origin, d.origin_version, d.run,
       d.actor AS actor_tenant
FROM derivation d WHERE {_side("d")} OR d.origin_tenant = $tenant
"""  # noqa: S608

# Who answered is the owner's to know; what was asked and answered both sides see.
_REQUEST = f"""
SELECT q.time, q.idx AS index, q.request, q.dataset, q.version, q.action, q.split, q.purpose,
       q.actor_tag AS subject_tag, q.actor AS actor_tenant, q.run, s.names AS columns,
       a.answer, a.time AS answered_at, {_EXPIRES.format("a")} AS approved_until,
       CASE WHEN q.owner = $tenant THEN a.actor_tag END AS answered_by_tag
FROM access_request q
LEFT JOIN column_set s ON s.id = q.column_set
LEFT JOIN request_answer a ON a.request = q.request
WHERE {_side("q")}
"""  # noqa: S608

# Every event of one's side, but for a denial that its asker must not learn of.
_EVENT = f"""
SELECT e.time, e.idx AS index, e.kind, e.owner AS tenant, e.actor AS actor_tenant,
       e.actor_tag AS subject_tag
FROM event e
WHERE {_side("e")} AND ($operator OR e.owner = $tenant OR e.kind <> 'AccessDecided'
  OR e.idx NOT IN (SELECT d.idx FROM decision d WHERE d.actor = $tenant AND {_HIDDEN}))
"""  # noqa: S608

# The tags of each column of each version, as they are now.
_TAGGED = f"""
SELECT v.dataset, v.version, c.name AS column_name, t.tags
FROM version v
JOIN version_column c USING (dataset_id, version)
JOIN (SELECT dataset_id, field_id, arg_max(tags, idx) AS tags
      FROM classification GROUP BY dataset_id, field_id) t USING (dataset_id, field_id)
WHERE {_side("v")} AND len(t.tags) > 0
"""  # noqa: S608

_ERASURE = f"""
SELECT e.time, e.idx AS index, e.dataset, e.version, e.erasure,
       (SELECT list(DISTINCT c.name ORDER BY c.name) FROM version_column c
        WHERE c.dataset_id = e.dataset_id AND list_contains(e.columns, c.field_id)) AS columns,
       (SELECT any_value(d.certificate) FROM erasure d WHERE d.erasure = e.erasure) AS certificate
FROM erasure e WHERE e.certificate IS NULL AND {_side("e")}
"""  # noqa: S608

# What persons said is the owner's alone to know.
_CONSENT = """
SELECT c.time, c.idx AS index, c.owner AS tenant, c.person AS person_tag, c.purpose, c.dataset,
       c.state, make_timestamp(c.holds_at * 1000000) AS holds_at
FROM consent c WHERE c.owner = $tenant
"""

_DATASET_STATE = f"""
SELECT s.time, s.idx AS index, s.dataset, s.state FROM dataset_state s WHERE {_side("s")}
"""  # noqa: S608

# What a tenant itself claimed (OpenLineage): on its own side alone, and never among the facts.
_CLAIM = f"""
SELECT c.time, c.idx AS index, c.type, c.state, make_timestamp(c.claimed_at) AS claimed_at,
       c.about, c.job, c.owner AS tenant, c.actor_tag AS subject_tag
FROM claim c WHERE {_side("c")}
"""  # noqa: S608

_CLAIM_EDGE = f"""
SELECT c.time, c.idx AS index, c.source, c.target, c.owner AS tenant
FROM claim_edge c WHERE {_side("c")}
"""  # noqa: S608

_CLAIM_COLUMN = f"""
SELECT c.time, c.idx AS index, c.source, c.source_column, c.target, c.target_column,
       c.type, c.subtype, c.masking, c.owner AS tenant
FROM claim_column c WHERE {_side("c")}
"""  # noqa: S608

# What is not here any more: a month of the owner's history, as far as one could see it.
_EXPIRED = f"""
SELECT x.time, x.idx AS index, x.owner AS tenant, x.actor AS actor_tenant, x.month, x.events
FROM expired x WHERE {_side("x")}
"""  # noqa: S608

# Operators write it, its tenant reads it.
_TENANT_CHANGE = f"""
SELECT t.time, t.idx AS index, t.tenant, t.change, t.max_streams, t.requests_per_minute,
       t.max_bytes, t.max_stored_bytes, t.actor AS actor_tenant, t.actor_tag AS subject_tag
FROM tenant_change t WHERE {_side("t")}
"""  # noqa: S608

# What an auditor's own SQL may name, and what it gets in the sandbox: exactly these.
AUDITOR_VIEWS: dict[str, str] = {
    "read": _READ,
    "decision": _DECISION,
    "grant": _GRANT,
    "lease": _LEASE,
    "denial": _DENIAL,
    "policy": _POLICY,
    "release": _RELEASE,
    "question": _QUESTION,
    "request": _REQUEST,
    "claim": _CLAIM,
    "claim_edge": _CLAIM_EDGE,
    "claim_column": _CLAIM_COLUMN,
    "expired": _EXPIRED,
    "tenant_change": _TENANT_CHANGE,
}

VIEWS: dict[str, str] = {
    **AUDITOR_VIEWS,
    "stream": _STREAM,
    "received": _RECEIVED,
    "token": _TOKEN,
    "run": _RUN,
    "version": _VERSION,
    "version_column": _VERSION_COLUMN,
    "event": _EVENT,
    "tagged": _TAGGED,
    "erasure": _ERASURE,
    "consent": _CONSENT,
    "dataset_state": _DATASET_STATE,
    "derivation": _DERIVATION,
}


def released(in_time: str = "TRUE") -> str:
    """CTE `released`: per lease of `seen_stream`, rows and bytes confirmed, rows intended.

    An intent without confirmation may have left before a process was killed. Counting per
    lease before anything is joined keeps millions of ranges cheap. Keys count as every row that
    they open.
    """
    return f"""released AS (
  SELECT lease, sum(rows) AS rows, sum(bytes) AS bytes, sum(intended) AS intended,
         sum(segments) AS segments, min(time) AS first_read, max(time) AS last_read
  FROM (SELECT lease, time, rows, bytes, 0 AS intended,
               last_segment - first_segment + 1 AS segments FROM confirmed WHERE {in_time}
        UNION ALL SELECT lease, time, 0, 0, rows, 0 FROM intent WHERE {in_time}
        UNION ALL SELECT {_KEYS.format("k")}, time, rows, bytes, rows, 0 FROM key_release k
        WHERE {in_time})
  WHERE lease IN (SELECT lease FROM seen_stream) GROUP BY lease)"""  # noqa: S608


def with_views(names: tuple[str, ...], sql: str, *further: str) -> str:
    """`sql` over the named views, each reachable as `seen_NAME`, and `further` CTEs."""
    views = ",\n".join((*(f"seen_{name} AS ({VIEWS[name]})" for name in names), *further))
    return f"WITH RECURSIVE {views}\n{sql}"
