"""A real data worker, attacked over its Unix socket: who may have a ring, when it stops."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.delivery.ring import RINGS_MAX, RINGS_OF_A_LEASE_MAX, WANTED_MAX
from gateway.errors import PlanChanged
from gateway.process.confine import resident_bytes
from gateway.wire import codec
from gateway.wire import ring as frames
from gateway.wire.leases import LeaseRequest
from gateway.wire.segments import END_MAGIC, HEAD_MAGIC
from tests.delivery.spies import RING_BYTES, Spy, access_of, eventually, rows_of, stream_of
from tests.delivery.world import Data, Gateway, Worker, direct_data

# -- who may have a ring ----------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [{"key": b"\x00" * 32}, {"boot": "boot-0"}, {"challenge": b"\x00" * 32}, {"mac": ""},
     {"mac": "0" * 64}, {"nonce": "ff" * 32}, {"nonce": "ff"}],
    ids=["key", "boot", "challenge", "no-mac", "zero-mac", "nonce", "short-nonce"],
)  # fmt: skip
def test_a_hello_made_for_something_else_opens_nothing(gateway: Gateway, change: Any) -> None:
    with Spy(access_of(gateway)) as spy:
        spy.sock.sendall(frames.greeting(spy.hello(**change)))
        assert spy.refusal() == "not-authenticated"
        assert spy.is_cut()
    assert gateway.status()["rings"] == 0


def test_a_recorded_hello_is_good_for_no_other_connection(gateway: Gateway) -> None:
    access = access_of(gateway)
    with Spy(access) as first, Spy(access) as again:
        recorded = frames.greeting(first.hello())
        again.sock.sendall(recorded)
        assert again.refusal() == "not-authenticated"
        first.sock.sendall(recorded)
        assert socket.recv_fds(first.sock, 65536, 1)[1]


def test_the_key_of_one_lease_gets_no_ring_of_another(gateway: Gateway) -> None:
    mine, other = access_of(gateway), access_of(gateway)
    for lease, expected in ((other.manifest.lease, "not-authenticated"), ("lease_x", "not-found")):
        with Spy(mine) as spy:
            spy.sock.sendall(frames.greeting(spy.hello(lease=lease)))
            assert spy.refusal() == expected


def test_a_hello_of_another_version_or_form_is_cut(gateway: Gateway) -> None:
    with Spy(access_of(gateway)) as spy:
        spy.sock.sendall(frames.greeting(spy.hello(v="ring-v2")))
        assert spy.is_cut()
    with Spy(access_of(gateway)) as spy:
        good = frames.greeting(spy.hello())
        spy.sock.sendall(frames.frame(frames.HELLO, good[8:].replace(b'","', b'", "')))
        assert spy.is_cut()
    assert gateway.status()["rings"] == 0


@pytest.mark.parametrize(
    "said",
    [b"GET / HTTP/1.1\r\n\r\n", frames.frame(frames.GET, frames.WANTED.pack(0, 0, 0)),
     frames.HELLO + b"\xff\xff\xff\xff", b"\x00" * 100],
    ids=["http", "get", "endless", "zeros"],
)  # fmt: skip
def test_whoever_does_not_begin_with_a_hello_is_cut(gateway: Gateway, said: bytes) -> None:
    with Spy(access_of(gateway)) as spy:
        spy.sock.sendall(said)
        assert spy.is_cut()
    assert not gateway.control.intents


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can come as somebody else")
def test_another_account_gets_no_ring(gateway: Gateway) -> None:
    path = gateway.worker.ring
    path.parent.chmod(0o755)
    path.chmod(0o666)  # as if the file mode had not kept it out already
    code = """
        import os, socket, sys
        os.setgid(65534); os.setuid(65534)
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(sys.argv[1])
        print(sock.recv(4096))
    """
    said = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), path], capture_output=True, check=True
    ).stdout
    assert b"not-authenticated" in said
    assert frames.CHALLENGE not in said


def test_one_connection_asks_for_few_segments_ahead(large: Gateway) -> None:
    with Spy(access_of(large, LeaseRequest())) as spy:
        spy.begin()
        for _ in range(WANTED_MAX + 1):
            spy.get(1)
        assert spy.is_cut()


@pytest.mark.parametrize("slot", [0, 3, 8, 1 << 31])
def test_a_slot_that_was_not_handed_out_is_not_taken_back(gateway: Gateway, slot: int) -> None:
    with Spy(access_of(gateway)) as spy:
        spy.greet()
        spy.send(frames.CREDIT, slot)
        assert spy.is_cut()


def test_who_acknowledges_more_than_was_sent_is_cut(gateway: Gateway) -> None:
    with Spy(access_of(gateway)) as spy:
        spy.greet()
        spy.sock.sendall(frames.frame(frames.ACKNOWLEDGE, frames.RECEIVED.pack(1, 1)))
        assert spy.is_cut()
    assert not gateway.control.acknowledged


def is_full(spy: Spy) -> bool:
    spy.sock.sendall(frames.greeting(spy.hello()))
    return spy.refusal() == "unavailable"


def test_a_worker_has_memory_for_so_many_rings(gateway: Gateway) -> None:
    with contextlib.ExitStack() as stack:
        for number in range(RINGS_MAX):
            if number % RINGS_OF_A_LEASE_MAX == 0:
                access = access_of(gateway)
            stack.enter_context(Spy(access)).greet()
            if number == RINGS_OF_A_LEASE_MAX - 1:
                assert is_full(stack.enter_context(Spy(access)))
        assert is_full(stack.enter_context(Spy(access_of(gateway))))
        with stream_of(gateway) as stream:  # others are served all the same
            assert rows_of(list(stream)) == 1700
            assert stream.stats["delivery"] == "http"
    eventually(lambda: gateway.status()["rings"] == 0)


# -- the memory -------------------------------------------------------------------------

_TRIES = """
    import fcntl, mmap, os, sys
    given = int(sys.argv[1])
    opened = os.open(f"/proc/self/fd/{given}", os.O_RDWR)
    def tries():
        for fd in (given, opened):
            yield lambda: os.pwrite(fd, b"x", 0)
            yield lambda: os.ftruncate(fd, 4096)
            yield lambda: os.ftruncate(fd, 1 << 30)
            yield lambda: mmap.mmap(fd, 4096, mmap.MAP_SHARED, mmap.PROT_WRITE)
            yield lambda: fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
            yield lambda: os.posix_fallocate(fd, 0, 1 << 30)
    for attempt in tries():
        try:
            attempt()
        except OSError:
            continue
        raise SystemExit("it could write")
