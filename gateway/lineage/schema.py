"""Tables of the lineage projection: one declaration, read as DuckDB DDL and as Arrow schema.

Every table but the dimensions begins with the same five columns: position and time of the
journal event, the owner's and the actor's tenant, and the keyed tag of who acted. No table
holds personal data: people are tags, free text stays sealed in the journal. No indexes: rows
arrive in time order, so zone maps do the work; an index halves the ingest rate and gains
nothing for a look-up of 10,000 rows.
"""

from __future__ import annotations

import pyarrow as pa

from gateway.lineage import claims

FORMAT = 11  # raise it and every projection is rebuilt from the journal

_EVENT = {
    "idx": "BIGINT",
    "time": "TIMESTAMP",  # UTC
    "owner": "VARCHAR",
    "actor": "VARCHAR",
    "actor_tag": "VARCHAR",
}
_DATASET = {"dataset": "VARCHAR", "dataset_id": "VARCHAR", "version": "INTEGER"}

TABLES: dict[str, dict[str, str]] = {
    "event": {**_EVENT, "kind": "VARCHAR"},
    "version": {
        **_EVENT,
        **_DATASET,
        "profile": "VARCHAR",
        "rows": "BIGINT",
        "bytes": "BIGINT",
        "shards": "BIGINT",
        "manifest_digest": "VARCHAR",
    },
    "version_column": {
        "dataset_id": "VARCHAR",
        "version": "INTEGER",
        "field_id": "BIGINT",
        "name": "VARCHAR",
        "type": "VARCHAR",
    },
    "derivation": {
        **_EVENT,
        **_DATASET,
        "origin_tenant": "VARCHAR",  # of one version it was made from, or
        "origin": "VARCHAR",
        "origin_version": "INTEGER",
        "run": "VARCHAR",  # of one run whose reading it was made from
    },
    "classification": {
        **_EVENT,
        "dataset": "VARCHAR",
        "dataset_id": "VARCHAR",
        "field_id": "BIGINT",
        "tags": "VARCHAR[]",
    },
    "dataset_change": {
        **_EVENT,
        "dataset": "VARCHAR",
        "dataset_id": "VARCHAR",
        "changed": "VARCHAR[]",  # of `card`, `owners`, `contact`
        "card_digest": "VARCHAR",
    },
    # What was taken away for ever: a dataset, a version, or columns; and its certificate.
    "erasure": {
        **_EVENT,
        **_DATASET,
        "columns": "BIGINT[]",  # field ids; none: whole versions
        "erasure": "VARCHAR",
        "certificate": "VARCHAR",  # SHA-256; null: erased for readers, not yet destroyed
    },
    "key_rotation": {
        **_EVENT,
        "ring": "VARCHAR",
        "kind": "VARCHAR",
        "root": "BIGINT",
        "ring_generation": "BIGINT",
        "keys": "BIGINT",
        "sheets": "BIGINT",
    },
    # One row per person; `dataset` null: about all of the owner's.
    "consent": {
        **_EVENT,
        "dataset": "VARCHAR",
        "purpose": "VARCHAR",
        "person": "VARCHAR",
        "state": "VARCHAR",  # `given` or `withdrawn`
        "holds_at": "BIGINT",  # Unix seconds from which it holds
    },
    "dataset_state": {**_EVENT, "dataset": "VARCHAR", "state": "VARCHAR"},
    "tenant_change": {
        **_EVENT,
        "tenant": "VARCHAR",
        "change": "VARCHAR",  # `added`, `limits`, `suspended` or `resumed`
        "max_streams": "BIGINT",  # this and the next three: after `limits`, all of them
        "requests_per_minute": "BIGINT",
        "max_bytes": "BIGINT",
        "max_stored_bytes": "BIGINT",
    },
    "policy": {
        **_EVENT,
        "tenant": "VARCHAR",
        "bundle": "VARCHAR",
        "files": "BIGINT",
        "rules": "BIGINT",
        "proposal": "BIGINT",  # index of what a second person approved; null: nobody did
    },
    "decision": {
        **_EVENT,
        **_DATASET,
        "decision": "VARCHAR",
        "action": "VARCHAR",
        "effect": "VARCHAR",
        "split": "VARCHAR",
        "purpose": "VARCHAR",
        "reasons": "VARCHAR[]",
        "rules": "VARCHAR[]",
        "bundle": "VARCHAR",
        "policy_epoch": "BIGINT",
        "column_set": "BIGINT",
        "grant_id": "VARCHAR",
        "run": "VARCHAR",
        "expires_at": "BIGINT",
        "region": "VARCHAR",  # where the recipient says that it is
    },
    # One row per Grant: the first decision that made it.
    "granted": {
        **_EVENT,
        **_DATASET,
        "grant_id": "VARCHAR",
        "decision": "VARCHAR",
        "action": "VARCHAR",
        "split": "VARCHAR",
        "purpose": "VARCHAR",
        "rules": "VARCHAR[]",
        "bundle": "VARCHAR",
        "column_set": "BIGINT",
        "run": "VARCHAR",
        "expires_at": "BIGINT",
        "region": "VARCHAR",
        "parent": "VARCHAR",  # the wider Grant that this one is cut from
    },
    "access_request": {
        **_EVENT,
        **_DATASET,
        "request": "VARCHAR",
        "action": "VARCHAR",
        "split": "VARCHAR",
        "purpose": "VARCHAR",
        "run": "VARCHAR",
        "column_set": "BIGINT",
    },
    "request_answer": {
        **_EVENT,
        "request": "VARCHAR",
        "answer": "VARCHAR",  # `approve` or `reject`
        "columns": "BIGINT",  # how many were approved
        "expires_at": "BIGINT",
    },
    "token": {
        **_EVENT,
        "jti": "VARCHAR",
        "grant_id": "VARCHAR",
        "thumbprint": "VARCHAR",
        "expires_at": "BIGINT",
    },
    "revocation": {**_EVENT, "grant_id": "VARCHAR", "reason_code": "VARCHAR"},
    "lease": {
        **_EVENT,
        "lease": "VARCHAR",
        "grant_id": "VARCHAR",
        "run": "VARCHAR",
        "segments": "BIGINT",
        "by_view": "BOOLEAN",
        "epoch": "BIGINT",  # which pass over the data
        "rank": "BIGINT",
        "world": "BIGINT",
        "code": "VARCHAR",  # SHA-256 of the program, as it says
        "framework": "VARCHAR",
    },
    "lease_change": {
        **_EVENT,
        "lease": "VARCHAR",
        "change": "VARCHAR",
        "reason_code": "VARCHAR",
        "expires_at": "BIGINT",
    },
    "intent": {
        **_EVENT,
        "lease": "VARCHAR",
        "first_segment": "BIGINT",
        "last_segment": "BIGINT",
        "rows": "BIGINT",
        "bytes": "BIGINT",
    },
    "confirmed": {
        **_EVENT,
        "lease": "VARCHAR",
        "first_segment": "BIGINT",
        "last_segment": "BIGINT",
        "rows": "BIGINT",
        "bytes": "BIGINT",
    },
    "acknowledged": {**_EVENT, "lease": "VARCHAR", "upto": "BIGINT", "rows": "BIGINT"},
    "stream_refused": {
        **_EVENT,
        "lease": "VARCHAR",
        "segment": "BIGINT",
        "error": "VARCHAR",
    },
    "request_refused": {**_EVENT, "route": "VARCHAR", "error": "VARCHAR"},
    "key_release": {
        **_EVENT,
        **_DATASET,
        "grant_id": "VARCHAR",
        "shards": "BIGINT",
        "keys": "BIGINT",
        "rows": "BIGINT",
        "bytes": "BIGINT",
    },
    # One row per tenant whose events went with a month of the owner's: the owner, and each
    # actor who could see some of them.
    "expired": {**_EVENT, "month": "VARCHAR", "events": "BIGINT"},
    "question": {**_EVENT, "question": "VARCHAR", "parameters_digest": "VARCHAR"},
    "run_finished": {
        **_EVENT,
        "run": "VARCHAR",
        "model": "VARCHAR",
        "artifact": "VARCHAR",
    },
    "run_attested": {**_EVENT, "run": "VARCHAR", "attestation": "VARCHAR"},
    "column_set": {
        "id": "BIGINT",
        "names": "VARCHAR[]",
        "masks": "VARCHAR[]",  # `NAME=MASK`
        "masked": "VARCHAR[]",  # names alone: a name or a mask may hold `=`
    },
    **claims.TABLES,
}

