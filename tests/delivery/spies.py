"""Whoever stands at the socket of a ring: a client, a spy on it, a worker that lies."""

from __future__ import annotations

import base64
import contextlib
import json
import mmap
import os
import socket
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from gateway.client.leases import LeaseTerms
from gateway.client.segments import Access
from gateway.client.stream import Stream, StreamOptions, open_stream
from gateway.crypto.ring import Handshake
from gateway.process.unix_socket import bind_private
from gateway.wire import codec
from gateway.wire import ring as frames
from gateway.wire.leases import LeaseManifest, LeaseRequest, OrderRequest
from gateway.wire.segments import END_MAGIC, HEAD_MAGIC
from tests.delivery.world import Gateway

SMALL = LeaseRequest(order=OrderRequest(window_blocks=2))
RING_BYTES = 8 << 20


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

    def content(self) -> bytes:
        assert self.memory is not None
        return bytes(self.memory)

    def is_zero(self) -> bool:
        assert self.memory is not None
        return not np.frombuffer(self.memory, dtype=np.uint64).any()


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
        if self._lie == "last" and magic == END_MAGIC and b'"final":true' in payload:
            payload = payload.replace(b'"receipt":"receipt', b'"receipt":"another')
        if self._lie == "head" and magic == HEAD_MAGIC:
            payload = payload.replace(b'"rows":128', b'"rows":127')
        if self._lie == "order" and magic == HEAD_MAGIC:
            magic = END_MAGIC
        return frames.frame(magic, payload)


def stream_of(gateway: Gateway, request: LeaseRequest | None = None, **options: Any) -> Stream:
    delivery, patience = options.pop("delivery", "auto"), options.pop("patience", 5.0)
    terms = LeaseTerms(patience_seconds=patience, delivery=delivery)
    given = {"batch_size": 50, "terms": terms, **options}
    return open_stream(gateway, request or LeaseRequest(), StreamOptions(**given))


def rows_of(batches: list[Any]) -> int:
    return sum(len(batch["id"]) for batch in batches)


def eventually(holds: Any, seconds: float = 15.0) -> None:
    """Sooner than STALL_SECONDS, which would end any transfer that waits for its client."""
    started = time.monotonic()
    while not holds():
        assert time.monotonic() - started < seconds, "it never came to hold"
        time.sleep(0.005)
