"""The control process: the API, the judge, all state, the only journal writer (DESIGN §4a).

Started by process/tree.py with the listening sockets, the status page and one link per data
worker and lineage process. Ends when its parent does, and when the journal cannot be written.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from typing import Any, NoReturn

import uvicorn
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from gateway import bootstrap
from gateway.api import waiting
from gateway.api.app import create_app
from gateway.config import Settings
from gateway.delivery.flight import DRAIN_SECONDS_MAX
from gateway.delivery.guard import GuardedProtocol, GuardedServer
from gateway.errors import GatewayError, KeyUnavailable
from gateway.ports import Kms
from gateway.process.channel import AsyncChannel, Channel, ChannelClosed
from gateway.process.tree import authority, from_options
from gateway.services import key_check, plugs, retention, witness
from gateway.services.gateway import Gateway
from gateway.services.house import House
from gateway.services.watch import watch
from gateway.services.workers import Door

HOUSEKEEPING_SECONDS = 5.0
EXIT_JOURNAL_FAILED = 70  # EX_SOFTWARE: nothing may be acknowledged any more
_log = logging.getLogger("gateway.control")


def main(channel: Channel, options: dict[str, Any]) -> None:
    """Run until the parent says stop or is gone."""
    settings = from_options(options["settings"])
    bootstrap.log_as_json(settings.log_level)
    descriptors: dict[str, int] = options["descriptors"]
    api = socket.socket(fileno=descriptors["api"])
    try:
        house = bootstrap.build(
            settings,
            page=descriptors["page"],
            url=_url(settings, api),
            on_failure=_give_up,
        )
    except GatewayError as error:
        kms = waiting.silent_kms(settings) if isinstance(error, KeyUnavailable) else None
        if kms is None or not isinstance(error, KeyUnavailable):
            channel.send("refused", message=error.message, advice=error.advice)
            return
        admin = socket.socket(fileno=descriptors["admin"])
        app = waiting.refusing(error)
        servers = {api: _server(app, settings), admin: _server(app, None)}
        asyncio.run(_wait(kms, channel, servers))
        _leave()  # our parent starts us anew, with a house that opens
    asyncio.run(_serve(house, channel, options, api))


def _leave() -> NoReturn:
    """End now: threads that wait for a child would keep us, and the children end with us."""
    logging.shutdown()
    os._exit(0)


def _url(settings: Settings, api: socket.socket) -> str:
    scheme = "https" if settings.tls_cert else "http"
    return f"{scheme}://{authority(settings, api)}"


def _give_up(reason: str) -> None:
    _log.critical("the journal cannot be written", extra={"reason": reason})
    os._exit(EXIT_JOURNAL_FAILED)


async def _wait(kms: Kms, channel: Channel, servers: dict[socket.socket, GuardedServer]) -> None:
    """Refuse until the key service answers or the parent says stop."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(channel.socket, stopped.set)
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    serving = asyncio.gather(*(server.serve(sockets=[s]) for s, server in servers.items()))
    await asyncio.gather(*(server.listening.wait() for server in servers.values()))
    channel.send("ready")
    _log.error("the key service does not answer: everything is refused until it does")
    await waiting.until_answering(kms, stopped)
    loop.remove_reader(channel.socket)
    for server in servers.values():
        server.should_exit = True
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(serving, 5)


async def _serve(
    house: House, channel: Channel, options: dict[str, Any], api: socket.socket
) -> None:
    descriptors: dict[str, int] = options["descriptors"]
    loop = asyncio.get_running_loop()
    for role in [role for role in descriptors if role.startswith(("worker-", "lineage"))]:
        await _attach(house, role, socket.socket(fileno=descriptors[role]), options)
    handover = socket.socket(fileno=descriptors["handover"])
    handover.setblocking(False)
    loop.add_reader(handover, _take_over, house, handover, options)
    await bootstrap.finish(house)
    gateway = Gateway(house)
    server = _server(create_app(gateway), house.settings)
    admin = _server(_metrics_app(gateway), None)
    serving = asyncio.gather(
        server.serve(sockets=[api]),
        admin.serve(sockets=[socket.socket(fileno=descriptors["admin"])]),
    )
    house.status.start_heart()
    tasks = [loop.create_task(_keep_house(house))]
    tasks.append(loop.create_task(retention.follow(house)))
    tasks.append(loop.create_task(witness.follow(house.witnesses, house.journal)))
    if house.settings.policies is not None:
        tasks.append(loop.create_task(watch(house, house.settings.policies)))
    parent = await AsyncChannel.over(channel.socket)
    await asyncio.gather(server.listening.wait(), admin.listening.wait())
    await parent.send("ready")
    is_told = await _until_stopped(parent)
    server.should_exit = admin.should_exit = True
    if is_told:
        await house.workers.drain(DRAIN_SECONDS_MAX)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(serving, 5)
    house.status.stop_heart()
    for task in tasks:
        task.cancel()
    await bootstrap.close(house)
    _leave()


async def _until_stopped(parent: AsyncChannel) -> bool:
    """Wait for `stop`, for the end of our parent, or for SIGTERM: a service's stop tells all.

    Returns: whether we were told: without a parent another tree may wait for our place.
    """
    told = asyncio.ensure_future(parent.receive())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        try:
            await told
        except ChannelClosed:
            return False
    return True


async def _keep_house(house: House) -> None:
    """What nobody asks for and time alone brings."""
    while True:
        await key_check.warm(house)
        await asyncio.sleep(HOUSEKEEPING_SECONDS)
        await house.workers.close_expired()


def _server(app: Any, settings: Settings | None) -> GuardedServer:
    config = uvicorn.Config(
        app,
        http=GuardedProtocol,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=3,
        ssl_certfile=settings.tls_cert if settings else None,
        ssl_keyfile=settings.tls_key if settings else None,
    )
    return GuardedServer(config)


async def _attach(house: House, role: str, sock: socket.socket, options: dict[str, Any]) -> None:
    channel = await AsyncChannel.over(sock)
    if role == "lineage":
        state = house.settings.state_dir
        await house.lineage.attach(
            channel,
            journal=state / "journal",
            directory=state / "lineage",
            log_key=house.signers.log.public_key,
            seal_key=house.vault.secret("lineage-seal"),
            telling=plugs.telling_of(house.settings, house.issuer),
        )
    else:
        number = int(role.partition("-")[2])
        door = Door(data_url=options["data_urls"][number], ring=options["rings"][number])
        await house.workers.attach(number, channel, door)


def _take_over(house: House, handover: socket.socket, options: dict[str, Any]) -> None:
    """A replaced worker or lineage process: its link arrives as a descriptor."""
    role, fds, _, _ = socket.recv_fds(handover, 64, 1)
    if not fds:
        return
    asyncio.get_running_loop().create_task(
        _attach(house, role.decode(), socket.socket(fileno=fds[0]), options)
    )


def _metrics_app(gateway: Gateway) -> Any:
    """`GET /metrics` for Prometheus, on the loopback admin port only."""
    registry = CollectorRegistry()
    known: dict[str, Gauge] = {}

    async def app(scope: dict[str, Any], _receive: Any, send: Any) -> None:
        is_known = scope["type"] == "http" and scope["path"] == "/metrics"
        if is_known:
            for name, value in (await gateway.metrics()).items():
                if name not in known:
                    known[name] = Gauge(name, name.replace("_", " "), registry=registry)
                known[name].set(value)
        body = generate_latest(registry) if is_known else b"not found\n"
        headers = [
            (b"content-type", b"text/plain; version=0.0.4"),
            (b"content-length", str(len(body)).encode()),
        ]
        status = 200 if is_known else 404
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app
