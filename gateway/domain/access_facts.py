"""Clear facts of the events about access: decided, asked of people, answered (event-v0.md §3)."""

from __future__ import annotations

from gateway.domain import facts as f

_LIMIT = f.one_of("a limit", "max_rows", "max_bytes", "max_epochs", "expires_at")

DECIDED: f.Schema = {
    "decision": f.DECISION,
    "action": f.CODE,
    "effect": f.one_of("`allow` or `deny`", "allow", "deny"),
    "dataset": f.DATASET | None,
    "dataset_id": f.WORD | None,
    "version": f.COUNT | None,
    "split": f.TEXT | None,
    "purpose": f.NAME | None,
    "reasons": f.list_of(f.CODE),
    "rules": f.list_of(f.TEXT),
    "bundle": f.SHA256_OR_EMPTY,
    "policy_epoch": f.COUNT,
    "catalog_index": f.COUNT,
    "columns": f.list_of(f.COUNT),
    "masks": f.map_of(f.FIELD_KEY, f.WORD),
    "grant": f.GRANT | None,
    "parent": f.GRANT | None,  # the wider Grant that this one is cut from
    "request": f.REQUEST | None,  # the approved one whose Grant this is
    "run": f.WORD | None,
    "expires_at": f.COUNT | None,  # Unix seconds; with a grant only, and then needed
    "limits": f.map_of(_LIMIT, f.COUNT) | None,
    "region": f.CODE | None,  # where the recipient says that it is
}
_REQUEST: f.Schema = {
    "request": f.REQUEST,
    "dataset": f.DATASET,
    "dataset_id": f.WORD,
    "columns": f.list_of(f.COUNT),  # field ids: of the Plan that was asked for, or was approved
    "request_digest": f.SHA256,  # of domain/approval.py
    "plan_digest": f.SHA256,
    "policy_epoch": f.COUNT,
}
REQUESTED: f.Schema = {
    **_REQUEST,
    "version": f.COUNT,
    "action": f.CODE,
    "purpose": f.NAME,
    "split": f.TEXT | None,
    "run": f.WORD | None,
    "expires_at": f.COUNT,  # Unix seconds: not answered by then, it cannot be any more
}
ANSWERED: f.Schema = {
    **_REQUEST,
    "answer": f.one_of("`approve` or `reject`", "approve", "reject"),
    "expires_at": f.COUNT | None,  # of the Grant that an approval permits
}
ORDER = f.record_of(
    seed=f.INTEGER,
    epoch=f.COUNT,
    shuffle=f.FLAG,
    lanes=f.COUNT,
    window_blocks=f.COUNT,
    rank=f.COUNT,
    world=f.COUNT,
)
