"""A gateway that is away for a while is a pause that is said once, and not an error."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from gateway.errors import KeyUnavailable, Unavailable

T = TypeVar("T")
_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)

_log = logging.getLogger("gateway.client")


class Pause:
    """How long it has been waited for what was asked, and how much longer it will be."""

    def __init__(self, patience_seconds: float, now: Callable[[], float]) -> None:
        """Wait for `patience_seconds` in all; `now` gives Unix seconds."""
        self._patience, self._now = patience_seconds, now
        self._since: float | None = None
        self._tries = 0
        self._is_said = False

    def is_over(self) -> bool:
        """Begin to wait, or go on; whether patience has ended."""
        now = self._now()
        self._since = now if self._since is None else self._since
        return now >= self._since + self._patience

    def next(self, why: Exception) -> float:
        """Seconds until the next try. A pause that lasts longer than one is said, with `why`."""
        seconds = _SECONDS[min(self._tries, len(_SECONDS) - 1)]
        if self._tries and not self._is_said:
            self._is_said = True
            _log.warning(
                "the stream pauses, for %.0f s at most: %s", self._patience, str(why) or "cut off"
            )
        self._tries += 1
        return seconds

    def hurry(self) -> None:
        """Somebody answers again: what is asked next is tried soon."""
        self._tries = 0

    def end(self) -> None:
        """What was waited for has come."""
        if self._is_said and self._since is not None:
            _log.warning("the stream goes on after %.1f s", self._now() - self._since)


def patiently(act: Callable[[], T], patience_seconds: float) -> T:
    """Do `act`, which asks a gateway that may be away; raises as it does when patience is over."""
    pause = Pause(patience_seconds, time.time)
    while True:
        try:
            found = act()
        except (Unavailable, KeyUnavailable) as away:
            if pause.is_over():
                raise
            time.sleep(pause.next(away))
        else:
            pause.end()
            return found
