"""A data worker: one process that serves segments of leases, and ends when control does.

Started by the parent with inherited listening sockets, the status page and a channel to
control. Knows numpy and cryptography, never Arrow; holds the keys of its open leases only.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from functools import partial
from typing import Any, cast

import uvicorn

from gateway.delivery.asgi import DataApp
from gateway.delivery.control import ControlLink
from gateway.delivery.flight import DRAIN_SECONDS_MAX, Flight
from gateway.delivery.gate import Gate
from gateway.delivery.guard import GuardedServer
from gateway.delivery.idle import give_back_memory
from gateway.delivery.leases import LeaseTable
from gateway.delivery.places import Places, SeatedProtocol
from gateway.delivery.producer import STALL_SECONDS, Producer
from gateway.delivery.ring import HELLO_SECONDS_MAX, RingServer
from gateway.process.channel import AsyncChannel, Channel
from gateway.process.status_page import StatusReader

KEEP_ALIVE_SECONDS = 75
_HEAR_SECONDS = 0.5  # in which control says that it stops, too, and hears what was sent


def main(channel: Channel, options: dict[str, Any]) -> None:
    """Serve until control is gone or SIGTERM comes.

    Args:
        channel: to control.
        options: `descriptors` {`listen`: listening TCP socket, `status`: status page, and
            `ring`: listening Unix socket, where rings are offered}; `worker` (int); optional
            `tls_cert` and `tls_key` (paths), `stall_seconds`, `hello_seconds`.
    """
    asyncio.run(_serve(channel, options))


async def _serve(channel: Channel, options: dict[str, Any]) -> None:
    descriptors = options["descriptors"]
    listening = socket.socket(fileno=descriptors["listen"])
    status = StatusReader(descriptors["status"])
    table = LeaseTable()
    facts = {"pid": os.getpid(), "worker": options.get("worker", 0)}
    control = ControlLink(await AsyncChannel.over(channel.socket), table, facts)
    gate = Gate(table, control, status, time.time)
    control.before_close = gate.confirm
    producer = Producer(table, gate, control, options.get("stall_seconds", STALL_SECONDS))
    places = Places()
    app = DataApp(table, producer, places, time.time)
    server = GuardedServer(_config(app, places, options))
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # counted, never printed
    serving = asyncio.create_task(server.serve([listening]))
    works = (
        gate.watch(),
        control.serve(),
        give_back_memory(table, app.drop_buffers),
        _until_told(control, table.flight),
    )
    others = [asyncio.create_task(work) for work in works]
    if "ring" in descriptors:
        rings = RingServer(table, producer, options.get("hello_seconds", HELLO_SECONDS_MAX))
        others.append(asyncio.create_task(rings.serve(socket.socket(fileno=descriptors["ring"]))))
    await asyncio.wait((serving, *others), return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = server.force_exit = True
    await serving
    for task in others:
        task.cancel()


async def _until_told(control: ControlLink, flight: Flight) -> None:
    """Wait for SIGTERM, and then for what is on its way.

    A service's stop tells everybody. Then control has more to hear from us, and ends us itself.
    """
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    await told.wait()
    await flight.drain(DRAIN_SECONDS_MAX)
    await asyncio.sleep(_HEAR_SECONDS)
    if control.is_draining:
        await asyncio.Event().wait()


def _config(app: DataApp, places: Places, options: dict[str, Any]) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=cast(type[asyncio.Protocol], partial(SeatedProtocol, places)),
        ws="none",
        loop="asyncio",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        ssl_certfile=options.get("tls_cert"),
        ssl_keyfile=options.get("tls_key"),
    )
