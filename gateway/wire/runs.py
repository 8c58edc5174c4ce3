"""Training runs: what they read, their end, and the attestation that binds them to a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["BOUND", "STREAMING", "UNBOUND", "Attestation", "RunFinish", "RunView"]

STREAMING = "streaming"  # one of its streams is open
BOUND = "bound"  # to a model and its file: there is an attestation
UNBOUND = "unbound"  # it ended, or only stopped reading, and nothing says what came of it


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinish:
    """PATCH /v1/runs/{id}: the run is over."""

    model: str | None = None  # its name
    artifact_sha256: str | None = None  # hex, of the model's file


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A training job, as far as the gateway saw it."""

    run: str
    uuid: str  # UUIDv5 of tenant, scheduler and the id that the scheduler knows it by
    subject: str
    state: str  # STREAMING | BOUND | UNBOUND
    datasets: tuple[str, ...]
    grants: tuple[str, ...]
    purposes: tuple[str, ...]
    rows: int  # acknowledged
    first_at: str
    last_at: str
    finished_at: str | None = None
    model: str | None = None  # `model:NAME@sha256:…` when bound to a file, else its name
    attestation: str | None = None  # SHA-256 hex of the envelope's bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """What a run was delivered, signed and bound to its model; it verifies offline."""

    run: str
    model: str  # `model:NAME@sha256:…`
    envelope: dict[str, Any]  # DSSE v1 around an in-toto Statement v1
    digest: str  # SHA-256 hex of the envelope's canonical JSON, as the log has it
    public_key: str  # hex; compare it with one that you have from elsewhere