"""


def test_a_process_with_the_descriptor_can_neither_write_nor_cut_it(large: Gateway) -> None:
    with Spy(access_of(large, LeaseRequest())) as spy:
        spy.begin()
        assert spy.memory is not None
        before = bytes(spy.memory)
        assert any(before)
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(_TRIES), str(spy.descriptor)],
            pass_fds=[spy.descriptor],
            check=True,
        )
        assert bytes(spy.memory) == before


def test_no_byte_is_in_memory_before_its_intent_is_durable(large: Gateway) -> None:
    large.control.intent_seconds = 0.4
    with Spy(access_of(large, LeaseRequest())) as spy:
        spy.greet()
        spy.get(0)
        while not large.control.intents:
            assert spy.is_zero() or large.control.intents
        spy.expect(HEAD_MAGIC)


def test_slots_are_zero_once_they_were_given_back(large: Gateway) -> None:
    with Spy(access_of(large, LeaseRequest())) as spy:
        spy.begin()
        given = 0
        for slot in range(frames.SLOTS):
            spy.send(frames.CREDIT, slot)
        while given < 16:
            magic, payload = spy.receive()
            if magic == END_MAGIC:
                break
            slot, _ = frames.CHUNK_PLACE.unpack(payload)
            spy.send(frames.CREDIT, slot)
            given += 1
        eventually(spy.is_zero)
        assert large.status()["segments"] == 1


def test_what_was_opened_for_nobody_is_zeroed_when_the_client_stops(large: Gateway) -> None:
    """Only what the client was told of, and has not given back, is still there."""
    access = access_of(large, LeaseRequest())
    with Spy(access) as spy:
        spy.begin()
        handed = spy.content()
        for slot in range(3):
            spy.send(frames.CREDIT, slot)
        refilled = {frames.CHUNK_PLACE.unpack(spy.expect(frames.CHUNK))[0] for _ in range(3)}
        assert refilled == {0, 1, 2}
        spy.send(frames.CREDIT, 7)
        large.revoke(access.manifest.lease)
        with contextlib.suppress(EOFError):
            refilled.add(frames.CHUNK_PLACE.unpack(spy.expect(frames.CHUNK))[0])
        last = spy.content()[7 << 20 :]
        assert any(last) is (7 in refilled)
        assert spy.content()[3 << 20 : 7 << 20] == handed[3 << 20 : 7 << 20]


def test_a_client_that_says_that_it_lives_is_waited_for(large_data: Data) -> None:
    impatient = Worker(stall_seconds=0.6)
    large = Gateway(large_data, impatient)
    with Spy(access_of(large, LeaseRequest())) as spy:
        spy.begin()
        for _ in range(6):
            time.sleep(0.2)
            spy.sock.sendall(frames.frame(frames.ACKNOWLEDGE, frames.RECEIVED.pack(0, 0)))
        for slot in range(4):
            spy.send(frames.CREDIT, slot)
        for _ in range(4):
            spy.expect(frames.CHUNK)
    large.close()
    impatient.close()


def test_a_changed_page_leaves_nothing_in_memory(tmp_path: Path, worker: Worker) -> None:
    gateway = Gateway(direct_data(tmp_path, shard_rows=(128,), width=1024), worker)
    path = Path(gateway.control.data.source.shards[0].path)  # type: ignore[union-attr]
    sealed = bytearray(path.read_bytes())
    sealed[-100] ^= 1  # in the last of the pages that are opened together
    path.write_bytes(sealed)
    with Spy(access_of(gateway, LeaseRequest())) as spy:
        spy.greet()
        spy.get(0)
        assert spy.refusal() == "integrity"
        assert spy.is_zero()
    eventually(lambda: gateway.control.refusals)
    gateway.close()


def test_sixty_four_full_rings_take_less_than_a_gigabyte(large: Gateway) -> None:
    idle = resident_bytes(large.process.pid)
    with contextlib.ExitStack() as stack:
        for _ in range(64):
            stack.enter_context(Spy(access_of(large, LeaseRequest()))).begin()
        assert large.status()["streams"] == 64
        grown = resident_bytes(large.process.pid) - idle
        assert 48 * RING_BYTES <= grown <= 1 << 30
    eventually(lambda: resident_bytes(large.process.pid) - idle < 128 << 20)


# -- when it stops ----------------------------------------------------------------------


def test_revocation_stops_inside_a_segment_and_changes_nothing_that_was_handed_out(
    large: Gateway,
) -> None:
    access = access_of(large, LeaseRequest())
    with Spy(access) as spy:
        spy.begin()
        handed = spy.content()
        closed = large.revoke(access.manifest.lease)
        assert closed.streams == 1
        assert spy.content() == handed
        frames_then = large.status()["frames"]
        assert spy.is_cut()
        assert large.status()["frames"] == frames_then
    assert access.manifest.lease not in large.control.confirmed
    with Spy(access) as spy:
        spy.sock.sendall(frames.greeting(spy.hello()))
        assert spy.refusal() == "lease-revoked"


def test_a_ring_that_waits_ends_with_its_lease(gateway: Gateway) -> None:
    access = access_of(gateway)
    with Spy(access) as spy:
        spy.greet()
        assert gateway.revoke(access.manifest.lease).streams == 0
        assert spy.is_cut()


def test_a_policy_change_stops_a_client_that_gives_nothing_back(large: Gateway) -> None:
    def deny(_: str) -> int:
        raise PlanChanged("the rules changed")

    access = access_of(large, LeaseRequest())
    with Spy(access) as spy:
        spy.begin()
        large.raise_epoch(deny)
        assert spy.is_cut()
    with Spy(access) as spy:
        spy.sock.sendall(frames.greeting(spy.hello()))
        assert spy.refusal() == "plan-changed"


def test_a_silent_control_stops_a_client_that_gives_nothing_back(large: Gateway) -> None:
    with Spy(access_of(large, LeaseRequest())) as spy:
        spy.begin()
        large.fall_silent()
        assert spy.is_cut()


def test_an_expired_lease_says_so(gateway: Gateway) -> None:
    gateway.control.lease_seconds = -1
    access = access_of(gateway)
    eventually(lambda: gateway.status()["leases"] == 0)
    with Spy(access) as spy:
        spy.sock.sendall(frames.greeting(spy.hello()))
        assert spy.refusal() == "lease-expired"


def test_a_client_that_gives_nothing_back_or_says_nothing_is_dropped(large_data: Data) -> None:
    impatient = Worker(stall_seconds=0.5, hello_seconds=0.5)
    large = Gateway(large_data, impatient)
    access = access_of(large, LeaseRequest())
    with Spy(access) as silent, Spy(access) as stalled:
        stalled.begin()
        assert stalled.is_cut()
        assert silent.is_cut()
    assert large.status()["streams"] == large.status()["rings"] == 0
    assert access.manifest.lease not in large.control.confirmed
    impatient.close()


_HOLDS = """
    import sys, time
    from pathlib import Path
    from tests.delivery.spies import Spy
    from gateway.client.segments import Access
    from gateway.wire import codec
    from gateway.wire.leases import LeaseManifest
    manifest = codec.decode_reply(LeaseManifest, codec.loads(sys.argv[1]))
    spy = Spy(Access(manifest, "", bytes.fromhex(sys.stdin.readline()), sys.argv[2]))
    spy.begin()
    print("begun", flush=True)
    time.sleep(60)
"""


def test_a_client_killed_in_the_middle_leaves_nothing(large: Gateway) -> None:
    access = access_of(large, LeaseRequest())
    manifest = json.dumps(codec.encode(access.manifest))
    maps = Path(f"/proc/{large.process.pid}/maps")
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_HOLDS), manifest, str(access.ring)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(access.key.hex() + "\n")
        client.stdin.flush()
        assert client.stdout.readline() == "begun\n"
        assert "gateway-ring" in maps.read_text()
        client.send_signal(signal.SIGKILL)
    eventually(lambda: large.status()["rings"] == large.status()["streams"] == 0)
    eventually(lambda: "gateway-ring" not in maps.read_text())
    assert access.manifest.lease not in large.control.confirmed
