"""A little witness, written from c2sp.org/tlog-witness and c2sp.org/tlog-cosignature alone.

It shares no code with the gateway: notes, RFC 6962 proofs and signatures are its own.
"""

from __future__ import annotations

import base64
import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

Reply = tuple[int, str, bytes]


def digest(name: str, kind: int, key: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + key).digest()[:4]


@dataclass
class LittleWitness:
    """State: the largest LogCheckpoint per origin."""

    name: str = "witness.example/w1"
    logs: dict[str, bytes] = field(default_factory=dict)  # origin -> Ed25519 key
    seen: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    asked: list[int] = field(default_factory=list)  # statuses, in order
    broken: Reply | None = None  # what is answered instead
    stall_seconds: float = 0.0
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def public(self) -> bytes:
        return self.key.public_key().public_bytes_raw()

    @property
    def vkey(self) -> str:
        key = base64.b64encode(b"\x04" + self.public).decode()
        return f"{self.name}+{digest(self.name, 4, self.public).hex()}+{key}"

    def trust(self, vkey: str) -> None:
        name, _, encoded = vkey.strip().split("+", 2)
        self.logs[name] = base64.b64decode(encoded)[1:]

    def add_checkpoint(self, body: bytes) -> Reply:
        head, _, note = body.decode().partition("\n\n")
        first, *proof = head.split("\n")
        assert first.startswith("old ")
        assert len(proof) <= 63
        old = int(first.removeprefix("old "))
        text, _, signatures = note.rpartition("\n\n")
        text += "\n"
        origin, size, root = text.split("\n")[:3]
        if origin not in self.logs:
            return 404, "text/plain", b""
        if not self.is_signed(origin, text, signatures):
            return 403, "text/plain", b""
        if old > int(size):
            return 400, "text/plain", b""
        with self.lock:
            return self.judge(origin, text, (old, int(size), base64.b64decode(root)), proof)

    def judge(
        self, origin: str, text: str, stated: tuple[int, int, bytes], proof: list[str]
    ) -> Reply:
        old, size, root = stated
        last, known = self.seen.get(origin, (0, b""))
        if old != last:
            return 409, "text/x.tlog.size", f"{last}\n".encode()
        if size == last and root != known:
            return 409, "text/plain", b""
        hashes = [base64.b64decode(line) for line in proof]
        if (
            size != last
            and not (old == 0 and not hashes)
            and not grew(old, size, hashes, known, root)
        ):
            return 422, "text/plain", b""
        self.seen[origin] = (size, root)
        moment = int(time.time())
        signature = self.key.sign(f"cosignature/v1\ntime {moment}\n{text}".encode())
        blob = digest(self.name, 4, self.public) + moment.to_bytes(8, "big") + signature
        return 200, "text/plain", f"— {self.name} {base64.b64encode(blob).decode()}\n".encode()

    def is_signed(self, origin: str, text: str, signatures: str) -> bool:
        key = self.logs[origin]
        for line in signatures.splitlines():
            _, name, encoded = line.split(" ")
            blob = base64.b64decode(encoded)
            if name == origin and blob[:4] == digest(name, 1, key):
                try:
                    Ed25519PublicKey.from_public_bytes(key).verify(blob[4:], text.encode())
                except InvalidSignature:
                    return False
                return True
        return False


def grew(old: int, size: int, proof: list[bytes], old_root: bytes, root: bytes) -> bool:
    """RFC 6962 §2.1.2, by rebuilding both roots from the top down."""
    rest = list(proof)

    def both(first: int, last: int, *, is_whole: bool) -> tuple[bytes, bytes]:
        """Roots of the old and of the new tree over this subtree, of which `first` are old."""
        if first == last:
            if is_whole:
                return old_root, old_root
            found = rest.pop()
            return found, found
        half = 1 << ((last - 1).bit_length() - 1)
        right = rest.pop()
        if first <= half:
            older, newer = both(first, half, is_whole=is_whole)
            return older, hashlib.sha256(b"\1" + newer + right).digest()
        older, newer = both(first - half, last - half, is_whole=False)
        join = (hashlib.sha256(b"\1" + right + part).digest() for part in (older, newer))
        return next(join), next(join)

    try:
        return both(old, size, is_whole=True) == (old_root, root) and not rest
    except IndexError:
        return False


@contextmanager
def served(witness: LittleWitness) -> Iterator[str]:
    """The submission prefix of a witness that listens on this machine."""

    class Door(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(witness.stall_seconds)
            if self.path != "/w1/add-checkpoint":
                status, kind, said = 404, "text/plain", b""
            else:
                status, kind, said = witness.broken or witness.add_checkpoint(body)
            witness.asked.append(status)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(said)))
            if status == 302:
                self.send_header("Location", "/w1/add-checkpoint")
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = False  # nobody is left when a test ends

        def handle_error(self, *_: object) -> None:
            """Whoever asked did not wait for the answer."""

    server = Server(("127.0.0.1", 0), Door)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/w1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
