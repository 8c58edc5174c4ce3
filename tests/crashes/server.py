"""A control process without workers and lineage that dies, or loses its disk, at a named step.

Everything it runs is the product's: bootstrap, services, journal, API over HTTP, and the parser
and sealer children; only what starts it is ours, because nothing in the gateway can arm a
failpoint. Imports are paid for once: this program forks a fresh control for each order.

    orders on standard input, one JSON object a line; answers on standard output:
    {"settings": …, "kill": {"step": "register.sheet", "hit": 1}}   → {"pid": 123}
    {"settings": …, "fail": {"steps": […], "errno": 28, "while": "/path"}}
                                      and when that control has ended → {"status": -9}
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn

from gateway import bootstrap, failpoints
from gateway.api.app import create_app
from gateway.delivery.guard import GuardedProtocol
from gateway.errors import GatewayError
from gateway.process import status_page
from gateway.process.directory import DirectoryLock
from gateway.process.tree import from_options
from gateway.services.gateway import Gateway

REFUSED_TO_START, JOURNAL_FAILED, LEFT_IN_ORDER = 3, 70, 0


def main() -> None:
    """Serve orders until standard input ends."""
    api = socket.socket(fileno=int(sys.argv[1]))
    while line := _next_order(api):
        pid = os.fork()
        if pid == 0:
            _control(json.loads(line), api)
        _answer(pid=pid)
        _, status = os.waitpid(pid, 0)
        _answer(status=os.waitstatus_to_exitcode(status))


def _next_order(api: socket.socket) -> str:
    """The next line; whoever connects while no control lives is sent away."""
    while True:
        ready, _, _ = select.select([sys.stdin, api], [], [])
        if sys.stdin in ready:
            return sys.stdin.readline()  # orders come one at a time: nothing stays in its buffer
        api.accept()[0].close()


def _answer(**facts: int) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def _control(order: dict[str, Any], api: socket.socket) -> None:
    code = 1
    try:
        acts = [killer(**order["kill"])] if "kill" in order else []
        acts += [_disk_that_fails(order["fail"])] if "fail" in order else []
        failpoints.arm(lambda name: [act(name) for act in acts] and None)
        code = _serve(order["settings"], api)
    except GatewayError as error:
        sys.stderr.write(f"{error.message}\n")
        code = REFUSED_TO_START
    finally:
        sys.stderr.flush()
        os._exit(code)


def killer(step: str, hit: int) -> Callable[[str], None]:
    """Kill this process when `step` is reached for the `hit`-th time."""
    lock, reached = threading.Lock(), 0

    def act(name: str) -> None:
        nonlocal reached
        if name == step:
            with lock:
                reached += 1
                if reached == hit:
                    os.kill(os.getpid(), signal.SIGKILL)
                    time.sleep(60)  # the signal is on its way

    return act


def _disk_that_fails(how: dict[str, Any]) -> Callable[[str], None]:
    """Fail the calls behind these steps for as long as the file `while` is there."""

    def act(name: str) -> None:
        if name in how["steps"] and Path(how["while"]).exists():
            raise OSError(how["errno"], os.strerror(how["errno"]))

    return act


def _serve(options: dict[str, Any], api: socket.socket) -> int:
    settings = from_options(options)
    bootstrap.log_as_json("warning")
    assert settings.server is not None
    with DirectoryLock(settings.state_dir):
        house = bootstrap.build(
            settings,
            page=status_page.create(),
            url=settings.server,
            on_failure=lambda _: os._exit(JOURNAL_FAILED),
        )
        config = uvicorn.Config(
            create_app(Gateway(house)), http=GuardedProtocol, ws="none", lifespan="off",
            loop="asyncio", log_config=None, access_log=False, timeout_graceful_shutdown=1,
        )  # fmt: skip

        async def run() -> None:
            server = _Server(config)
            end = partial(setattr, server, "should_exit", True)
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end)
            house.status.start_heart()
            await bootstrap.finish(house)
            await server.serve(sockets=[api.dup()])
            house.status.stop_heart()
            await bootstrap.close(house)

        asyncio.run(run())
    return LEFT_IN_ORDER


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers, which would end us before the house is closed."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


if __name__ == "__main__":
    main()
