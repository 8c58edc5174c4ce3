"""A job that is stopped hands its leases back, so that its next life starts at once.

Clusters send SIGTERM before they take a machine away. What was verified is acknowledged and
the lease returned; then the process ends as it would have. A program that has a handler of its
own for SIGTERM keeps it: its streams are handed back when it exits.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import threading
import weakref
from types import FrameType
from typing import Protocol

HAND_BACK_SECONDS_MAX = 3.0  # clusters kill soon after they asked


class Closable(Protocol):
    """A stream, as far as this module knows it."""

    def close(self) -> None:
        """Hand the lease back; harmless twice."""
        ...


_open: weakref.WeakSet[Closable] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_open.clear)  # the leases are its parent's


def hand_back_when_stopped(stream: Closable) -> None:
    """Close `stream` on SIGTERM and at exit, if it is still there then.

    The handler is installed from the main thread only, and only where there is none.
    """
    if not _open:
        atexit.unregister(_hand_back)
        atexit.register(_hand_back)
    _open.add(stream)
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _on_sigterm)


def _on_sigterm(number: int, _: FrameType | None) -> None:
    # In a thread: this one was interrupted anywhere, perhaps within a request of its own.
    work = threading.Thread(target=_hand_back, daemon=True)
    work.start()
    work.join(HAND_BACK_SECONDS_MAX)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _hand_back() -> None:
    for stream in tuple(_open):
        with contextlib.suppress(Exception):  # the process ends; a lease also ends by itself
            stream.close()
