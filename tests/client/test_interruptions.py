"""Streams that are revoked, denied, left alone or cut: an error with its position, or a pause."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

import pytest

from gateway.errors import (
    AccessDenied,
    KeyUnavailable,
    LeaseExpired,
    LeaseRevoked,
    PlanChanged,
    StreamBroken,
    StreamStopped,
)
from tests.client.test_stream import ask, direct, ids, stream_of, worker
from tests.delivery.world import Answer, Gateway

__all__ = ["direct", "worker"]


def test_a_revoked_lease_stops_with_its_position(direct: Gateway) -> None:
    stream = stream_of(direct, ask(window_blocks=1), prefetch_segments=1)
    next(stream)
    direct.revoke(stream.manifest.lease)
    with pytest.raises(LeaseRevoked) as stop:
        list(stream)
    assert stop.value.position == stream.position
    assert stop.value.position.rows >= 50
    with pytest.raises(LeaseRevoked):
        next(stream)


def test_a_policy_change_that_still_allows_does_not_disturb(direct: Gateway) -> None:
    with stream_of(direct, ask(window_blocks=1), prefetch_segments=1) as stream:
        got = ids([next(stream)])
        direct.raise_epoch()
        got += ids(stream)
    assert got == list(range(1700))


def test_a_policy_change_that_denies_stops_before_the_next_segment(direct: Gateway) -> None:
    def deny(_: str) -> int:
        raise PlanChanged("the rules changed")

    stream = stream_of(direct, ask(window_blocks=1), prefetch_segments=1)
    next(stream)
    direct.raise_epoch(deny)
    intents = len(direct.control.intents)
    with pytest.raises(PlanChanged) as stop:
        list(stream)
    assert isinstance(stop.value, StreamStopped)
    assert stop.value.position is not None
    assert len(direct.control.intents) <= intents + 1


def test_a_silent_control_stops_the_stream(direct: Gateway) -> None:
    stream = stream_of(direct, ask(window_blocks=1), prefetch_segments=1, patience=0.5)
    next(stream)
    direct.fall_silent()
    time.sleep(1.3)
    with pytest.raises(StreamBroken, match="silent") as stop:
        list(stream)
    assert stop.value.position.rows >= 50
    stream.close()


def test_an_expired_lease_that_is_not_opened_again_stops(direct: Gateway) -> None:
    direct.control.lease_seconds = 0.2
    stream = stream_of(direct, ask(window_blocks=1), prefetch_segments=1, patience=0.6)
    direct.request = _away(direct)  # type: ignore[method-assign]
    time.sleep(1.3)
    with pytest.raises(LeaseExpired) as stop:
        list(stream)
    assert stop.value.position.rows == 0


def _away(gateway: Gateway) -> Any:
    from gateway.errors import Unavailable

    def request(*_: Any, **__: Any) -> Any:
        raise Unavailable("no gateway answers")

    return request


def test_the_lease_is_renewed_at_half_its_life(direct: Gateway) -> None:
    direct.control.lease_seconds = 2.0
    with stream_of(direct, ask(window_blocks=1), prefetch_segments=1) as stream:
        got = ids([next(stream)])
        time.sleep(3.2)
        got += ids(stream)
    assert got == list(range(1700))
    assert direct.control.renewed >= 1


def test_a_key_service_that_is_away_is_a_pause_when_the_lease_has_ended(
    direct: Gateway, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, back_at = direct.request, time.monotonic() + 3.0

    def without_keys(method: str, path: str, **rest: Any) -> Answer:
        if method == "POST" and time.monotonic() < back_at:
            raise KeyUnavailable("the key service cannot be reached")
        return honest(method, path, **rest)

    direct.control.lease_seconds = 1.0
    with stream_of(direct, ask(window_blocks=1), prefetch_segments=1, patience=20) as stream:
        got = ids([next(stream)])
        monkeypatch.setattr(direct, "request", without_keys)
        time.sleep(2.1)
        got += ids(stream)
    assert got == list(range(1700))
    assert len(direct.control.opened) == 2
    assert caplog.messages[0].startswith("the stream pauses, for 20 s at most")


def test_a_denial_is_never_asked_about_again(
    direct: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def deny(method: str, path: str, **_: Any) -> Answer:
        asked.append(f"{method} {path}")
        raise AccessDenied("the rules no longer allow this")

    direct.control.lease_seconds = 1.0
    with stream_of(direct, ask(window_blocks=1), prefetch_segments=1, patience=20) as stream:
        next(stream)
        monkeypatch.setattr(direct, "request", deny)
        time.sleep(2.1)
        with pytest.raises(AccessDenied, match="no longer") as stop:
            list(stream)
    assert stop.value.position == stream.position  # type: ignore[attr-defined] # the stream's
    assert sum(path.startswith("POST") for path in asked) == 1, asked


def test_a_worker_killed_in_the_middle_is_a_pause(direct: Gateway) -> None:
    with stream_of(direct, ask(window_blocks=1), prefetch_segments=1, patience=20) as stream:
        got = ids([next(stream)])
        direct.kill()
        assert direct.control.workers_gone == [3]
        threading.Timer(0.5, direct.start).start()
        got += ids(stream)
    assert got == list(range(1700))
    assert len(direct.control.opened) == 2


def test_a_gateway_away_longer_than_patience_breaks_the_stream(
    direct: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    stream = stream_of(direct, ask(window_blocks=1), prefetch_segments=1, patience=0.4)
    next(stream)
    direct.kill()
    with pytest.raises(StreamBroken) as stop:
        list(stream)
    assert stop.value.position is not None
    said = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert [text.partition(":")[0] for text in said] == ["the stream pauses, for 0 s at most"]


def test_a_changed_plan_is_refused_when_the_lease_is_opened_again(direct: Gateway) -> None:
    from tests.delivery import world

    stream = stream_of(direct, ask(window_blocks=1, shuffle=True), prefetch_segments=1)
    next(stream)
    direct.kill()
    before, world.ORDER_SECRET = world.ORDER_SECRET, b"\x08" * 32
    try:
        direct.start()
        with pytest.raises(PlanChanged):
            list(stream)
    finally:
        world.ORDER_SECRET = before


def test_a_worker_that_is_stopped_and_continued_goes_on(direct: Gateway) -> None:
    with stream_of(direct, ask(window_blocks=1), prefetch_segments=1) as stream:
        got = ids([next(stream)])
        os.kill(direct.process.pid, signal.SIGSTOP)
        threading.Timer(0.3, os.kill, (direct.process.pid, signal.SIGCONT)).start()
        got += ids(stream)
    assert got == list(range(1700))
