"""Start one of the gateway's own processes by exec, with nothing inherited but its channel.

The child runs `gateway.process.child`, which confines itself and then calls
`main(channel, options)` of the named module. Environment: empty but for PYTHONPATH, so that
the child finds the same `gateway` as its parent.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import gateway
from gateway.process.channel import Channel

ROOT = str(Path(gateway.__file__).resolve().parent.parent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """What a child is kept from. Applied by the child before it imports its module."""

    data_bytes_max: int | None = None  # RLIMIT_DATA; a low RLIMIT_AS may abort pyarrow
    cpu_seconds_max: int | None = None
    open_files_max: int = 256
    file_bytes_max: int | None = None  # RLIMIT_FSIZE; 0 = may not write any file
    network: bool = False
    sandboxed: bool = True  # Landlock: only read_paths and write_paths, where the kernel has it
    read_paths: tuple[str, ...] = ()
    write_paths: tuple[str, ...] = ()


@dataclass(slots=True)
class Child:
    """A running child and the channel to it."""

    process: subprocess.Popen[bytes]
    channel: Channel
    module: str

    def kill(self) -> None:
        """SIGKILL and reap; harmless when it is already gone."""
        self.process.kill()
        self.process.wait()
        self.channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What to start: the module, its confinement, options (JSON) and named descriptors."""

    module: str
    confinement: Confinement = field(default_factory=Confinement)
    options: dict[str, Any] = field(default_factory=dict)
    descriptors: dict[str, int] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)  # nothing, but for control


def spawn(launch: Launch, *, stderr: int | None = None) -> Child:
    """Start the child; the caller owns it (use it as a context manager, or kill it).

    Secrets travel over the channel, never in `options`, which stand in argv.
    """
    ours, theirs = socket.socketpair()
    process = start(launch, channel=theirs, stderr=stderr)
    theirs.close()
    return Child(process, Channel(ours), launch.module)


def start(
    launch: Launch, *, channel: socket.socket, stderr: int | None = None
) -> subprocess.Popen[bytes]:
    """Start the child on an existing socket (the supervisor connects two children)."""
    fds = {"channel": channel.fileno(), **launch.descriptors}
    spec = {
        "module": launch.module,
        "confinement": asdict(launch.confinement),
        "options": launch.options,
        "descriptors": fds,
    }
    return subprocess.Popen(
        [sys.executable, "-P", "-s", "-m", "gateway.process.child", json.dumps(spec)],
        env={**launch.environment, "PYTHONPATH": ROOT},
        pass_fds=tuple(fds.values()),
        stdin=subprocess.DEVNULL,
        stderr=stderr,
        cwd="/",
    )
