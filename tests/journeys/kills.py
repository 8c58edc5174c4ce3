"""Kill one process of a kind at a moment of a step, from a thread of its own."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

from tests.journeys.home import Home, Process

SHORT_LIVED = ("parser", "sealer", "decoder")
# Which processes take part in which step: those are killed there, in the matrix and at random.
PLAYERS = {
    "register": ("parent", "control", "worker", "lineage", "parser", "sealer"),
    "classify": ("parent", "control", "worker", "lineage"),
    "publish": ("parent", "control", "worker", "lineage"),
    "token": ("parent", "control", "worker", "lineage"),
    "direct": ("parent", "control", "worker", "lineage"),
    "view": ("parent", "control", "worker", "lineage", "decoder"),
    "revoke": ("parent", "control", "worker", "lineage"),
}


class Kill:
    """A context in which one process of `kind` is killed after `delay` seconds.

    Short-lived children are waited for first; `delay` counts from when they appear. `again`:
    so many seconds later control is killed too, which then is often still recovering.
    """

    def __init__(self, home: Home, kind: str, delay: float, *, again: float | None = None) -> None:
        self._home, self._kind, self._delay, self._again = home, kind, delay, again
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.victim: Process | None = None
        self.second: Process | None = None

    def _run(self) -> None:
        if self._kind in SHORT_LIVED:
            while self._home.find(self._kind) is None and not self._over.wait(0.005):
                pass
        self._over.wait(self._delay)
        if self._kind in SHORT_LIVED and self._over.is_set():
            return
        self.victim = self._home.kill(self._kind)
        if self._again is not None:
            time.sleep(self._again)
            self.second = self._home.kill("control")
        if not self._home.is_up:
            self._home.revive()  # as a service manager does; clients wait meanwhile

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """The step is over; a kill that has not come yet comes now (or there was nobody)."""
        self._over.set()
        self._thread.join()
        if kind is None:
            self._home.revive()
