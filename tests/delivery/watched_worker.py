"""A data worker that writes down how the generator of every segment ends.

Nothing but the worker itself can end one here: each is kept alive, as a traceback or a cycle
would keep it, so that a generator which is only forgotten stays open.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from gateway.delivery import worker
from gateway.delivery.body import SegmentBody
from gateway.delivery.producer import Producer
from gateway.process.channel import Channel


def main(channel: Channel, options: dict[str, Any]) -> None:
    """As gateway.delivery.worker; `told` is the file: `ended|closed FRAMES` a line."""
    told = os.open(Path(options.pop("told")), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    kept: list[Generator[bytes | memoryview]] = []
    frames, counted = SegmentBody.frames, Producer._opened

    def watched(body: SegmentBody, *given: Any) -> Generator[bytes | memoryview]:
        kept.append(_watch(frames(body, *given), told))
        return kept[-1]

    def held(producer: Producer, *given: Any) -> Generator[bytes | memoryview]:
        kept.append(counted(producer, *given))
        return kept[-1]

    SegmentBody.frames = watched  # type: ignore[assignment, method-assign]
    Producer._opened = held  # type: ignore[assignment, method-assign]
    worker.main(channel, options)


def _watch(made: Iterator[bytes | memoryview], told: int) -> Generator[bytes | memoryview]:
    count, how = 0, "closed"
    try:
        for frame in made:
            count += 1
            yield frame
        how = "ended"
    finally:
        os.write(told, f"{how} {count}\n".encode())
