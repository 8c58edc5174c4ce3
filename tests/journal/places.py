"""A journal in a temporary directory with real keys; only the key vault is left out."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.crypto import envelope
from gateway.crypto.details import DetailSealer
from gateway.crypto.signing import Signer
from gateway.domain.events import Event, EventDraft, EventKind
from gateway.journal.journal import Journal, JournalSetup

LOG = Signer(bytes(range(32)), "log")
NODE = "n1"
START = 1_790_000_000.0


class DetailKeys:
    """A key vault that derives its keys instead of keeping them."""

    def detail_key(self, tenant: str, month: str) -> bytes:
        return envelope.derive(b"d" * 32, "detail", tenant, month)

    known_detail_key = detail_key


def ticking(start: float = START, step: float = 0.001) -> Callable[[], float]:
    ticks = itertools.count()
    return lambda: start + step * next(ticks)


def setup(base: Path, **changes: Any) -> JournalSetup:
    fields: dict[str, Any] = {
        "directory": base / "journal",
        "anchor_directory": base / "anchor",
        "node": NODE,
        "signer": LOG,
        "details": DetailSealer(DetailKeys()),
        "tag_key": b"t" * 32,
        "now": ticking(),
    }
    return JournalSetup(**{**fields, **changes})


def _ignore(event: Event) -> None:
    pass


def opened(
    base: Path, apply: Callable[[Event], None] | None = None, start: int = 0, **changes: Any
) -> Journal:
    return Journal.open(setup(base, **changes), apply or _ignore, start)


def refused_request(number: int = 0, tenant: str = "clinic", **changes: Any) -> EventDraft:
    """An event that any catalogue takes."""
    facts = {"route": f"/v1/grants/{number}", "error": "access-denied"}
    return EventDraft(
        kind=EventKind.RequestRefused, owner_tenant=tenant, **{"facts": facts, **changes}
    )


def fill(journal: Journal, count: int, *, commits: int = 1) -> None:
    """Append `count` events in about `commits` group commits."""
    for number in range(count):
        index = journal.append(refused_request(number))
        if commits > 1 and number % max(count // commits, 1) == 0:
            journal.wait_durable(index)
    journal.wait_durable(journal.size - 1)
