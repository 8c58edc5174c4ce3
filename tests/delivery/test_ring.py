"""A real data worker, attacked over its Unix socket, and the client over both deliveries."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import mmap
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.client.leases import LeaseTerms
from gateway.client.segments import Access
from gateway.client.stream import Stream, StreamOptions, open_stream
from gateway.crypto.ring import Handshake
from gateway.delivery.ring import RINGS_MAX, RINGS_OF_A_LEASE_MAX, WANTED_MAX
from gateway.errors import ConfigError, IntegrityError, LeaseRevoked, PlanChanged, StreamBroken
from gateway.process.confine import resident_bytes
from gateway.process.unix_socket import bind_private
from gateway.wire import codec
from gateway.wire import ring as frames
from gateway.wire.leases import LeaseManifest, LeaseRequest, OrderRequest
from gateway.wire.segments import END_MAGIC, HEAD_MAGIC
from tests.delivery.world import Data, Gateway, Worker, direct_data, view_data

SMALL = LeaseRequest(order=OrderRequest(window_blocks=2))
RING_BYTES = 8 << 20


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.close()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return direct_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def large_data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """Segments of 16 MiB: twice what a ring holds."""
    return direct_data(tmp_path_factory.mktemp("large"), shard_rows=(8192,), width=1024)


@pytest.fixture
def gateway(worker: Worker, data: Data) -> Iterator[Gateway]:
    gateway = Gateway(data, worker)
    yield gateway
    gateway.close()


@pytest.fixture
def large(worker: Worker, large_data: Data) -> Iterator[Gateway]:
    gateway = Gateway(large_data, worker)
    yield gateway
    gateway.close()


def access_of(gateway: Gateway, request: LeaseRequest = SMALL) -> Access:
    view = gateway.open(request)
    payload = json.loads(base64.b64decode(view["manifest"]["payload"]))
    manifest = codec.decode_reply(LeaseManifest, payload)
    return Access(manifest, view["data_url"], base64.b64decode(view["lease_key"]), view["ring"])


@dataclass
class Spy:
    """Somebody on the socket who does with frames and memory what a client would not."""

    access: Access
    sock: socket.socket = field(init=False)
    memory: mmap.mmap | None = None
    descriptor: int = -1

    def __post_init__(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(10)
        self.sock.connect(str(self.access.ring))
        self._incoming = frames.Incoming(frames.FROM_WORKER)
        self.challenge = self.expect(frames.CHALLENGE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()
        if self.descriptor >= 0:
            os.close(self.descriptor)

    def hello(self, **change: Any) -> frames.Hello:
        manifest = self.access.manifest
        nonce = os.urandom(32)
        shake = Handshake(
            key=self.access.key,
            lease=manifest.lease,
            boot=manifest.boot,
            challenge=self.challenge,
            nonce=nonce,
        )
        given = {"lease": manifest.lease, "nonce": nonce.hex()}
        named = {k: v for k, v in change.items() if k in ("key", "lease", "boot", "challenge")}
        mac = replace(shake, **named).hello()
        shown = {k: v for k, v in change.items() if k in ("lease", "nonce", "mac", "v")}
        return frames.Hello(**{"v": frames.RING_FORMAT, "mac": mac, **given, **shown})

    def greet(self) -> None:
        self.sock.sendall(frames.greeting(self.hello()))
        data, fds, _, _ = socket.recv_fds(self.sock, 65536, 1)
        self._incoming.feed(data)
        self.expect(frames.WELCOME)
        self.descriptor = fds[0]
        self.memory = mmap.mmap(self.descriptor, RING_BYTES, prot=mmap.PROT_READ)

    def send(self, magic: bytes, *numbers: int) -> None:
        form = {frames.GET: frames.WANTED, frames.CREDIT: frames.RETURNED}[magic]
        self.sock.sendall(frames.frame(magic, form.pack(*numbers)))

    def get(self, number: int) -> None:
        self.send(frames.GET, number, 0, 0)

    def receive(self) -> tuple[bytes, bytes]:
        while (frame := self._incoming.next()) is None:
            try:
                data = self.sock.recv(65536)
            except ConnectionError:
                data = b""
            if not data:
                raise EOFError
            self._incoming.feed(data)
        return frame

    def expect(self, magic: bytes) -> bytes:
        found, payload = self.receive()
        assert found == magic, payload
        return payload

    def refusal(self) -> str:
        return str(json.loads(self.expect(frames.REFUSAL))["code"])

    def is_cut(self) -> bool:
        with contextlib.suppress(EOFError):
            while True:
                self.receive()
        return True

    def begin(self, number: int = 0) -> None:
        """Ask for a large segment, and let it fill the ring."""
        self.greet()
        self.get(number)
        self.expect(HEAD_MAGIC)
        for _ in range(frames.SLOTS):
            self.expect(frames.CHUNK)

    def is_zero(self) -> bool:
        assert self.memory is not None
        return not np.frombuffer(self.memory, dtype=np.uint64).any()


def eventually(holds: Any, seconds: float = 15.0) -> None:
    """Sooner than STALL_SECONDS, which would end any transfer that waits for its client."""
    started = time.monotonic()
    while not holds():
        assert time.monotonic() - started < seconds, "it never came to hold"
        time.sleep(0.005)


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


def test_revocation_stops_inside_a_segment_and_zeroes_the_ring(large: Gateway) -> None:
    access = access_of(large, LeaseRequest())
    with Spy(access) as spy:
        spy.begin()
        closed = large.revoke(access.manifest.lease)
        assert closed.streams == 1
        assert spy.is_zero()
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
        assert spy.is_zero()
    with Spy(access) as spy:
        spy.sock.sendall(frames.greeting(spy.hello()))
        assert spy.refusal() == "plan-changed"


def test_a_silent_control_stops_a_client_that_gives_nothing_back(large: Gateway) -> None:
    with Spy(access_of(large, LeaseRequest())) as spy:
        spy.begin()
        large.fall_silent()
        assert spy.is_cut()
        assert spy.is_zero()


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
        assert stalled.is_zero()
        assert silent.is_cut()
    assert large.status()["streams"] == large.status()["rings"] == 0
    assert access.manifest.lease not in large.control.confirmed
    impatient.close()


_HOLDS = """
    import sys, time
    from pathlib import Path
    from tests.delivery.test_ring import Spy
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


