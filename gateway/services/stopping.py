"""Streams end because an owner says so: how many, and how fast.

The PolicyEpoch keeps them from going on already: what says so is a durable event when this is
called. A worker answers when no further byte of the lease will be handed to the kernel.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass

from gateway.services.house import House


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """The streams that one act ended."""

    streams: int
    slowest_ms: float  # from the durable event to the last byte of the slowest


async def stop_streams(house: House, leases: Iterable[str], reason: str) -> Stopped:
    """Close the leases that are open, and record their end."""
    durable_at = time.monotonic()
    ends = await asyncio.gather(*(house.workers.close(lease, reason) for lease in leases))
    streams = sum(end is not None for end in ends)
    slowest_ms = (time.monotonic() - durable_at) * 1e3 if streams else 0.0
    return Stopped(streams=streams, slowest_ms=round(slowest_ms, 3))
