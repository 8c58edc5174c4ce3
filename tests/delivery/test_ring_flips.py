"""A spy who has the ring, while bits of the stored shard or view are flipped.

Whatever bit it is: the spy sees what was handed out before, as it was registered, and zeros.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.crypto.pages import open_frame
from gateway.delivery.spec import ViewSource
from gateway.domain.lease import CHUNK_BYTES_MAX
from gateway.wire import ring as frames
from gateway.wire.leases import LeaseRequest
from gateway.wire.segments import ALIGNMENT, END_MAGIC
from tests.delivery.spies import Spy, access_of
from tests.delivery.world import PLAN, Data, Gateway, Worker, direct_data, view_data

ROWS, WIDTH = 1024, 1024  # one segment of 4 MiB: half of a ring
FLIPS, FLIPS_LONG = 12, 1000


@pytest.fixture(scope="module", params=["direct", "view"])
def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Data:
    place = tmp_path_factory.mktemp("flips")
    if request.param == "direct":
        return direct_data(place, shard_rows=(ROWS,), width=WIDTH)
    return view_data(place, rows=ROWS, block_rows=64, name=lambda row: f"{row} " * 1000)


def test_under_flipped_bits_a_spy_sees_only_what_was_handed_out(
    worker: Worker, stored: Data, request: pytest.FixtureRequest
) -> None:
    gateway = Gateway(stored, worker)
    source = stored.source
    path = Path(source.path if isinstance(source, ViewSource) else source.shards[0].path)
    whole = path.read_bytes()
    body = body_of(stored, whole)
    first = 0 if isinstance(source, ViewSource) else 4  # the magic of Parquet is nobody's
    ends: list[str] = []

    @settings(max_examples=FLIPS_LONG if request.config.getoption("--long") else FLIPS,
              suppress_health_check=[HealthCheck.too_slow])  # fmt: skip
    @given(at=st.integers(first, len(whole) - 1), bit=st.integers(0, 7))
    def holds(at: int, bit: int) -> None:
        changed = bytearray(whole)
        changed[at] ^= 1 << bit
        path.write_bytes(changed)
        with Spy(access_of(gateway, LeaseRequest())) as spy:
            spy.greet()
            spy.get(0)
            handed, end = read_to_the_end(spy)
            seen = bytearray(spy.content())
        ends.append(end)
        begin = 0
        for slot, size in handed:
            place = slice(slot * CHUNK_BYTES_MAX, slot * CHUNK_BYTES_MAX + size)
            assert seen[place] in (body[begin : begin + size], bytes(size))
            seen[place] = bytes(size)
            begin += size
        assert not np.frombuffer(seen, dtype=np.uint64).any()

    try:
        holds()
    finally:
        path.write_bytes(whole)
        gateway.close()
    assert "whole" not in ends
    assert len(ends) >= FLIPS


def body_of(stored: Data, sealed: bytes) -> bytes:
    """Of the only segment, as it was registered."""
    source = stored.source
    if not isinstance(source, ViewSource):
        return b"".join(column.tobytes() for column in stored.expected.values())
    place = {"view": source.view, "plan_digest": PLAN, "count": len(source.frames)}
    messages = [
        open_frame(source.key, sealed[offset : offset + size], number=number, **place)
        for number, (offset, size, _) in enumerate(source.frames)
    ]
    return b"".join(message + bytes(-len(message) % ALIGNMENT) for message in messages)


def read_to_the_end(spy: Spy) -> tuple[list[tuple[int, int]], str]:
    """Slots that were handed out, with their bytes; and how it ended."""
    handed = []
    try:
        while True:
            magic, payload = spy.receive()
            if magic == frames.CHUNK:
                handed.append(frames.CHUNK_PLACE.unpack(payload))
            elif magic == frames.REFUSAL:
                return handed, "refused"
            elif magic == END_MAGIC:
                return handed, "whole"
    except EOFError:
        return handed, "cut"
