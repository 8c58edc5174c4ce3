"""A segment request is good once, for one thing; what is sent cannot be changed or cut."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.crypto.segments import (
    CounterWindow,
    Frame,
    FrameMac,
    RequestLine,
    check_request,
    sign_request,
)
from gateway.errors import IntegrityError, InvalidInput, NotAuthenticated

KEY = bytes(range(32))
LINE = RequestLine(lease="lease_a", method="GET", path="/v1/leases/lease_a/segments/7", boot="b1")
FRAME = Frame(head=b"head", position=1, rows=10, size=80, digest=b"d" * 32, final=False)


@pytest.mark.parametrize(
    "change",
    [
        {"lease": "lease_b"},
        {"method": "POST"},
        {"path": "/v1/leases/lease_a/segments/8"},
        {"range": "bytes=0-9"},
        {"boot": "b2"},
    ],
)
def test_a_request_counts_for_nothing_else(change: dict[str, str]) -> None:
    presented = sign_request(KEY, LINE, 3)
    with pytest.raises(NotAuthenticated):
        check_request(KEY, replace(LINE, **change), presented)


def test_a_request_of_another_lease_key_or_counter_is_refused() -> None:
    presented = sign_request(KEY, LINE, 3)
    for key, text in ((bytes(32), presented), (KEY, presented.replace("v0.3.", "v0.4."))):
        with pytest.raises(NotAuthenticated):
            check_request(key, LINE, text)


@pytest.mark.parametrize(
    "text",
    ["", "v0", "v0.1.", "v1.1." + "0" * 64, "v0.01." + "0" * 64, "v0.-1." + "0" * 64,
     "v0.1." + "A" * 64, "v0.1." + "0" * 64 + "\n", "v0.9999999999999999." + "0" * 64],
)  # fmt: skip
def test_a_malformed_mac_is_refused(text: str) -> None:
    with pytest.raises(NotAuthenticated):
        check_request(KEY, LINE, text)


@given(st.integers(0, 67), st.characters())
def test_any_other_character_is_refused(at: int, other: str) -> None:
    presented = sign_request(KEY, LINE, 3)
    changed = presented[:at] + other + presented[at + 1 :]
    if changed != presented:
        with pytest.raises(NotAuthenticated):
            check_request(KEY, LINE, changed)


@pytest.mark.parametrize("counter", [-1, 1 << 53])
def test_a_counter_out_of_range_is_not_signed(counter: int) -> None:
    with pytest.raises(InvalidInput):
        sign_request(KEY, LINE, counter)


def test_a_request_is_good_once() -> None:
    window = CounterWindow(width=8)
    counter = check_request(KEY, LINE, sign_request(KEY, LINE, 5))
    window.accept(counter)
    with pytest.raises(NotAuthenticated):
        window.accept(counter)


def test_requests_may_overtake_but_not_for_ever() -> None:
    window = CounterWindow(width=4)
    for counter in (0, 3, 1, 2, 10):
        window.accept(counter)
    for old in (6, 3, 0, 10):
        with pytest.raises(NotAuthenticated):
            window.accept(old)
    window.accept(7)
    window.accept(1 << 52)


@given(st.lists(st.integers(0, 40)))
def test_no_counter_is_ever_accepted_twice(counters: list[int]) -> None:
    window, accepted = CounterWindow(width=8), []
    for counter in counters:
        try:
            window.accept(counter)
        except NotAuthenticated:
            assert counter in accepted or counter <= max(accepted) - 8
        else:
            accepted.append(counter)
    assert len(set(accepted)) == len(accepted)


@pytest.mark.parametrize(
    "change",
    [{"head": b"heae"}, {"position": 2}, {"rows": 9}, {"size": 81}, {"digest": b"e" * 32},
     {"final": True}],
)  # fmt: skip
def test_a_frame_that_states_anything_else_is_refused(change: dict[str, object]) -> None:
    mac = FrameMac(KEY, "lease_a", "plan", 7)
    presented = mac.mac(FRAME)
    with pytest.raises(IntegrityError):
        mac.check(replace(FRAME, **change), presented)  # type: ignore[arg-type]


def test_a_frame_of_another_segment_plan_lease_or_key_is_refused() -> None:
    presented = FrameMac(KEY, "lease_a", "plan", 7).mac(FRAME)
    sealed = FrameMac(KEY, "lease_a", "plan", 7).seal_content(b"rows", position=0)
    for other in (
        FrameMac(KEY, "lease_a", "plan", 8),
        FrameMac(KEY, "lease_a", "nalp", 7),
        FrameMac(KEY, "lease_b", "plan", 7),
        FrameMac(bytes(32), "lease_a", "plan", 7),
    ):
        with pytest.raises(IntegrityError):
            other.check(FRAME, presented)
        with pytest.raises(IntegrityError):
            other.check_content(b"rows", sealed, position=0)


@given(st.binary(max_size=64), st.data())
def test_any_flipped_bit_of_content_or_seal_is_noticed(content: bytes, data: st.DataObject) -> None:
    mac = FrameMac(KEY, "lease_a", "plan", 7)
    whole = bytearray(content + mac.seal_content(content, position=3))
    bit = data.draw(st.integers(0, len(whole) * 8 - 1))
    whole[bit // 8] ^= 1 << bit % 8
    with pytest.raises(IntegrityError):
        mac.check_content(bytes(whole[:-28]), bytes(whole[-28:]), position=3)


def test_a_chunk_at_another_place_or_without_seal_is_refused() -> None:
    mac = FrameMac(KEY, "lease_a", "plan", 7)
    sealed = mac.seal_content(b"rows", position=3)
    for proof, position in ((sealed, 4), (sealed[:-1], 3), (b"", 3)):
        with pytest.raises(IntegrityError):
            mac.check_content(b"rows", proof, position=position)
    with pytest.raises(InvalidInput):
        mac.seal_content(b"rows", position=1 << 32)


def test_what_was_sent_verifies_and_a_repeated_seal_differs() -> None:
    mac = FrameMac(KEY, "lease_a", "plan", 7)
    mac.check(FRAME, memoryview(mac.mac(FRAME)))
    first, second = (mac.seal_content(memoryview(b"rows"), position=3) for _ in range(2))
    assert first != second
    for sealed in (first, second):
        mac.check_content(memoryview(b"rows"), memoryview(sealed), position=3)