# Not stored: columns of decisions on their way into `column_set`, still as field ids.
COLUMN_SET_PART = {
    "id": "BIGINT",
    "place": "BIGINT",
    "dataset_id": "VARCHAR",
    "version": "INTEGER",
    "field_id": "BIGINT",
    "mask": "VARCHAR",
}

_ARROW = {
    "BIGINT": pa.int64(),
    "BIGINT[]": pa.list_(pa.int64()),
    "INTEGER": pa.int32(),
    "BOOLEAN": pa.bool_(),
    "VARCHAR": pa.string(),
    "VARCHAR[]": pa.list_(pa.string()),
    "TIMESTAMP": pa.timestamp("us"),
}


def ddl() -> list[str]:
    """Statements that make an empty projection, with its progress row at event 0."""
    tables = [
        f"CREATE TABLE {name} ({', '.join(f'{c} {t}' for c, t in columns.items())})"
        for name, columns in TABLES.items()
    ]
    return [
        *tables,
        "CREATE TABLE progress (format INTEGER, projected BIGINT, leaf VARCHAR, time TIMESTAMP)",
        f"INSERT INTO progress VALUES ({FORMAT}, 0, '', NULL)",  # noqa: S608 - a constant
    ]


def arrow_table(columns: dict[str, str], rows: list[tuple[object, ...]]) -> pa.Table:
    """Rows of one table (tuples in the order of `columns`) as an Arrow table."""
    return pa.Table.from_arrays(
        [
            pa.array(values, _ARROW[kind])
            for values, kind in zip(zip(*rows, strict=True), columns.values(), strict=True)
        ],
        names=list(columns),
    )
