"""Clear facts of events about keys: erased, certified, released, rotated (event-v0.md §3)."""

from __future__ import annotations

from gateway.domain import facts as f

_ERASURE: f.Schema = {"dataset": f.DATASET, "dataset_id": f.WORD, "erasure": f.WORD}

ERASED: f.Schema = {
    **_ERASURE,
    "version": f.COUNT | None,  # None: all of them
    "columns": f.list_of(f.COUNT),  # field ids; none: whole versions
    "root": f.COUNT,  # generation in force before: it and what is older is destroyed
    "keks": f.list_of(f.WORD),  # ids of the KEKs that are destroyed
    "deks": f.COUNT,  # that no surviving version needs
    "shards": f.COUNT,  # that no surviving version refers to
    "shards_kept": f.COUNT,
}
CERTIFIED: f.Schema = {**_ERASURE, "certificate": f.SHA256, "certificate_key": f.WORD}
RELEASED: f.Schema = {
    "dataset": f.DATASET,
    "dataset_id": f.WORD,
    "version": f.COUNT,
    "grant": f.GRANT,
    "decision": f.DECISION,
    "split": f.TEXT | None,
    "columns": f.list_of(f.COUNT),
    "shards": f.list_of(f.WORD),
    "keys": f.COUNT,
    "rows": f.COUNT,
    "bytes": f.COUNT,
}
ROTATED: f.Schema = {
    "ring": f.WORD,  # the tenant, or `_gateway`
    "kind": f.CODE,  # root | kek | erasure
    "root": f.COUNT,
    "ring_generation": f.COUNT,
    "keys": f.COUNT,
    "sheets": f.list_of(f.record_of(dataset_id=f.WORD, version=f.COUNT, generation=f.COUNT)),
}
