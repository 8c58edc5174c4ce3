"""What every child runs first: close the doors, then do the work (see spawn.py)."""

from __future__ import annotations

import importlib
import importlib.abc
import json
import os
import select
import signal
import socket
import sys
import threading
import time

from gateway.process import confine
from gateway.process.channel import Channel, ChannelClosed
from gateway.process.spawn import Confinement

GRACE_SECONDS = 30.0  # for control, workers and lineage: to hand back, confirm, save


class WithoutPandas(importlib.abc.MetaPathFinder):
    """Hide pandas, where somebody installed it.

    pyarrow and DuckDB look for it when they convert a value: no child uses it, and it costs each
    of them seconds to start and a hundred more modules beside hostile bytes.
    """

    def find_spec(self, fullname: str, *_: object) -> None:
        """Raise ModuleNotFoundError for pandas; leave all others to the next finder."""
        if fullname == "pandas":
            raise ModuleNotFoundError("children do without pandas", name=fullname)


def main() -> int:
    """Confine this process, then hand it to its module's `main(channel, options)`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; our end comes from it
    spec = json.loads(sys.argv[1])
    limits = spec["confinement"]
    limits["read_paths"] = tuple(limits["read_paths"])
    limits["write_paths"] = tuple(limits["write_paths"])
    confine.hide_memory()
    confine.apply(Confinement(**limits))
    channel = Channel(socket.socket(fileno=spec["descriptors"].pop("channel")))
    grace = 0.0 if limits["sandboxed"] else spec["options"].get("grace_seconds", GRACE_SECONDS)
    _end_with(channel.socket, grace)
    sys.meta_path.insert(0, WithoutPandas())
    module = importlib.import_module(spec["module"])
    try:
        module.main(channel, {**spec["options"], "descriptors": spec["descriptors"]})
    except ChannelClosed:
        return 0  # the parent is gone, and so is the reason to live
    return 0


def _end_with(sock: socket.socket, grace: float) -> None:
    """End when the other end of `sock` closes, whatever hangs or computes here.

    `grace` is what an orderly end may take, in seconds: a process that hangs has none.
    """

    def watch() -> None:
        poll = select.poll()
        poll.register(sock, 0)  # only its end is of interest: POLLHUP needs no asking
        poll.poll()
        time.sleep(grace)
        os._exit(0)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
