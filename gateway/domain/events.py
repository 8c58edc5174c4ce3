"""What can happen: the closed list of event kinds, the facts of each, and the envelope v0.

Follows docs/formats/event-v0.md. Canonical bytes are JSON with sorted ASCII keys, no spaces,
UTF-8, no floats, integers below 2^53: for these values the same as RFC 8785. They are the
leaves of the journal's Merkle tree, so any other spelling of an event is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from gateway.domain import access_facts, claim, consent, key_facts, retention
from gateway.domain import facts as f
from gateway.domain import tenant as tenants
from gateway.errors import InvalidInput

FORMAT = "gateway-event/v0"
EVENT_BYTES_MAX = 1 << 20
MICROSECONDS = 1_000_000


class EventKind(StrEnum):
    """Every kind of event. A reader refuses a kind it does not know."""

    Boot = "Boot"
    KeyIntroduced = "KeyIntroduced"
    TenantHeads = "TenantHeads"  # written by the journal before each LogCheckpoint
    TenantAdded = "TenantAdded"
    TenantUpdated = "TenantUpdated"  # its limits; no Plan rests on them
    TenantSuspended = "TenantSuspended"
    TenantResumed = "TenantResumed"
    MonthExpired = "MonthExpired"  # written before what it says is done
    IdentityAdded = "IdentityAdded"
    IdentityRotated = "IdentityRotated"
    IdentityDisabled = "IdentityDisabled"
    VersionRegistered = "VersionRegistered"
    ColumnsClassified = "ColumnsClassified"
    DatasetUpdated = "DatasetUpdated"
    DerivationReleased = "DerivationReleased"
    DatasetSuspended = "DatasetSuspended"
    DatasetResumed = "DatasetResumed"
    DatasetErased = "DatasetErased"
    ErasureCertified = "ErasureCertified"
    KeysRotated = "KeysRotated"
    ConsentGiven = "ConsentGiven"
    ConsentWithdrawn = "ConsentWithdrawn"
    PolicyPublished = "PolicyPublished"
    PolicyProposed = "PolicyProposed"  # narrows nothing yet
    AccessDecided = "AccessDecided"
    AccessRequested = "AccessRequested"
    RequestAnswered = "RequestAnswered"
    TokenIssued = "TokenIssued"
    TokenRevoked = "TokenRevoked"
    GrantRevoked = "GrantRevoked"
    LeaseOpened = "LeaseOpened"
    LeaseRenewed = "LeaseRenewed"
    LeaseClosed = "LeaseClosed"
    SegmentIntent = "SegmentIntent"
    SegmentsConfirmed = "SegmentsConfirmed"
    SegmentsAcknowledged = "SegmentsAcknowledged"
    StreamRefused = "StreamRefused"
    ViewBuilt = "ViewBuilt"
    KeysReleased = "KeysReleased"  # data keys left the gateway for good
    QuestionAsked = "QuestionAsked"
    RequestRefused = "RequestRefused"
    ObligationFulfilled = "ObligationFulfilled"
    RunFinished = "RunFinished"
    RunAttested = "RunAttested"
    LineageClaimed = "LineageClaimed"  # by somebody else, of things that we did not see


# What can narrow or change an existing Plan (DESIGN §2, PolicyEpoch); never a new Grant.
RAISES_POLICY_EPOCH = frozenset(
    {
        EventKind.PolicyPublished,
        EventKind.ColumnsClassified,
        EventKind.DerivationReleased,
        EventKind.DatasetSuspended,
        EventKind.DatasetResumed,
        EventKind.DatasetErased,
        EventKind.ConsentGiven,
        EventKind.ConsentWithdrawn,
        EventKind.GrantRevoked,
        EventKind.IdentityDisabled,
        EventKind.TenantSuspended,
        EventKind.TenantResumed,
    }
)

# Their lease's Grant names who acts: without details nothing is sealed, which keeps them cheap.
NAMED_BY_LEASE = frozenset(
    {
        EventKind.LeaseRenewed,
        EventKind.LeaseClosed,
        EventKind.SegmentIntent,
        EventKind.SegmentsConfirmed,
        EventKind.SegmentsAcknowledged,
        EventKind.StreamRefused,
    }
)

_TENANT: f.Schema = {"tenant": f.NAME}
_BUNDLE: f.Schema = {**_TENANT, "bundle": f.SHA256, "files": f.COUNT, "rules": f.COUNT}
_DATASET: f.Schema = {"dataset": f.DATASET, "dataset_id": f.WORD}
_COLUMN = f.record_of(field_id=f.COUNT, name=f.TEXT, type=f.TYPE, nullable=f.FLAG)
_DEALING = f.record_of(
    column=f.TEXT | None,
    names_split=f.FLAG,
    shares=f.list_of(f.record_of(name=f.TEXT, share=f.WORD)),
)
_ORIGIN = f.record_of(dataset=f.DATASET, dataset_id=f.WORD, version=f.COUNT)

FACTS: Mapping[EventKind, f.Schema] = {
    EventKind.Boot: {"boot": f.HEX, "format": f.WORD, "log_key": f.HEX},
    EventKind.KeyIntroduced: {"use": f.CODE, "key_id": f.WORD, "public_key": f.WORD},
    EventKind.TenantHeads: {"root": f.SHA256, "tenants": f.COUNT},
    EventKind.TenantAdded: _TENANT,
    EventKind.TenantUpdated: tenants.FACTS,
    EventKind.TenantSuspended: _TENANT,
    EventKind.TenantResumed: _TENANT,
    EventKind.MonthExpired: retention.EXPIRED,
    EventKind.IdentityAdded: {
        "identity": f.IDENTITY,
        "type": f.CODE,
        "roles": f.list_of(f.NAME),
        "thumbprint": f.WORD | None,  # without: a trusted issuer vouches for it
        "public_key": f.WORD | None,
    },
    EventKind.IdentityRotated: {
        "identity": f.IDENTITY,
        "thumbprint": f.WORD,
        "public_key": f.WORD,
    },
    EventKind.IdentityDisabled: {"identity": f.IDENTITY},
    EventKind.VersionRegistered: {
        **_DATASET,
        "version": f.COUNT,
        "profile": f.CODE,
        "columns": f.list_of(_COLUMN),
        "splits": f.list_of(f.record_of(name=f.TEXT, rows=f.COUNT)),
        "rows": f.COUNT,
        "bytes": f.COUNT,
        "shards": f.COUNT,
        "manifest_digest": f.SHA256,
        "manifest_key": f.WORD,
        "sheet_generation": f.COUNT,
        "card_digest": f.SHA256 | None,
        "origins": f.list_of(_ORIGIN, at_most=64) | None,  # what it was made from
        "origin_runs": f.list_of(f.WORD, at_most=64) | None,  # by which runs' reading
        "dealing": _DEALING | None,
        "registration": f.WORD | None,
        "request_digest": f.SHA256 | None,
    },
    EventKind.ColumnsClassified: {**_DATASET, "tags": f.map_of(f.FIELD_KEY, f.list_of(f.TAG))},
    # Card, owners and contact are sealed; no decision rests on them.
    EventKind.DatasetUpdated: {
        **_DATASET,
        "card_digest": f.SHA256 | None,
        "changed": f.list_of(f.CODE),
        "owners": f.COUNT,
    },
    EventKind.DerivationReleased: {
        **_DATASET,
        "derived": f.DATASET,
        "derived_id": f.WORD,
        "version": f.COUNT,  # of the derived dataset: up to this one
    },
    EventKind.DatasetSuspended: _DATASET,
    EventKind.DatasetResumed: _DATASET,
    EventKind.DatasetErased: key_facts.ERASED,
    EventKind.ErasureCertified: key_facts.CERTIFIED,
    EventKind.KeysRotated: key_facts.ROTATED,
    EventKind.ConsentGiven: consent.FACTS,
    EventKind.ConsentWithdrawn: consent.FACTS,
    # proposal: index of the PolicyProposed that the actor approves; base: what it replaces
    EventKind.PolicyPublished: {**_BUNDLE, "proposal": f.COUNT | None},
    EventKind.PolicyProposed: {**_BUNDLE, "base": f.SHA256, "expires_at": f.COUNT},
    EventKind.AccessDecided: access_facts.DECIDED,
    EventKind.AccessRequested: access_facts.REQUESTED,
    EventKind.RequestAnswered: access_facts.ANSWERED,
    EventKind.TokenIssued: {
        "jti": f.WORD,
        "grant": f.GRANT | None,
        "thumbprint": f.WORD,  # or `bearer`
        "expires_at": f.COUNT,
        "parent": f.WORD | None,  # jti of the token it was exchanged for
    },
    EventKind.TokenRevoked: {"jti": f.WORD, "expires_at": f.COUNT},
    EventKind.GrantRevoked: {"grants": f.list_of(f.GRANT), "reason_code": f.CODE},
    EventKind.LeaseOpened: {
        "lease": f.LEASE,
        "grant": f.GRANT,
        "run": f.WORD | None,
        "worker": f.COUNT,
        "order": access_facts.ORDER,
        "segments": f.COUNT,
        "view": f.FLAG,
        "expires_at": f.COUNT,
        "policy_epoch": f.COUNT,
        "plan_digest": f.SHA256,
        "code": f.SHA256 | None,
        "framework": f.WORD | None,
    },
    EventKind.LeaseRenewed: {"lease": f.LEASE, "expires_at": f.COUNT, "policy_epoch": f.COUNT},
    EventKind.LeaseClosed: {"lease": f.LEASE, "reason_code": f.CODE},
    EventKind.SegmentIntent: {
        "lease": f.LEASE,
        "grant": f.GRANT,
        "first": f.COUNT,
        "last": f.COUNT,
        "rows": f.COUNT,
        "bytes": f.COUNT,
    },
    EventKind.SegmentsConfirmed: {
        "lease": f.LEASE,
        "segments": f.list_of(f.COUNT),
        "rows": f.COUNT,
        "bytes": f.COUNT,
    },
    EventKind.SegmentsAcknowledged: {"lease": f.LEASE, "upto": f.COUNT, "rows": f.COUNT},
    EventKind.StreamRefused: {"lease": f.LEASE, "segment": f.COUNT | None, "error": f.CODE},
    EventKind.ViewBuilt: {
        "view": f.WORD,
        "dataset_id": f.WORD,
        "version": f.COUNT,
        "plan_digest": f.SHA256,
        "rows": f.COUNT,
    },
    EventKind.KeysReleased: key_facts.RELEASED,
    EventKind.QuestionAsked: {"question": f.CODE, "parameters_digest": f.SHA256},
    EventKind.RequestRefused: {"route": f.ROUTE, "error": f.CODE},
    EventKind.ObligationFulfilled: {
        "dataset": f.DATASET,
        "grant": f.GRANT,
        "obligation": f.CODE,
        "evidence_sha256": f.SHA256,
    },
    EventKind.RunFinished: {
        "run": f.WORD,
        "model": f.WORD | None,
        "artifact_sha256": f.SHA256 | None,
    },
    EventKind.RunAttested: {"run": f.WORD, "attestation": f.SHA256, "attestation_key": f.WORD},
    EventKind.LineageClaimed: claim.FACTS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EventDraft:
    """What a service wants recorded; the journal adds place, time, boot and chains."""

    kind: EventKind
    owner_tenant: str  # whose thing it is; `platform` for the gateway's own
    actor_tenant: str | None = None  # None: nobody proved who they are, or the gateway itself
    actor: str | None = None  # subject id; goes into the sealed details, a tag stands in clear
    facts: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)  # JSON values; sealed
    concerns: tuple[str, ...] = ()  # further tenants whose chain this event belongs to

    @property
    def tenants(self) -> tuple[str, ...]:
        """Whose chains it goes into: owner, actor, concerns; each once, in that order."""
        actor = (self.actor_tenant,) if self.actor_tenant is not None else ()
        return tuple(dict.fromkeys((self.owner_tenant, *actor, *self.concerns)))

    def check(self) -> None:
        """Raise InvalidInput unless kind, tenants and facts are as the format says."""
        if self.actor is not None and self.actor_tenant is None:
            raise InvalidInput("who acted has a tenant")
        for tenant in self.tenants:
            if not f.NAME.holds(tenant):
                raise InvalidInput(f"`{str(tenant)[:80]}` is not a tenant of a `{self.kind}`")
        check_facts(self.kind, self.facts, owner=self.owner_tenant)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One leaf of the journal. `actor` and `details` are None to a reader without keys."""

    node: str
    index: int
    boot: str  # random id of the opening that wrote it
    time_us: int  # Unix microseconds
    kind: EventKind
    owner_tenant: str
    actor_tenant: str | None
    actor_tag: str | None  # keyed pseudonym of the actor, one key per tenant
    facts: Mapping[str, Any]
    sealed: Mapping[str, str] | None  # {"sealed", "commitment", "key"} of crypto.details
    chains: Mapping[str, Mapping[str, Any]]  # chain tag -> {"seq": count, "prev": leaf hash hex}
    actor: str | None = None
    details: Mapping[str, Any] | None = None

    @property
    def time(self) -> float:
        """Unix seconds."""
        return self.time_us / MICROSECONDS

    def envelope(self) -> dict[str, Any]:
        """The JSON object whose canonical bytes are the leaf."""
        return {
            "v": 0,
            "node": self.node,
            "index": self.index,
            "boot": self.boot,
            "time": self.time_us,
            "kind": self.kind.value,
            "owner": self.owner_tenant,
            "actor": self.actor_tenant,
            "who": self.actor_tag,
            "facts": self.facts,
            "details": self.sealed,
            "chains": self.chains,
        }

    @classmethod
    def of_envelope(cls, value: Any) -> Event:
        """Read an envelope, every member checked; raises InvalidInput."""
        if type(value) is not dict or value.get("v") != 0:
            raise InvalidInput("not an event of format v0")
        f.check_facts(_ENVELOPE, value, where="an event")
        check_facts(EventKind(value["kind"]), value["facts"], owner=value["owner"])
        return cls.of_checked(value)

    @classmethod
    def of_checked(cls, value: Any) -> Event:
        """The event of an envelope that was checked (`of_envelope`, or `spelled` on its bytes)."""
        return cls(
            node=value["node"],
            index=value["index"],
            boot=value["boot"],
            time_us=value["time"],
            kind=EventKind(value["kind"]),
            owner_tenant=value["owner"],
            actor_tenant=value["actor"],
            actor_tag=value["who"],
            facts=value["facts"],
            sealed=value["details"],
            chains=value["chains"],
        )


