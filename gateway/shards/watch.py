"""Wait for a child's next word; end children that grow too large or make no progress."""

from __future__ import annotations

import contextlib
import math
import select
import subprocess
import time
from dataclasses import dataclass

from gateway.domain.lookalikes import escaped
from gateway.errors import GatewayError
from gateway.process.channel import ChannelClosed, Message
from gateway.process.confine import resident_bytes
from gateway.process.spawn import Child

_POLL_SECONDS = 0.05
SILENCE_SECONDS_MAX = 120.0


class ChildStopped(Exception):
    """A child ended, or was ended; `why` is `memory`, `silence` or `gone, signal 9`."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True, slots=True)
class Watched:
    """A child and the resident bytes it may use."""

    child: Child
    resident_max: int


def next_message(
    speaker: Child, watched: tuple[Watched, ...], *, deadline: float = math.inf
) -> Message:
    """The next frame from `speaker`; raises ChildStopped, IntegrityError on nonsense.

    Args:
        speaker: whom to listen to.
        watched: who is ended when one of them grows, or is silent or late.
        deadline: of time.monotonic, for whoever says something now and then without an end.
    """
    quiet_since = time.monotonic()
    if quiet_since > deadline:
        _end(watched)
        raise ChildStopped("silence")
    ready = select.poll()  # `select` fails for descriptors from 1024 on, which control may have
    ready.register(speaker.channel.socket, select.POLLIN)
    while not ready.poll(_POLL_SECONDS * 1000):
        _check_memory(watched)
        if time.monotonic() - quiet_since > SILENCE_SECONDS_MAX:
            _end(watched)
            raise ChildStopped("silence")
    _check_memory(watched)
    try:
        return speaker.channel.receive()
    except ChannelClosed as cause:
        raise ChildStopped(f"gone, {_end_of(speaker)}") from cause


def _end_of(child: Child) -> str:
    with contextlib.suppress(subprocess.TimeoutExpired):
        code = child.process.wait(timeout=5)
        return f"signal {-code}" if code < 0 else f"exit {code}"
    return "still there"


def _check_memory(watched: tuple[Watched, ...]) -> None:
    for each in watched:
        if resident_bytes(each.child.process.pid) > each.resident_max:
            _end(watched)
            raise ChildStopped("memory")


def _end(watched: tuple[Watched, ...]) -> None:
    for each in watched:
        each.child.kill()


def text_of(message: Message, name: str) -> str:
    """A printable, short text from a message of a child, which may be hostile."""
    return escaped(str(message.body.get(name) or "")[:500])


def error_of(message: Message, kinds: tuple[type[GatewayError], ...]) -> GatewayError:
    """The error a child reports, if its code is one of `kinds`; else the last of them."""
    code = message.body.get("code")
    for kind in kinds:
        if kind.code == code:
            return kind(text_of(message, "message"), advice=text_of(message, "advice") or None)
    return kinds[-1](text_of(message, "message") or "a child process failed")
