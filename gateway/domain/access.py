"""AccessRequest, Decision and Plan: what is asked, what is answered, what will be enforced.

Shapes follow AuthZEN 1.0 (subject, action, resource, context) and NIST SP 800-162. All values
are immutable and canonical, so that their digests can be recorded and compared.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, NoReturn

from gateway.domain.dataset import Column, DatasetRef
from gateway.domain.derivation import Ancestor
from gateway.errors import AccessDenied

Scalar = str | int | float | bool

ACTIONS = (
    "discover", "describe", "preview", "stream", "export",
    "register", "update", "classify", "erase",
    "publish", "request", "approve", "revoke", "consent", "audit", "audit-person", "operate",
)  # fmt: skip
NOT_VISIBLE = "not-visible"  # reason code: the asker may not even know that the dataset exists
DATA_ACTIONS = ("preview", "stream", "export")  # release rows, hence need a Plan and a purpose


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Who asks, as the verified token says; never as the request body says."""

    id: str  # tenant-qualified: `startup/ml`
    tenant: str
    type: str  # `person` | `job`
    roles: tuple[str, ...] = ()  # unqualified: `trainer`
    attributes: Mapping[str, Scalar] = field(default_factory=dict)
    # ^ that its issuer vouches for: `region` of the subject, `workload.region` of its job

    @property
    def principals(self) -> tuple[str, ...]:
        """What rules may match: `startup/user:ml`, `startup/role:trainer`, `startup/*`, `*`."""
        user = self.id.partition("/")[2]
        return (
            f"{self.tenant}/user:{user}",
            *(f"{self.tenant}/role:{role}" for role in self.roles),
            f"{self.tenant}/*",
            "*",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much and how long; None = no limit of this kind."""

    max_rows: int | None = None
    max_bytes: int | None = None
    max_epochs: int | None = None
    expires_at: int | None = None  # Unix seconds

    def least(self, other: Limits) -> Limits:
        """The narrower of both in every dimension."""
        return Limits(
            max_rows=_least(self.max_rows, other.max_rows),
            max_bytes=_least(self.max_bytes, other.max_bytes),
            max_epochs=_least(self.max_epochs, other.max_epochs),
            expires_at=_least(self.expires_at, other.expires_at),
        )

    def is_within(self, other: Limits, *, slack: int = 0) -> bool:
        """Whether no dimension is wider; the end may be `slack` seconds later (clocks err)."""
        end = None if other.expires_at is None else other.expires_at + slack
        return self.least(replace(other, expires_at=end)) == self

    def to_dict(self) -> dict[str, int]:
        """Only the limits that are set."""
        pairs = {
            "max_rows": self.max_rows,
            "max_bytes": self.max_bytes,
            "max_epochs": self.max_epochs,
            "expires_at": self.expires_at,
        }
        return {key: value for key, value in pairs.items() if value is not None}


def _least(a: int | None, b: int | None) -> int | None:
    if a is None or b is None:
        return b if a is None else a
    return min(a, b)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRequest:
    """One question: may this subject do this to that, for this purpose?"""

    subject: Subject
    action: str
    dataset: DatasetRef | None  # None: the action is on the tenant itself (`operate`, `publish`)
    tenant: str  # owner of the resource
    purpose: str | None = None
    columns: tuple[str, ...] | None = None  # names as asked; None = all that may be had
    split: str | None = None
    limits: Limits = Limits()
    run: str | None = None
    context: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """What the catalogue knows about the thing asked for, at one catalogue index."""

    tenant: str
    dataset: DatasetRef | None = None  # with version
    columns: tuple[Column, ...] = ()
    splits: tuple[str, ...] = ()
    suspended: bool = False
    attributes: Mapping[str, Scalar] = field(default_factory=dict)
    ancestors: tuple[Ancestor, ...] = ()  # whose deny and restrict rules judge it too


class Effect(Enum):
    """The two answers."""

    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedColumn:
    """One column that will be released, and how it is masked (`None` = as it is)."""

    field_id: int
    name: str
    mask: str | None = None  # a mask's name, with argument: `x-bucket:10`


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Exactly what may be released. Two Plans with the same digest release the same cells."""

    dataset: DatasetRef  # with version
    split: str | None
    columns: tuple[PlannedColumn, ...]  # in the version's column order
    row_filter: tuple[Any, ...] | None = None  # bound AST of domain.rowfilter; None = every row
    limits: Limits = Limits()
    obligations: tuple[tuple[str, Scalar], ...] = ()  # sorted (name, value)
    purpose: str
    action: str

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns released."""
        return tuple(column.name for column in self.columns)

    def cells(self) -> dict[str, Any]:
        """What the released values depend on: not limits and times (DESIGN §9, order key)."""
        return {
            "dataset": str(self.dataset),
            "split": self.split,
            "columns": [[c.field_id, c.name, c.mask] for c in self.columns],
            "row_filter": self.row_filter,
        }

    def is_within(self, other: Plan) -> bool:
        """Whether this releases no cell, and permits nothing, that `other` does not."""
        wider = {column.field_id: column for column in other.columns}
        return (
            (self.dataset, self.row_filter) == (other.dataset, other.row_filter)
            and (self.purpose, self.action) == (other.purpose, other.action)
            and other.split in (None, self.split)
            and all(wider.get(column.field_id) == column for column in self.columns)
            and self.limits.is_within(other.limits)
            and set(self.obligations) >= set(other.obligations)
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON shape, as journalled and returned to the caller."""
        return {
            **self.cells(),
            "columns": [
                {"field_id": c.field_id, "name": c.name, "mask": c.mask} for c in self.columns
            ],
            "limits": self.limits.to_dict(),
            "obligations": [list(pair) for pair in self.obligations],
            "purpose": self.purpose,
            "action": self.action,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Plan:
        """Read what `to_dict` wrote (our own journal; not for foreign input)."""
        return cls(
            dataset=DatasetRef.parse(value["dataset"]),
            split=value["split"],
            columns=tuple(PlannedColumn(**column) for column in value["columns"]),
            row_filter=as_tuple(value["row_filter"]),
            limits=Limits(**value["limits"]),
            obligations=tuple((name, what) for name, what in value["obligations"]),
            purpose=value["purpose"],
            action=value["action"],
        )

    @property
    def digest(self) -> str:
        """SHA-256 hex over the canonical JSON of everything in the Plan."""
        return digest_of(self.to_dict())


def as_tuple(value: Any) -> Any:
    """Tuples, however deep, in place of the lists that JSON made of them."""
    return tuple(as_tuple(item) for item in value) if isinstance(value, (list, tuple)) else value


def digest_of(value: Any) -> str:
    """SHA-256 hex over canonical JSON (sorted keys, no spaces, ASCII)."""
    return hashlib.sha256(
        json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
    ).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why; `code` is of a closed list, `rule` only for those who may see it."""

    code: str
    text: str  # one sentence the requester may read
    rule: str | None = None


@dataclass(frozen=True, kw_only=True)  # without slots, for `stamped`
class Decision:
    """The answer. It has no truth value: use `require()`."""

    id: str  # dec_…
    effect: Effect
    reasons: tuple[Reason, ...]
    plan: Plan | None = None  # for an allowed data action
    rules: tuple[str, ...] = ()  # ids of every rule that hit
    advice: str | None = None  # what would have to change, when a rule permits saying so
    policy_epoch: int = 0
    bundle: str = ""  # SHA-256 hex of the policy snapshot judged by
    catalog_index: int = 0
    combinable: bool = False  # every allow says that its data may be put beside other data

    def stamped(
        self, decision_id: str, *, policy_epoch: int, bundle: str, catalog_index: int
    ) -> Decision:
        """The same answer to a question of its own; five times as fast as `replace`."""
        made = object.__new__(Decision)
        made.__dict__.update(
            self.__dict__,
            id=decision_id,
            policy_epoch=policy_epoch,
            bundle=bundle,
            catalog_index=catalog_index,
        )
        return made

    def __bool__(self) -> NoReturn:
        raise TypeError("a Decision has no truth value; use decision.require()")

    @property
    def is_allowed(self) -> bool:
        """For counting and display; enforcement uses `require`."""
        return self.effect is Effect.ALLOW

    def require(self) -> Plan | None:
        """Return the Plan, or raise AccessDenied with the reasons a requester may read."""
        if self.effect is not Effect.ALLOW:
            raise AccessDenied(
                "; ".join(reason.text for reason in self.reasons) or "denied",
                advice=self.advice,
                decision=self.id,
                reasons=[reason.code for reason in self.reasons],
            )
        return self.plan
