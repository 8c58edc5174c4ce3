"""A child that tries forbidden things and says what happened."""

from __future__ import annotations

import importlib
import os
import resource
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.process.channel import Channel


def _outcome(act: Callable[[], object]) -> str:
    try:
        act()
    except MemoryError:
        return "MemoryError"
    except (OSError, ImportError) as error:
        return type(error).__name__
    return "done"


def _connect(address: tuple[str, int]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.settimeout(2)
        sock.connect(address)


def _send_datagram(address: tuple[str, int]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", address)


def main(channel: Channel, options: dict[str, Any]) -> None:
    """Answer one report."""
    parent = os.getppid()
    address = ("127.0.0.1", options["port"])
    acts: dict[str, Callable[[], object]] = {
        "read secret": Path(options["secret"]).read_bytes,
        "read allowed": Path(options["allowed"]).read_bytes,
        "write allowed": lambda: Path(options["writable"], "new").write_bytes(b"x"),
        "write elsewhere": lambda: Path(options["secret"] + ".new").write_bytes(b"x"),
        "list /proc of parent": lambda: list(Path(f"/proc/{parent}/fd").iterdir()),
        "memory of parent": lambda: Path(f"/proc/{parent}/mem").open("rb").close(),
        "signal parent": lambda: os.kill(parent, signal.SIGCONT),
        "connect": lambda: _connect(address),
        "datagram": lambda: _send_datagram(address),
        "load pandas": lambda: importlib.import_module("pandas"),
        "allocate": lambda: bytearray(options["bytes"]),
    }
    report = {name: _outcome(act) for name, act in acts.items()}
    report["environment"] = ",".join(sorted(os.environ))
    report["core"] = str(resource.getrlimit(resource.RLIMIT_CORE))
    channel.send("report", **report)
