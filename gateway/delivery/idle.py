"""What a crowd of streams needed is given back when the crowd is gone.

glibc keeps freed memory in its heaps, and takes chunks of 1 MiB from them once some were
freed: without a word, a worker keeps for ever what it needed on its busiest day.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
from collections.abc import Callable

from gateway.delivery.leases import LeaseTable

TRIM_SECONDS = 1.0
CROWD_STREAMS = 8  # a few warm buffers are worth more than their memory


async def give_back_memory(table: LeaseTable, drop_buffers: Callable[[int], None]) -> None:
    """Run for ever: when half of a crowd is gone, return what it held.

    Args:
        table: whose streams are counted.
        drop_buffers: keeps so many buffers that no stream uses, and drops the others.
    """
    most = 0
    while True:
        await asyncio.sleep(TRIM_SECONDS)
        streams = table.streams
        most = max(most, streams)
        if most >= CROWD_STREAMS and streams <= most // 2:
            drop_buffers(CROWD_STREAMS)
            _trim()
            most = streams


def _trim() -> None:
    with contextlib.suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