# -- the client over both ---------------------------------------------------------------


def stream_of(gateway: Gateway, request: LeaseRequest | None = None, **options: Any) -> Stream:
    delivery, patience = options.pop("delivery", "auto"), options.pop("patience", 5.0)
    terms = LeaseTerms(patience_seconds=patience, delivery=delivery)
    given = {"batch_size": 50, "terms": terms, **options}
    return open_stream(gateway, request or LeaseRequest(), StreamOptions(**given))


def rows_of(batches: list[Any]) -> int:
    return sum(len(batch["id"]) for batch in batches)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Data]:
    """Data of every shape: small pages, a view, rows that are larger than a slot."""
    made = {name: tmp_path_factory.mktemp(name) for name in ("direct", "odd", "view", "wide")}
    return {
        "direct": direct_data(made["direct"], shard_rows=(500, 301)),
        "odd": direct_data(made["odd"], shard_rows=(97,), block_rows=7, width=3),
        "view": view_data(made["view"]),
        "wide": direct_data(made["wide"], shard_rows=(5,), block_rows=1, width=700_001),
    }


@settings(max_examples=20)
@given(
    kind=st.sampled_from(["direct", "odd", "view", "wide"]),
    shuffle=st.booleans(),
    seed=st.integers(0, 9),
    world=st.integers(1, 3),
    window_blocks=st.integers(1, 8),
    batch_size=st.integers(1, 200),
)
def test_both_deliveries_give_the_same_bytes(
    worker: Worker, kinds: dict[str, Data], kind: str, batch_size: int, **order: Any
) -> None:
    gateway = Gateway(kinds[kind], worker)
    request = LeaseRequest(order=OrderRequest(lanes=4, rank=order["world"] - 1, **order))
    got = {}
    for delivery in ("ring", "http"):
        with stream_of(gateway, request, delivery=delivery, batch_size=batch_size) as stream:
            got[delivery] = list(stream)
            assert stream.stats["delivery"] == delivery or not got[delivery]
    gateway.close()
    assert len(got["ring"]) == len(got["http"])
    for one, other in zip(got["ring"], got["http"], strict=True):
        assert one.keys() == other.keys()
        for name, column in one.items():
            np.testing.assert_array_equal(column, other[name])


def test_a_batch_that_is_kept_stays_as_it_was(large: Gateway) -> None:
    with stream_of(large, batch_size=512) as stream:
        kept = list(stream)
    for name, expected in large.control.data.expected.items():
        np.testing.assert_array_equal(np.concatenate([b[name] for b in kept]), expected)


