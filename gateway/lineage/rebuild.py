"""Project the whole journal into a new file, while no server runs: `gateway lineage rebuild`.

A server does the same by itself when the file is missing, edited or of another version; this is
for whoever does not want to wait for it, or wants to see it done.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gateway.domain.events import Event
from gateway.journal.composer import read_event
from gateway.journal.reader import Reader
from gateway.lineage.projection import BATCH_EVENTS_MAX, Projection

Progress = Callable[[float, str], None]  # 0..1 and words


def rebuild(
    directory: Path, seal_key: bytes, journal: Path, log_key: bytes, progress: Progress
) -> int:
    """Throw the projection away and make it anew; returns how many events it holds.

    Args:
        directory: of the projection.
        seal_key: 32 bytes, kept in the vault.
        journal: directory of the journal.
        log_key: its 32-byte public key: only what it signed is projected.
        progress: called now and then.

    Raises:
        IntegrityError: the journal was changed; the projection holds what came before.
    """
    size = sum(path.stat().st_size for path in journal.glob("*.log")) or 1
    reader, projection, read = Reader(journal, log_key), Projection(directory, seal_key), 0
    try:
        projection.rebuild("asked for")
        events: list[tuple[Event, str]] = []
        for commit in reader.commits():
            events += [
                (read_event(payload, index, reader.node), leaf.hex())
                for index, (payload, leaf) in enumerate(
                    zip(commit.payloads, commit.leaves, strict=True), commit.first
                )
            ]
            read += sum(map(len, commit.payloads))
            while len(events) >= BATCH_EVENTS_MAX:  # a transaction costs as much as 1,000 events
                projection.append(events[:BATCH_EVENTS_MAX])
                del events[:BATCH_EVENTS_MAX]
                progress(min(read / size, 0.99), f"{projection.projected} events")
        projection.append(events)
        progress(min(read / size, 0.99), f"{projection.projected} events")
        return projection.projected
    finally:
        projection.close()
