"""Remember what may be used once, for as long as it could be used again. In memory, bounded."""

from __future__ import annotations

import threading
from collections.abc import Callable

from gateway.errors import LimitExceeded

CAPACITY = 200_000
SECONDS = 180  # longer than any proof or assertion is accepted, leeway included


class ReplayMemory:
    """Answers whether a key was seen before. Full, it refuses instead of forgetting."""

    def __init__(
        self, now: Callable[[], float], *, seconds: int = SECONDS, capacity: int = CAPACITY
    ) -> None:
        """`now`: a clock in seconds that does not go back (time.monotonic)."""
        self._now = now
        self._seconds = seconds
        self._capacity = capacity
        self._seen: dict[str, float] = {}  # in the order of expiry
        self._lock = threading.Lock()

    def seen(self, key: str) -> bool:
        """True when `key` was given within the last `seconds`; remembers it otherwise.

        Raises:
            LimitExceeded: more than `capacity` keys are remembered.
        """
        with self._lock:
            now = self._now()
            while self._seen and next(iter(self._seen.values())) <= now:
                del self._seen[next(iter(self._seen))]
            if key in self._seen:
                return True
            if len(self._seen) >= self._capacity:
                raise LimitExceeded(
                    "too many requests with proofs at once", retry_after_seconds=self._seconds
                )
            self._seen[key] = now + self._seconds
            return False
