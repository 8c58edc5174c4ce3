"""Consent of persons: what owners bring in, and what stands on record."""

from __future__ import annotations

from dataclasses import dataclass

CONSENTS_MAX = 1000  # in one request


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentEntry:
    """One person gave or withdrew consent to one purpose."""

    person: str  # the owner's id of the person; becomes a keyed tag at once
    purpose: str
    state: str  # `given` | `withdrawn`
    at: str | None = None  # ISO 8601; default: now
    dataset: str | None = None  # default: all of the tenant's


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentRequest:
    """POST /v1/consents."""

    entries: tuple[ConsentEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentReceipt:
    """What was recorded."""

    given: int
    withdrawn: int
    index: int  # of the last event


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentView:
    """The newest word of one person on one purpose."""

    person_tag: str
    purpose: str
    dataset: str | None
    state: str
    since: str
    index: int  # of the event that says so
