"""From one journal event to the rows it becomes in the projection. Pure and stateless.

Being stateless is what makes the projection idempotent: the same journal always gives the
same rows, wherever a batch begins. What needs another event (a column's name, a lease's
grant) is joined later, in SQL.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from gateway.errors import IntegrityError
from gateway.lineage.claims import claimed

Row = tuple[object, ...]
Batch = defaultdict[str, list[Row]]


class EventLike(Protocol):
    """What the projection reads of a journal event."""

    @property
    def kind(self) -> Any: ...  # noqa: D102
    @property
    def index(self) -> int: ...  # noqa: D102
    @property
    def time(self) -> Any: ...  # noqa: D102
    @property
    def owner_tenant(self) -> str | None: ...  # noqa: D102
    @property
    def actor_tenant(self) -> str | None: ...  # noqa: D102
    @property
    def actor_tag(self) -> str | None: ...  # noqa: D102
    @property
    def facts(self) -> Mapping[str, Any]: ...  # noqa: D102


def new_batch() -> Batch:
    """An empty batch: table name to rows."""
    return defaultdict(list)


def add(batch: Batch, event: EventLike) -> None:
    """Add the rows of `event` to `batch`.

    Raises:
        IntegrityError: a fact that this kind of event must have is missing.
    """
    kind = str(getattr(event.kind, "value", event.kind))
    head = (
        event.index,
        microseconds(event.time),
        event.owner_tenant,
        event.actor_tenant,
        event.actor_tag,
    )
    batch["event"].append((*head, kind))
    rows_of = _KINDS.get(kind)
    if rows_of is None:
        return
    try:
        rows_of(batch, head, event.facts)
    except (KeyError, TypeError, ValueError) as cause:
        raise IntegrityError(f"event {event.index} (`{kind}`) lacks a fact: {cause}") from cause


def microseconds(time: float) -> int:
    """Unix seconds as whole microseconds."""
    return round(time * 1_000_000)


def column_set_id(parts: object) -> int:
    """A stable 63-bit name for a set of columns with their masks."""
    text = json.dumps(parts, separators=(",", ":"), sort_keys=True)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _dataset(head: Row, facts: Mapping[str, Any]) -> str | None:
    name = facts.get("dataset")
    return f"{head[2]}/{name}" if name and "/" not in name else name


def _version(batch: Batch, head: Row, f: Mapping[str, Any]) -> None:
    batch["version"].append(
        (*head, _dataset(head, f), f["dataset_id"], f["version"], f["profile"], f["rows"],
         f["bytes"], _count(f["shards"]), f["manifest_digest"])
    )  # fmt: skip
    batch["version_column"].extend(
        (f["dataset_id"], f["version"], c["field_id"], c["name"], c["type"]) for c in f["columns"]
    )
    _derived(batch, head, f)


def _derived(batch: Batch, head: Row, f: Mapping[str, Any]) -> None:
    made = (*head, _dataset(head, f), f["dataset_id"], f["version"])
    for origin in f.get("origins") or ():
        tenant = origin["dataset"].partition("/")[0]
        batch["derivation"].append((*made, tenant, origin["dataset"], origin["version"], None))
    for run in f.get("origin_runs") or ():
        batch["derivation"].append((*made, None, None, None, run))


def _classified(batch: Batch, head: Row, f: Mapping[str, Any]) -> None:
    batch["classification"].extend(
        (*head, _dataset(head, f), f["dataset_id"], int(field), tags)
        for field, tags in f["tags"].items()
    )


def _updated(batch: Batch, head: Row, f: Mapping[str, Any]) -> None:
    batch["dataset_change"].append(
        (*head, _dataset(head, f), f["dataset_id"], f["changed"], f.get("card_digest"))
    )


def _erased(batch: Batch, head: Row, f: Mapping[str, Any]) -> None:
    batch["erasure"].append(
        (*head, _dataset(head, f), f["dataset_id"], f.get("version"), f["columns"], f["erasure"],
         None)
    )  # fmt: skip


def _certified(batch: Batch, head: Row, f: Mapping[str, Any]) -> None:
    batch["erasure"].append(
        (*head, _dataset(head, f), f["dataset_id"], None, [], f["erasure"], f["certificate"])
    )


def _rotated(batch: Batch, head: Row, f: Mapping[str, Any]) -> None:
    batch["key_rotation"].append(
        (*head, f["ring"], f["kind"], f["root"], f["ring_generation"], f["keys"],
         _count(f["sheets"]))
    )  # fmt: skip


def _consent(state: str) -> Callable[[Batch, Row, Mapping[str, Any]], None]:
    def rows_of(batch: Batch, head: Row, f: Mapping[str, Any]) -> None:
        batch["consent"].extend(
            (*head, _dataset(head, f) if f.get("dataset") else None, f["purpose"], p["person"],
             state, p["at"])
            for p in f["persons"]
        )  # fmt: skip

    return rows_of


def _suspended(batch: Batch, head: Row, f: Mapping[str, Any]) -> None:
    batch["dataset_state"].append((*head, _dataset(head, f), "suspended"))


def _resumed(batch: Batch, head: Row, f: Mapping[str, Any]) -> None:
    batch["dataset_state"].append((*head, _dataset(head, f), "active"))


def _tenant(change: str) -> Callable[[Batch, Row, Mapping[str, Any]], None]:
    def rows_of(batch: Batch, head: Row, f: Mapping[str, Any]) -> None:
        batch["tenant_change"].append(
            (*head, f["tenant"], change, f.get("max_streams"), f.get("requests_per_minute"),
             f.get("max_bytes"), f.get("max_stored_bytes"))
        )  # fmt: skip

    return rows_of


def _policy(batch: Batch, head: Row, f: Mapping[str, Any]) -> None:
    batch["policy"].append(
        (*head, f["tenant"], f["bundle"], _count(f["files"]), _count(f["rules"]), f.get("proposal"))
    )


def _decided(batch: Batch, head: Row, f: Mapping[str, Any]) -> None:
    columns, masks = f.get("columns") or [], f.get("masks") or {}
    dataset_id, version = f.get("dataset_id"), f.get("version")
    name = column_set_id([dataset_id, version, columns, masks]) if columns else None
    batch["decision"].append(
        (*head, _dataset(head, f), dataset_id, version, f["decision"], f["action"], f["effect"],
         f.get("split"), f.get("purpose"), f["reasons"], f["rules"], f.get("bundle"),
         f["policy_epoch"], name, f.get("grant"), f.get("run"), f.get("expires_at"),
         f.get("region"))
    )  # fmt: skip
    if f.get("grant") and f["effect"] == "allow":
        batch["granted"].append(
            (*head, _dataset(head, f), dataset_id, version, f["grant"], f["decision"], f["action"],
             f.get("split"), f.get("purpose"), f["rules"], f.get("bundle"), name, f.get("run"),
             f.get("expires_at"), f.get("region"), f.get("parent"))
        )  # fmt: skip
    batch["column_set_part"].extend(
        (name, place, dataset_id, version, field, masks.get(str(field)))
        for place, field in enumerate(columns)
    )


def _requested(batch: Batch, head: Row, f: Mapping[str, Any]) -> None:
    dataset_id, version, columns = f["dataset_id"], f["version"], f["columns"]
    name = column_set_id([dataset_id, version, columns, {}])
    batch["access_request"].append(
        (*head, _dataset(head, f), dataset_id, version, f["request"], f["action"], f.get("split"),
         f["purpose"], f.get("run"), name)
    )  # fmt: skip
    batch["column_set_part"].extend(
        (name, place, dataset_id, version, field, None) for place, field in enumerate(columns)
    )


def _answered(batch: Batch, head: Row, f: Mapping[str, Any]) -> None:
    batch["request_answer"].append(
        (*head, f["request"], f["answer"], len(f["columns"]), f.get("expires_at"))
    )


def _token(batch: Batch, head: Row, f: Mapping[str, Any]) -> None:
    batch["token"].append((*head, f["jti"], f.get("grant"), f["thumbprint"], f["expires_at"]))


def _revoked(batch: Batch, head: Row, f: Mapping[str, Any]) -> None:
    batch["revocation"].extend((*head, grant, f["reason_code"]) for grant in f["grants"])


def _lease_opened(batch: Batch, head: Row, f: Mapping[str, Any]) -> None:
    order = f["order"]
    batch["lease"].append(
        (*head, f["lease"], f["grant"], f.get("run"), f["segments"], bool(f["view"]),
         order["epoch"], order["rank"], order["world"], f.get("code"), f.get("framework"))
    )  # fmt: skip


def _lease_renewed(batch: Batch, head: Row, f: Mapping[str, Any]) -> None:
    batch["lease_change"].append((*head, f["lease"], "renewed", None, f["expires_at"]))


def _lease_closed(batch: Batch, head: Row, f: Mapping[str, Any]) -> None:
    batch["lease_change"].append((*head, f["lease"], "closed", f["reason_code"], None))


def _intent(batch: Batch, head: Row, f: Mapping[str, Any]) -> None:
    batch["intent"].append((*head, f["lease"], f["first"], f["last"], f["rows"], f["bytes"]))


def _confirmed(batch: Batch, head: Row, f: Mapping[str, Any]) -> None:
    segments = f["segments"]
    batch["confirmed"].append(
        (
            *head,
            f["lease"],
            min(segments, default=None),
            max(segments, default=None),
            f["rows"],
            f["bytes"],
        )
    )


def _acknowledged(batch: Batch, head: Row, f: Mapping[str, Any]) -> None:
    batch["acknowledged"].append((*head, f["lease"], f["upto"], f["rows"]))


def _stream_refused(batch: Batch, head: Row, f: Mapping[str, Any]) -> None:
    batch["stream_refused"].append((*head, f["lease"], f["segment"], f["error"]))


def _request_refused(batch: Batch, head: Row, f: Mapping[str, Any]) -> None:
    batch["request_refused"].append((*head, f["route"], f["error"]))


def _keys_released(batch: Batch, head: Row, f: Mapping[str, Any]) -> None:
    batch["key_release"].append(
        (*head, _dataset(head, f), f["dataset_id"], f["version"], f["grant"], len(f["shards"]),
         f["keys"], f["rows"], f["bytes"])
    )  # fmt: skip


def _question(batch: Batch, head: Row, f: Mapping[str, Any]) -> None:
    batch["question"].append((*head, f["question"], f["parameters_digest"]))


def _run_finished(batch: Batch, head: Row, f: Mapping[str, Any]) -> None:
    batch["run_finished"].append((*head, f["run"], f.get("model"), f.get("artifact_sha256")))


def _run_attested(batch: Batch, head: Row, f: Mapping[str, Any]) -> None:
    batch["run_attested"].append((*head, f["run"], f["attestation"]))


def _count(value: Any) -> int:
    return int(value) if isinstance(value, int) else len(value)


def _expired(batch: Batch, head: Row, f: Mapping[str, Any]) -> None:
    batch["expiring"].append((*head[:3], f["month"]))  # not stored: see expiry.py


_KINDS: dict[str, Callable[[Batch, Row, Mapping[str, Any]], None]] = {
    "MonthExpired": _expired,
    "VersionRegistered": _version,
    "ColumnsClassified": _classified,
    "DatasetUpdated": _updated,
    "DatasetErased": _erased,
    "ErasureCertified": _certified,
    "KeysRotated": _rotated,
    "ConsentGiven": _consent("given"),
    "ConsentWithdrawn": _consent("withdrawn"),
    "DatasetSuspended": _suspended,
    "DatasetResumed": _resumed,
    "TenantAdded": _tenant("added"),
    "TenantUpdated": _tenant("limits"),
    "TenantSuspended": _tenant("suspended"),
    "TenantResumed": _tenant("resumed"),
    "PolicyPublished": _policy,
    "AccessDecided": _decided,
    "AccessRequested": _requested,
    "RequestAnswered": _answered,
    "TokenIssued": _token,
    "GrantRevoked": _revoked,
    "LeaseOpened": _lease_opened,
    "LeaseRenewed": _lease_renewed,
    "LeaseClosed": _lease_closed,
    "SegmentIntent": _intent,
    "SegmentsConfirmed": _confirmed,
    "SegmentsAcknowledged": _acknowledged,
    "StreamRefused": _stream_refused,
    "RequestRefused": _request_refused,
    "KeysReleased": _keys_released,
    "QuestionAsked": _question,
    "RunFinished": _run_finished,
    "RunAttested": _run_attested,
    "LineageClaimed": claimed,
}
