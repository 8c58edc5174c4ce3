"""The simulator's stories written to a real, signed journal on disk."""

from __future__ import annotations

from pathlib import Path

from gateway.domain.events import EventDraft
from gateway.journal.journal import Journal
from tests.journal.places import LOG, opened
from tests.lineage.history import History, clinic_and_startup


class RealJournal:
    """A journal that can be told the story again and again (with other ids)."""

    def __init__(self, base: Path) -> None:
        self._base = base
        base.mkdir(parents=True, exist_ok=True)
        self.journal: Journal = opened(base)
        self.stories = 0
        self.history = History()

    @property
    def directory(self) -> Path:
        return self._base / "journal"

    @property
    def log_key(self) -> bytes:
        return LOG.public_key

    def tell_story(self) -> int:
        """Append one story; returns the journal's durable size."""
        self.stories += 1
        begin = len(self.history.events)
        clinic_and_startup(self.history)
        return self.append(self.history, begin)

    def append(self, history: History, begin: int = 0) -> int:
        """Append what happened from event `begin` on; returns the durable size."""
        index = -1
        for event, subject in zip(history.events[begin:], history.subjects[begin:], strict=True):
            if event.kind == "Boot":
                continue
            index = self.journal.append(
                EventDraft(
                    kind=event.kind,
                    owner_tenant=event.owner_tenant,
                    actor_tenant=event.actor_tenant,
                    actor=subject,
                    facts=event.facts,
                )
            )
        self.journal.wait_durable(index)
        return index + 1

    def flip_a_byte(self) -> None:
        """Damage the journal in the middle, as a storage admin could."""
        self.journal.close()
        path = max(self.directory.glob("*"), key=lambda p: p.stat().st_size)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