def test_what_came_over_the_ring_is_confirmed_and_acknowledged(gateway: Gateway) -> None:
    with stream_of(gateway, SMALL, delivery="ring") as stream:
        lease = stream.manifest.lease
        list(stream)
    assert stream.stats | {"bytes": 0} == {
        "delivery": "ring", "reason": None, "segments": 14, "bytes": 0
    }  # fmt: skip
    assert sorted(gateway.control.confirmed[lease]) == list(range(14))
    assert gateway.control.acknowledged[-1] == (lease, 14, 1700)


@pytest.mark.parametrize("why", ["offers none", "No such file", "refused", "another account"])
def test_without_a_ring_segments_come_over_http_and_it_is_said_why(
    gateway: Gateway, why: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    gateway.ring = {
        "offers none": None,
        "No such file": str(tmp_path / "ring.sock"),
        "refused": str(tmp_path / "left.sock"),
        "another account": str(tmp_path),
    }[why]
    left = bind_private(tmp_path, "left.sock")
    assert left is not None
    left.close()
    with caplog.at_level(logging.INFO, "gateway.client"), stream_of(gateway, SMALL) as stream:
        assert rows_of(list(stream)) == 1700
        assert stream.stats["delivery"] == "http"
        assert why in stream.stats["reason"]
    assert len(caplog.messages) == 1
    with pytest.raises(StreamBroken, match=why) as stop:
        next(stream_of(gateway, delivery="ring"))
    assert stop.value.facts["cause_code"] == ConfigError.code


def test_a_socket_of_another_gateway_at_the_same_path_is_passed_by(
    gateway: Gateway, data: Data
) -> None:
    other = Worker()
    Gateway(data, other)
    gateway.ring = str(other.ring)
    with stream_of(gateway, SMALL) as stream:
        assert rows_of(list(stream)) == 1700
        assert "no such lease is open here" in stream.stats["reason"]
    assert len(gateway.control.opened) == 1
    other.close()


def test_whoever_wants_http_gets_no_ring(gateway: Gateway) -> None:
    with stream_of(gateway, SMALL, delivery="http", prefetch_segments=1) as stream:
        next(stream)
        assert gateway.status()["rings"] == 0
    with pytest.raises(ConfigError, match="pigeon"):
        stream_of(gateway, delivery="pigeon")


@pytest.mark.parametrize("delivery", ["auto", "ring"])
def test_a_worker_killed_in_the_middle_is_a_pause_on_the_ring(
    gateway: Gateway, delivery: str
) -> None:
    with stream_of(gateway, SMALL, prefetch_segments=1, patience=20, delivery=delivery) as stream:
        got = [next(stream)]
        gateway.kill()
        threading.Timer(0.3, gateway.start).start()
        got += list(stream)
        assert stream.stats["delivery"] == "ring"
    np.testing.assert_array_equal(np.concatenate([b["id"] for b in got]), np.arange(1700))


def test_a_lease_goes_on_over_http_where_the_next_worker_has_no_ring(gateway: Gateway) -> None:
    with stream_of(gateway, SMALL, prefetch_segments=1, patience=20) as stream:
        got = [next(stream)]
        gateway.kill()
        gateway.ring = None
        gateway.start()
        got += list(stream)
        assert stream.stats["delivery"] == "http"
    np.testing.assert_array_equal(np.concatenate([b["id"] for b in got]), np.arange(1700))


def test_a_revoked_stream_ends_with_its_reason(gateway: Gateway) -> None:
    stream = stream_of(gateway, SMALL, delivery="ring", prefetch_segments=1)
    next(stream)
    gateway.revoke(stream.manifest.lease)
    with pytest.raises(LeaseRevoked) as stop:
        list(stream)
    assert stop.value.position is not None


# -- a worker that lies -----------------------------------------------------------------


class Liar:
    """A worker that has the key of the lease, and one thing to hide."""

    def __init__(self, access: Access, lie: str, directory: Path) -> None:
        self._access, self._lie = access, lie
        self._real = Spy(access)
        listening = bind_private(directory, "liar.sock")
        assert listening is not None
        self._listening = listening
        self.path = str(directory / "liar.sock")
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with self._listening:
            for _ in range(8):  # a stream tries bytes that do not verify again, and cuts more often
                client, _ = self._listening.accept()
                with contextlib.suppress(OSError, EOFError), client, self._real:
                    self._relay(client)
                self._real = Spy(self._access)
            self._real.sock.close()

    def _relay(self, client: socket.socket) -> None:
        client.sendall(frames.frame(frames.CHALLENGE, self._real.challenge))
        hello = client.recv(65536)
        self._real.sock.sendall(hello)
        data, fds, _, _ = socket.recv_fds(self._real.sock, 65536, 1)
        memory = self._own_memory() if self._lie in ("memory", "unsealed") else fds[0]
        if self._lie == "unsealed":
            data = self._welcome(memory, hello)
        socket.send_fds(client, [data], [memory])
        threading.Thread(target=self._pump, args=(client, self._real), daemon=True).start()
        while True:
            client.sendall(self._changed(*self._real.receive()))

    def _pump(self, client: socket.socket, real: Spy) -> None:
        incoming = frames.Incoming(frames.FROM_CLIENT)
        with contextlib.suppress(OSError):
            while said := client.recv(65536):
                incoming.feed(said)
                while (frame := incoming.next()) is not None:
                    real.sock.sendall(frames.frame(frame[0], self._undone(*frame)))
        with contextlib.suppress(OSError):  # the client left: so does its other side
            real.sock.shutdown(socket.SHUT_RDWR)

    def _undone(self, magic: bytes, payload: bytes) -> bytes:
        """Give back the slot that was handed out, so that the worker notices nothing."""
        if self._lie == "slot" and magic == frames.CREDIT:
            return frames.RETURNED.pack((frames.RETURNED.unpack(payload)[0] - 1) % frames.SLOTS)
        return payload

    @staticmethod
    def _own_memory() -> int:
        fd = os.memfd_create("liar")
        os.ftruncate(fd, RING_BYTES)
        return fd

    def _welcome(self, memory: int, hello: bytes) -> bytes:
        """What a worker would say that makes its memory carelessly."""
        said = frames.read_greeting(frames.Hello, hello[8:])
        shake = Handshake(
            key=self._access.key,
            lease=said.lease,
            boot=self._access.manifest.boot,
            challenge=self._real.challenge,
            nonce=bytes.fromhex(said.nonce),
        )
        facts = os.fstat(memory)
        name = f"{facts.st_dev}:{facts.st_ino}"
        mac = shake.welcome(frames.SLOTS, 1 << 20, name)
        return frames.greeting(
            frames.Welcome(
                v=frames.RING_FORMAT, slots=frames.SLOTS, slot_bytes=1 << 20, memory=name, mac=mac
            )
        )

    def _changed(self, magic: bytes, payload: bytes) -> bytes:
        if self._lie == "slot" and magic == frames.CHUNK:
            slot, size = frames.CHUNK_PLACE.unpack(payload)
            payload = frames.CHUNK_PLACE.pack((slot + 1) % frames.SLOTS, size)
        if self._lie == "beyond" and magic == frames.CHUNK:
            payload = frames.CHUNK_PLACE.pack(1 << 20, frames.CHUNK_PLACE.unpack(payload)[1])
        if self._lie == "size" and magic == frames.CHUNK:
            slot, size = frames.CHUNK_PLACE.unpack(payload)
            payload = frames.CHUNK_PLACE.pack(slot, size - 8)
        if self._lie == "seals" and magic == END_MAGIC:
            end = json.loads(payload)
            end["seals"] = end["seals"][:-1] + ("0" if end["seals"][-1] != "0" else "1")
            payload = json.dumps(end, sort_keys=True, separators=(",", ":")).encode()
        if self._lie == "head" and magic == HEAD_MAGIC:
            payload = payload.replace(b'"rows":128', b'"rows":127')
        if self._lie == "order" and magic == HEAD_MAGIC:
            magic = END_MAGIC
        return frames.frame(magic, payload)


@pytest.mark.parametrize("lie", ["slot", "beyond", "size", "seals", "head", "order"])
def test_frames_that_were_changed_on_the_way_end_the_stream(
    gateway: Gateway, lie: str, tmp_path: Path
) -> None:
    stream = stream_of(gateway, SMALL, delivery="ring")
    access = stream._lease.access
    stream._lease.access = replace(access, ring=Liar(access, lie, tmp_path).path)
    with pytest.raises(StreamBroken) as stop:
        next(stream)
    assert stop.value.facts["cause_code"] == IntegrityError.code, stop.value.message
    stream.close()


@pytest.mark.parametrize(
    ("lie", "why"), [("memory", "not that of the worker"), ("unsealed", "is not sealed")]
)
def test_memory_that_others_could_write_is_not_used(
    gateway: Gateway, tmp_path: Path, lie: str, why: str
) -> None:
    stream = stream_of(gateway, SMALL)
    access = stream._lease.access
    stream._lease.access = replace(access, ring=Liar(access, lie, tmp_path).path)
    with stream:
        assert rows_of(list(stream)) == 1700
        assert stream.stats["delivery"] == "http"
        assert why in stream.stats["reason"]
