"""Slots of a ring that the consumer looks at without a copy, and when they can be given back.

A slot is lent as an array. It comes back by itself when that array and everything made of it
is gone, in whatever thread lets go last: nothing but an atomic append can happen there.
"""

from __future__ import annotations

import gc
import weakref
from collections import deque
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.errors import IntegrityError

CREDITS_AT_ONCE = 2  # each word wakes the worker
KEPT_MAX = 3  # of the eight slots: what a consumer keeps beyond is copied for it
RINGS_KEPT_MAX = 4  # rings that are over, and live on in what a consumer keeps: beyond, the same

Bytes = NDArray[np.uint8]
_left: weakref.WeakSet[Any] = weakref.WeakSet()  # the memory of such rings


class Slots:
    """The memory of one ring, as its reader has it."""

    def __init__(self, memory: memoryview, slot_bytes: int) -> None:
        """All slots are the worker's; `memory` is read-only."""
        self._memory, self._slot_bytes = memory, slot_bytes
        self._lent: dict[int, weakref.ref[Any] | None] = {}
        self._returned: deque[int] = deque()
        self._seen = 0  # lent slots that the consumer took, or that nobody needed
        self._back = 0  # of those, given back
        self._kept_max = _may_keep() if slot_bytes else 0

    def lend(self, slot: int, length: int) -> Bytes:
        """Return what the worker put into a slot, to whoever wants to keep it.

        Raises:
            IntegrityError: there is no such slot, or it was not given back.
        """
        content = self.show(slot, length)
        self._lent[slot] = weakref.ref(content, partial(self._release, slot))
        return content

    def show(self, slot: int, length: int) -> Bytes:
        """Like `lend`, but it is given back by `put_back`: for who copies it at once."""
        start = slot * self._slot_bytes
        if length > self._slot_bytes or start + length > len(self._memory):
            raise IntegrityError("a slot lies outside the memory of the ring")
        if slot in self._lent:
            raise IntegrityError("a slot was filled before it was given back")
        self._lent[slot] = None
        return np.frombuffer(self._memory[start : start + length], dtype=np.uint8)

    def put_back(self, slot: int) -> None:
        """It was copied."""
        self._seen += 1
        self._returned.append(slot)

    def _release(self, slot: int, _: object) -> None:
        self._returned.append(slot)

    def see(self) -> None:
        """One more slot is in the consumer's hands."""
        self._seen += 1

    @property
    def kept(self) -> int:
        """How many slots the consumer has in its hands."""
        return self._seen - self._back - len(self._returned)

    @property
    def is_kept_enough(self) -> bool:
        """Whether the consumer has so many that it gets copies: one slot keeps the whole ring."""
        return self.kept > self._kept_max

    def leave(self) -> None:
        """The ring is over; what the consumer has stays until it lets go of it."""
        if self.kept:
            _left.add(self._memory.obj)

    def take_returned(self, *, is_waiting: bool) -> list[int]:
        """Return the slots to give back: many at once, or what there is if the worker has few.

        Not for several threads at once.
        """
        is_short = is_waiting and len(self._lent) > CREDITS_AT_ONCE
        if len(self._returned) < (1 if is_short else CREDITS_AT_ONCE):
            return []
        slots = [self._returned.popleft() for _ in range(len(self._returned))]
        self._back += len(slots)
        for slot in slots:
            del self._lent[slot]
        return slots


def _may_keep() -> int:
    """How many slots of one more ring a consumer may keep."""
    if len(_left) >= RINGS_KEPT_MAX:
        gc.collect()  # of an error with its traceback, or a forgotten stream, a cycle keeps them
    return KEPT_MAX if len(_left) < RINGS_KEPT_MAX else 0
