"""What is asked of the judge, what he answers, and what stands afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gateway.errors import InvalidInput


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessAsk:
    """One AccessRequest, the same for `access check`, `access request` and `token request`."""

    dataset: str  # tenant/name[@version]
    action: str = "stream"
    purpose: str | None = None
    columns: tuple[str, ...] | None = None  # None = all that may be had
    split: str | None = None
    shards: tuple[int, ...] | None = None
    max_rows: int | None = None
    max_bytes: int | None = None
    max_epochs: int | None = None
    run: str | None = None

    def __post_init__(self) -> None:
        refuse_shards(self.shards)
        require_counts(self.max_rows, self.max_bytes, self.max_epochs)


def refuse_shards(shards: tuple[int, ...] | None) -> None:
    """Plans know splits, not single shards: an ask for some would silently be one for all."""
    if shards is not None:
        raise InvalidInput(
            "shards cannot be asked for one by one",
            advice="ask for a split, or leave `shards` out",
            field="shards",
        )


def require_counts(*limits: int | None) -> None:
    """Rows, bytes and passes are counted from 0 on."""
    if any(limit is not None and limit < 0 for limit in limits):
        raise InvalidInput("`max_rows`, `max_bytes` and `max_epochs` are numbers from 0 on")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonView:
    """Why; `rule` only for those who may see it."""

    code: str
    text: str
    rule: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanColumn:
    """A column that is released, and its mask (None = as it is)."""

    name: str
    mask: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsView:
    """How much; None = no limit of this kind."""

    max_rows: int | None = None
    max_bytes: int | None = None
    max_epochs: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanView:
    """Exactly what will be released."""

    dataset: str  # with version
    columns: tuple[PlanColumn, ...]
    row_filter: str | None = None  # the condition as text; None = every row
    split: str | None = None
    limits: LimitsView = LimitsView()
    obligations: dict[str, Any] = field(default_factory=dict)
    obligation_levels: dict[str, str] = field(default_factory=dict)  # enforced, tracked, declared
    expires_at: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionView:
    """The answer to an AccessAsk."""

    decision: str  # dec_…
    effect: str  # allow | deny
    reasons: tuple[ReasonView, ...]
    advice: str | None = None
    plan: PlanView | None = None
    policy_epoch: int = 0
    bundle: str = ""
    subject: str | None = None
    action: str | None = None
    dataset: str | None = None
    purpose: str | None = None
    at: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A rule that was considered, as far as the reader may see it."""

    rule: str
    kind: str  # allow | deny | restrict
    outcome: str  # TRUE | FALSE | UNKNOWN
    place: str = ""  # `file:line` of the bundle in force
    conditions: dict[str, Any] = field(default_factory=dict)  # tree with an outcome at each node


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a decision came out as it did."""

    decision: DecisionView
    sentences: tuple[str, ...]
    candidates: tuple[Candidate, ...] = ()
    nearest: dict[str, Any] | None = None  # what would have to change for an allow


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantView:
    """A recorded permission."""

    id: str  # grant_…
    decision: str
    dataset: str  # with version
    subject: str
    purpose: str
    action: str
    columns: tuple[PlanColumn, ...]
    row_filter: str | None
    split: str | None
    run: str | None
    limits: LimitsView
    rows_charged: int
    bytes_charged: int
    granted_at: str
    expires_at: str
    revoked: bool
    obligations: dict[str, Any] = field(default_factory=dict)
    obligation_levels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationRequest:
    """Which grants end: one by id, or all that fit every selector given."""

    grant: str | None = None
    dataset: str | None = None
    subject: str | None = None
    run: str | None = None
    tenant: str | None = None  # the recipient's
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """What a revocation did."""

    grants: int
    streams_stopped: int
    slowest_ms: int  # from the durable record to the last byte of the slowest stream
    grant_ids: tuple[str, ...]
    keys_released: int | None = None  # data keys that left under these grants for good, if any
