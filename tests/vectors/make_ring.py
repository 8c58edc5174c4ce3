"""Write the vectors of docs/formats/ring-v1.md; run from the repository root, once per version."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway.crypto.ring import Handshake
from gateway.wire import ring as frames
from gateway.wire.segments import END_MAGIC, HEAD_MAGIC, PREFIX

HERE = Path(__file__).parent / "ring-v1"
SHAKE = Handshake(
    key=bytes(range(32)),
    lease="lease_vector",
    boot="boot",
    challenge=b"\x01" * 32,
    nonce=b"\x02" * 32,
)
MEMORY = "1:4711"


def write(name: str, kind: str, **members: Any) -> None:
    (HERE / f"{name}.json").write_text(json.dumps({"kind": kind, **members}, indent=1) + "\n")


def hello(name: str, payload: bytes, shake: Handshake = SHAKE, **more: Any) -> None:
    write(name, "hello", payload=payload.decode(), **_shown(shake), **more)


def welcome(name: str, payload: bytes, memory: str = MEMORY, **more: Any) -> None:
    write(name, "welcome", payload=payload.decode(), memory=memory, **_shown(SHAKE), **more)


def stream(name: str, side: str, data: bytes, **more: Any) -> None:
    write(name, "stream", sender=side, bytes=data.hex(), **more)


def _shown(shake: Handshake) -> dict[str, str]:
    return {
        "key": shake.key.hex(),
        "lease": shake.lease,
        "boot": shake.boot,
        "challenge": shake.challenge.hex(),
        "nonce": shake.nonce.hex(),
    }


def main() -> None:
    HERE.mkdir(exist_ok=True)
    said = frames.Hello(
        v=frames.RING_FORMAT, lease=SHAKE.lease, nonce=SHAKE.nonce.hex(), mac=SHAKE.hello()
    )
    good = frames.greeting(said)[PREFIX.size :]
    hello("ok-hello", good)
    for what, change in {
        "lease": {"lease": "lease_victim"},
        "boot": {"boot": "boot-2"},
        "challenge": {"challenge": b"\x03" * 32},
        "nonce": {"nonce": b"\x03" * 32},
    }.items():
        hello(f"bad-hello-other-{what}", good, replace(SHAKE, **change), error="not-authenticated")  # type: ignore[arg-type]
    hello("bad-hello-version", good.replace(b"ring-v1", b"ring-v2"), error="integrity")
    hello("bad-hello-spaces", good.replace(b":", b": "), error="integrity")
    hello("bad-hello-member", good[:-1] + b',"x":1}', error="integrity")

    told = frames.Welcome(
        v=frames.RING_FORMAT,
        slots=frames.SLOTS,
        slot_bytes=1 << 20,
        memory=MEMORY,
        mac=SHAKE.welcome(frames.SLOTS, 1 << 20, MEMORY),
    )
    good = frames.greeting(told)[PREFIX.size :]
    welcome("ok-welcome", good)
    welcome("bad-welcome-other-memory", good, memory="1:4712", error="integrity")
    welcome("bad-welcome-slots", good.replace(b'"slots":8', b'"slots":9'), error="integrity")

    asked = frames.frame(frames.GET, frames.WANTED.pack(7, 3, 384))
    given = frames.frame(frames.CREDIT, frames.RETURNED.pack(5))
    done = frames.frame(frames.ACKNOWLEDGE, frames.RECEIVED.pack(4, 512))
    stream("ok-from-client", "client", asked + given + done, frames=[
        ["GWG1", "07" + "00" * 7 + "03" + "00" * 7 + "8001" + "00" * 6],
        ["GWK1", "05000000"], ["GWA1", "04" + "00" * 7 + "0002" + "00" * 6],
    ])  # fmt: skip
    chunk = frames.frame(frames.CHUNK, frames.CHUNK_PLACE.pack(5, 1 << 20))
    head, end = frames.frame(HEAD_MAGIC, b"{}"), frames.frame(END_MAGIC, b"{}")
    stream("ok-from-worker", "worker", head + chunk + end, frames=[
        ["GWS1", "7b7d"], ["GWC1", "0500000000001000"], ["GWE1", "7b7d"],
    ])  # fmt: skip
    stream("bad-stream-chunk-of-client", "client", chunk, error="integrity")
    stream("bad-stream-credit-of-worker", "worker", given, error="integrity")
    stream("bad-stream-short-credit", "client", given[:4] + b"\x03\x00\x00\x00abc",
           error="integrity")  # fmt: skip
    stream("bad-stream-endless-hello", "client", frames.HELLO + b"\xff" * 4, error="integrity")
    stream("bad-stream-unknown", "client", b"GWX1" + bytes(4), error="integrity")


if __name__ == "__main__":
    main()