def check_facts(kind: EventKind, facts: Mapping[str, Any], *, owner: str) -> None:
    """Raise InvalidInput unless these are facts of the kind, about something the owner owns."""
    f.check_facts(FACTS[kind], facts, where=f"`{kind.value}`")
    thing = facts.get("dataset") or facts.get("identity")
    if thing is not None and thing.partition("/")[0] != owner:
        raise InvalidInput(f"`{thing}` is not a thing of tenant `{owner}`")


def canonical(value: Any) -> bytes:
    """Canonical bytes of checked values (no floats, ASCII keys); raises InvalidInput."""
    try:
        return json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        ).encode("utf-8")
    except (TypeError, ValueError, RecursionError) as cause:
        raise InvalidInput("a value has no canonical bytes") from cause


def parse(data: bytes) -> Event:
    """Read one leaf; raises InvalidInput for anything but the canonical bytes of an event."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as cause:
        raise InvalidInput("an event is not JSON") from cause
    event = Event.of_envelope(value)
    if canonical(value) != data:
        raise InvalidInput(f"event {event.index} is not in canonical form")
    return event


_KINDS = frozenset(kind.value for kind in EventKind)
_NULLABLE_NAME = f.Fact("a name or null", lambda v: v is None or f.NAME.holds(v))
_WHO = f.Fact("a keyed tag or null", lambda v: v is None or f.HEX.holds(v))
_SEALED = f.record_of(
    sealed=f.Fact("base64", lambda v: type(v) is str), commitment=f.HEX, key=f.WORD
)
_ENVELOPE: f.Schema = {
    "v": f.COUNT,
    "node": f.NAME,
    "index": f.COUNT,
    "boot": f.HEX,
    "time": f.COUNT,
    "kind": f.Fact("a known kind", lambda v: type(v) is str and v in _KINDS),
    "owner": f.NAME,
    "actor": _NULLABLE_NAME,
    "who": _WHO,
    "facts": f.Fact("an object", lambda v: type(v) is dict),
    "details": f.Fact("sealed details or null", lambda v: v is None or _SEALED.holds(v)),
    "chains": f.map_of(f.HEX, f.record_of(seq=f.COUNT, prev=f.SHA256)),
}
