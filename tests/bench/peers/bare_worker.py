"""The data worker without governance: the same parts, a gate that admits at once, no control.

For tests/bench/governance.py. The product has no switch for this: here a Producer is built with
a gate that asks nobody and a control that records nothing. Same pages, same encryption, same
frames, same ring, same HTTP. Reads a pickled LeaseSpec from standard input.
"""

from __future__ import annotations

import asyncio
import pickle
import socket
import sys
import time
from typing import Any

import uvicorn

from gateway.delivery import worker
from gateway.delivery.asgi import DataApp
from gateway.delivery.geometry import segments_of
from gateway.delivery.leases import LeaseTable, OpenLease
from gateway.delivery.places import Places
from gateway.delivery.producer import STALL_SECONDS, Producer
from gateway.delivery.ring import RingServer
from gateway.delivery.sources import Maps, open_source


class NobodyAsks:
    """Gate and control in one: everything is admitted, nothing is recorded."""

    def __getattr__(self, name: str) -> Any:
        """`confirm`, `acknowledge`, `sent`, `refused`, `accept` of a counter: not done."""
        return lambda *_: None

    async def admit(self, lease: OpenLease) -> None:
        """At once."""

    async def record(self, *_: Any) -> str:
        """No intent."""
        return "bare:0"


async def serve(listening: socket.socket, ring: socket.socket) -> None:
    spec = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the bench that started us
    table, nobody = LeaseTable(), NobodyAsks()
    lease = OpenLease(
        spec=spec,
        source=open_source(spec, Maps()),
        segments=segments_of(spec),
        policy_epoch=spec.policy_epoch,
        expires_at=spec.expires_at,
    )
    lease.credentials.counters = nobody  # type: ignore[assignment] # one lease for all passes
    table.add(lease)
    producer = Producer(table, nobody, nobody, STALL_SECONDS)  # type: ignore[arg-type]
    places = Places()
    app = DataApp(table, producer, places, time.time)
    config = worker._config(app, places, {})  # as a worker has it
    http = asyncio.create_task(uvicorn.Server(config).serve([listening]))
    await asyncio.gather(http, RingServer(table, producer).serve(ring))


if __name__ == "__main__":
    descriptors = map(int, sys.argv[1:])
    asyncio.run(serve(*(socket.socket(fileno=fd) for fd in descriptors)))
