"""One draft of every kind of event that a service writes, for the vectors of event-v0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.domain.events import EventDraft, EventKind
from tests.catalog import happenings as h
from tests.journal.places import refused_request

LEASE, GRANT = h.named("lease_", 1), h.named("grant_", 1)
PLATFORM: Mapping[str, dict[str, Any]] = {
    "KeyIntroduced": {"use": "token", "key_id": "token-1", "public_key": h.sha("key")},
    "TenantUpdated": {
        "tenant": "clinic",
        "max_streams": 8,
        "requests_per_minute": None,
        "max_bytes": 1 << 40,
        "max_stored_bytes": None,
    },
    "TenantSuspended": {"tenant": "clinic"},
    "TenantResumed": {"tenant": "clinic"},
}
CLINIC: Mapping[str, dict[str, Any]] = {
    "IdentityRotated": {"identity": "clinic/anna", "thumbprint": "t2", "public_key": "k2"},
    "IdentityDisabled": {"identity": "clinic/anna"},
    "MonthExpired": {"tenant": "clinic", "month": "2026-08"},
    "PolicyProposed": {
        "tenant": "clinic",
        "bundle": h.sha("new"),
        "files": 3,
        "rules": 9,
        "base": h.sha("old"),
        "expires_at": 1_900_000_000,
    },
    "QuestionAsked": {"question": "who-read", "parameters_digest": h.sha("parameters")},
}
STREAMED: Mapping[str, dict[str, Any]] = {
    "TokenIssued": {
        "jti": "j1",
        "grant": GRANT,
        "thumbprint": "t1",
        "expires_at": 1_790_000_600,
        "parent": "j0",
    },
    "TokenRevoked": {"jti": "j1", "expires_at": 1_790_000_600},
    "LeaseRenewed": {"lease": LEASE, "expires_at": 1_790_001_200, "policy_epoch": 2},
    "SegmentsAcknowledged": {"lease": LEASE, "upto": 2, "rows": 128},
    "StreamRefused": {"lease": LEASE, "segment": 3, "error": "lease-revoked"},
    "ViewBuilt": {
        "view": "view-1",
        "dataset_id": h.DATASET["dataset_id"],
        "version": 1,
        "plan_digest": h.plan().digest,
        "rows": 80,
    },
    "KeysReleased": {
        **h.DATASET,
        "version": 1,
        "grant": GRANT,
        "decision": h.named("dec_", 1),
        "split": "train",
        "columns": [1],
        "shards": ["5" * 32],
        "keys": 2,
        "rows": 80,
        "bytes": 4096,
    },
    "ObligationFulfilled": {
        "dataset": h.DATASET["dataset"],
        "grant": GRANT,
        "obligation": "delete-after",
        "evidence_sha256": h.sha("evidence"),
    },
    "RunFinished": {"run": "r1", "model": "triage", "artifact_sha256": h.sha("weights")},
    "RunAttested": {"run": "r1", "attestation": h.sha("a"), "attestation_key": "attestations/r1"},
}
CLAIM = {
    "claim": h.sha("claim"),
    "type": "run",
    "state": "COMPLETE",
    "claimed_at": 1_790_000_000_123_456,
    "about": 0,
    "things": [
        {"kind": "run", "namespace": None, "name": "clinic:0190", "version": None},
        {"kind": "job", "namespace": None, "name": "ab" * 16, "version": None},
        {"kind": "dataset", "namespace": None, "name": "clinic/icu", "version": 1},
        {"kind": "dataset", "namespace": "s3://lake", "name": "größe", "version": None},
    ],
    "edges": [{"source": 2, "target": 0}, {"source": 0, "target": 3}],
    "columns": [
        {
            "source": 2,
            "source_column": "age",
            "target": 3,
            "target_column": "decade",
            "type": "DIRECT",
            "subtype": "TRANSFORMATION",
            "masking": True,
        }
    ],
}
DRAFTS = (
    h.version(),
    h.denied(),
    refused_request(1, actor_tenant="startup", actor="startup/ml"),
    h.tenant("clinic"),
    h.identity(),
    h.classified(f1=["pii"]),
    h.updated(),
    h.derivation_released(),
    h.on_dataset(EventKind.DatasetSuspended),
    h.on_dataset(EventKind.DatasetResumed),
    h.erased(),
    h.certified(),
    h.rotated(v1=2),
    h.consent(EventKind.ConsentGiven),
    h.consent(EventKind.ConsentWithdrawn),
    h.policy(),
    h.requested(),
    h.answered(),
    h.opened(code=h.sha("program"), framework="torch-2.13.0+cpu"),
    h.intent(0, 1, 20),
    h.confirmed(0, 1, rows=20),
    h.closed(),
    h.revoked("1"),
    EventDraft(kind=EventKind.LineageClaimed, owner_tenant="clinic", facts=CLAIM),
    *(EventDraft(kind=EventKind(kind), owner_tenant="platform", facts=facts)
      for kind, facts in PLATFORM.items()),
    *(EventDraft(kind=EventKind(kind), owner_tenant="clinic", facts=facts)
      for kind, facts in CLINIC.items()),
    *(h.streamed(EventKind(kind), **facts) for kind, facts in STREAMED.items()),
)  # fmt: skip
