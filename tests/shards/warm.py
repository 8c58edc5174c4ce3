"""Children for many small registrations: forked from a process that has Arrow imported already.

Real children start by exec and spend a second on imports. A campaign of thousands of files
cannot; its children are forked here, confine themselves the same way and run the same `main`.
`warm(monkeypatch)` puts them in the place of `spawn`; nothing else differs.
"""

from __future__ import annotations

import array
import contextlib
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from gateway.process import confine
from gateway.process.channel import Channel, ChannelClosed
from gateway.process.child import WithoutPandas
from gateway.process.spawn import Child, Confinement, Launch

_SPEC_BYTES_MAX = 1 << 17


class Zygote:
    """The process that forks; one question and one answer at a time."""

    def __init__(self) -> None:
        """Start it and wait until its imports are done."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * _SPEC_BYTES_MAX)
        command = [sys.executable, "-m", "tests.shards.warm", str(theirs.fileno())]
        self._process = subprocess.Popen(command, pass_fds=(theirs.fileno(),))
        theirs.close()
        self._socket = ours
        assert ours.recv(16) == b"ready"

    def spawn(self, launch: Launch, *, stderr: int | None = None) -> Child:
        """As `gateway.process.spawn.spawn`."""
        del stderr
        ours, theirs = socket.socketpair()
        names = ["channel", *launch.descriptors]
        spec = {
            "module": launch.module,
            "confinement": asdict(launch.confinement),
            "options": launch.options,
            "names": names,
        }
        fds = [theirs.fileno(), *launch.descriptors.values()]
        socket.send_fds(self._socket, [json.dumps(spec).encode()], fds)
        theirs.close()
        pid = int(self._socket.recv(32))
        process: Any = _Forked(pid, self._socket)
        return Child(process, Channel(ours), launch.module)

    def stop(self) -> None:
        """End it."""
        self._socket.close()
        self._process.wait(timeout=20)


class _Forked:
    """What `Child` needs of subprocess.Popen."""

    def __init__(self, pid: int, zygote: socket.socket) -> None:
        self.pid, self._zygote = pid, zygote
        self.returncode: int | None = None

    def kill(self) -> None:
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        del timeout  # whoever waits here has killed it, or seen its end of a channel close
        if self.returncode is None:
            self._zygote.send(json.dumps({"wait": self.pid}).encode())
            self.returncode = int(self._zygote.recv(32))
        return self.returncode


@contextlib.contextmanager
def zygote() -> Iterator[Zygote]:
    """A Zygote for the length of a test module."""
    made = Zygote()
    try:
        yield made
    finally:
        made.stop()


def _serve(sock: socket.socket) -> None:
    sys.meta_path.insert(0, WithoutPandas())
    import tests.shards.liar  # noqa: F401 - what the children need

    sock.send(b"ready")
    while True:
        data, fds, _, _ = socket.recv_fds(sock, _SPEC_BYTES_MAX, 8)
        if not data:
            return
        spec = json.loads(data)
        if "wait" in spec:
            _, status = os.waitpid(spec["wait"], 0)
            sock.send(str(os.waitstatus_to_exitcode(status)).encode())
            continue
        pid = os.fork()
        if pid == 0:
            sock.close()
            _run(spec, list(array.array("i", fds)))
        for fd in fds:
            os.close(fd)
        sock.send(str(pid).encode())


def _run(spec: dict[str, Any], fds: list[int]) -> None:
    code = 1
    try:
        limits = spec["confinement"]
        limits["read_paths"] = tuple(limits["read_paths"])
        limits["write_paths"] = tuple(limits["write_paths"])
        confine.hide_memory()
        confine.apply(Confinement(**limits))
        descriptors = dict(zip(spec["names"], fds, strict=True))
        channel = Channel(socket.socket(fileno=descriptors.pop("channel")))
        module = importlib.import_module(spec["module"])
        with contextlib.suppress(ChannelClosed):
            module.main(channel, {**spec["options"], "descriptors": descriptors})
        code = 0
    except BaseException:  # noqa: BLE001 - a fork must never return into the zygote's loop
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
