"""Long acts with progress, and whether the server is ready."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A long act; poll it until `state` is not `running`."""

    id: str  # op_…
    kind: str  # register | verify | …
    state: str  # running | done | failed | cancelled
    progress: float  # 0..1
    detail: str = ""  # what it does right now
    result: dict[str, Any] | None = None
    problem: dict[str, Any] | None = None  # an RFC 9457 document when failed
    started_at: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """One thing that was checked."""

    ok: bool
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """`/readyz`; lineage lag is shown but never makes it unready."""

    ready: bool
    checks: dict[str, CheckResult] = field(default_factory=dict)
