"""How many bytes of segments a stream may hold ahead of its consumer."""

from __future__ import annotations

import math
import threading

import numpy as np

from gateway.domain.lease import SEGMENT_BYTES_MAX
from gateway.wire.leases import LeaseManifest

_FRAMES_BYTES = 16 << 10  # head, end and padding of a segment, generously


class NoRoom(Exception):
    """A segment turned out larger than the room that is left; it is asked for again later."""


class Budget:
    """Counts what is fetched and not yet taken: at most `bytes_max`, or else one segment.

    One thread claims and keeps, another takes. The size of a segment is known before it is
    asked for, but in a view, where one block may be over-large: it is turned away when its
    head comes, and asked for again when it fits.
    """

    def __init__(self, bytes_max: int, manifest: LeaseManifest) -> None:
        """Nothing is held; `manifest` says how large segments are."""
        self._max = bytes_max
        self._rows = [rows for lane in manifest.lanes for rows in lane]
        self._row_bytes = 0  # of a direct lease; a view does not say
        if manifest.kind == "direct":
            widths = (np.dtype(c.dtype).itemsize * math.prod(c.shape) for c in manifest.columns)
            self._row_bytes = sum(widths)
        self._largest = SEGMENT_BYTES_MAX + _FRAMES_BYTES  # of a view, as far as is known
        self._changed = threading.Condition()
        self._held = self._claimed = 0

    def has_room(self, *segments: int) -> bool:
        """Whether these segments may be asked for now; the first may always if none is held."""
        return self._fits(sum(map(self._size, segments))) or (len(segments) == 1 and not self._held)

    def wait(self, segment: int, seconds: float) -> bool:
        """Wait until the segment may be asked for, at most so long."""
        with self._changed:
            return self._changed.wait_for(lambda: self.has_room(segment), seconds)

    def claim(self, size: int) -> None:
        """Count the bytes of the one segment that is being fetched, instead of those before.

        Raises:
            NoRoom: they are more than there is room for.
        """
        with self._changed:
            self._claimed = 0
            self._largest = max(self._largest, size)
            if self._held and not self._fits(size):
                raise NoRoom
            self._claimed = size

    def keep(self) -> int:
        """The segment was fetched: hold its bytes, and return how many to `take` later."""
        with self._changed:
            size, self._claimed = self._claimed, 0
            self._held += size
            return size

    def take(self, size: int) -> None:
        """The consumer has it: it is not ahead any more."""
        with self._changed:
            self._held -= size
            self._changed.notify()

    def _fits(self, size: int) -> bool:
        return self._held + size <= self._max

    def _size(self, segment: int) -> int:
        if not self._row_bytes:
            return self._largest
        return self._rows[segment] * self._row_bytes + _FRAMES_BYTES
