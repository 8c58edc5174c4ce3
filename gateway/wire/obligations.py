"""What a recipient owes for what it was given, and how it says that it is done."""

from __future__ import annotations

from dataclasses import dataclass

EVIDENCE_CHARS_MAX = 8192  # longer evidence stays with the recipient; its digest is recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class ObligationView:
    """One tracked obligation under one Grant."""

    id: str  # obl_…
    name: str
    period: str  # from the end of the Grant
    state: str  # running (the Grant has not ended) | due | overdue | fulfilled
    due_at: str
    dataset: str  # with version
    grant: str
    subject: str  # who received the data
    owner: str  # tenant that it is owed to
    fulfilled_at: str | None = None
    fulfilled_by: str | None = None
    evidence_sha256: str | None = None
    evidence: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FulfilmentRequest:
    """POST /v1/obligations/{id}/fulfilment: it is done, and this shows it."""

    evidence_sha256: str  # hex, of the evidence's bytes
    evidence: str | None = None  # the same as text, when it is short
