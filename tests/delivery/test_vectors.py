"""The vectors of order-v0, segment-v1 and ring-v1: what must be read, what must be refused."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.client.batches import Batches, Opener, Part
from gateway.client.segments import Access, verify
from gateway.crypto.ring import Handshake
from gateway.domain.lease import OrderSpec
from gateway.domain.order import (
    Deal,
    GlobalOrder,
    Segment,
    lay_out,
    order_id,
    permutation,
    window_key,
)
from gateway.domain.position import StreamPosition
from gateway.errors import GatewayError
from gateway.wire import codec
from gateway.wire import ring as frames
from gateway.wire.leases import LeaseManifest

VECTORS = Path(__file__).parent.parent / "vectors"


def files(form: str) -> list[Path]:
    return sorted((VECTORS / form).glob("*.json"))


def name(path: Path) -> str:
    return path.stem


def expect(path: Path, check: Any) -> None:
    value = json.loads(path.read_text())
    error = value.pop("error", None)
    assert (error is not None) == path.name.startswith("bad-")
    if error is None:
        check(value)
        return
    with pytest.raises(GatewayError) as refused:
        check(value)
    assert refused.value.code == error


def test_there_are_enough_of_each() -> None:
    for form in ("order-v0", "segment-v1", "ring-v1"):
        names = [path.name for path in files(form)]
        assert sum(n.startswith("ok-") for n in names) >= 3
        assert sum(n.startswith("bad-") for n in names) >= 5


@pytest.mark.parametrize("path", files("order-v0"), ids=name)
def test_orders(path: Path) -> None:
    expect(path, lambda value: ORDERS[value["kind"]](value))


def _permutation(value: dict[str, Any]) -> None:
    found = permutation(bytes.fromhex(value["key"]), value["label"], value["count"])
    assert found.tolist() == value["permutation"]


def _keys(value: dict[str, Any]) -> None:
    key = bytes.fromhex(value["order_key"])
    found = order_id(key, OrderSpec(**value["spec"]))
    assert (window_key(key).hex(), found) == (value["window_key"], value["order_id"])


def _segments(value: dict[str, Any]) -> None:
    found = lay_out(
        bytes.fromhex(value["order_key"]),
        OrderSpec(**value["spec"]),
        value["rows"],
        value["sizes"],
    )
    assert found == tuple(
        Segment(**{**segment, "blocks": tuple(segment["blocks"])}) for segment in value["segments"]
    )


def _batches(value: dict[str, Any]) -> None:
    order, world = GlobalOrder(value["lane_rows"]), value["world"]
    deals = [
        Deal(rank=r, world=world, batch_rows=value["batch_rows"], uneven=value["uneven"])
        for r in range(world)
    ]
    assert order.batches(0, deals[0]) == len(value["steps"])
    order.batch(0, deals[0])
    for number, step in enumerate(value["steps"]):
        for deal, expected in zip(deals, step, strict=True):
            found = order.batch(number * deal.step_rows, deal)
            assert [[s.lane, s.start, s.count] for s in found] == expected


def _position(value: dict[str, Any]) -> None:
    position = StreamPosition.from_dict(value["position"])
    position.require(value["order"], value["order_rows"])
    assert position.to_dict() == value["position"]


ORDERS = {
    "permutation": _permutation,
    "keys": _keys,
    "segments": _segments,
    "batches": _batches,
    "position": _position,
}


@pytest.mark.parametrize("path", files("segment-v1"), ids=name)
def test_segments(path: Path) -> None:
    expect(path, _segment)


def _segment(value: dict[str, Any]) -> None:
    manifest = codec.decode(LeaseManifest, value["manifest"])
    access = Access(manifest, "", bytes.fromhex(value["key"]))
    segment = verify(memoryview(base64.b64decode(value["segment"])), value["number"], access)
    part = Part(Opener(manifest).open(segment), 0, segment.head.rows)
    batch = Batches.of_lease(manifest, is_arrow=True).make([part], part.count)
    assert batch.to_pydict() == value["columns"]
    if manifest.kind == "direct":
        arrays = Batches.of_lease(manifest, is_arrow=False).make([part], part.count)
        assert {k: v.tolist() for k, v in arrays.items()} == value["columns"]


@pytest.mark.parametrize("path", files("ring-v1"), ids=name)
def test_rings(path: Path) -> None:
    expect(path, lambda value: RINGS[value["kind"]](value))


def _handshake(value: dict[str, Any]) -> Handshake:
    shown = {name: bytes.fromhex(value[name]) for name in ("key", "challenge", "nonce")}
    return Handshake(lease=value["lease"], boot=value["boot"], **shown)


def _hello(value: dict[str, Any]) -> None:
    hello = frames.read_greeting(frames.Hello, value["payload"].encode())
    shake = _handshake(value)
    shake.check_hello(hello.mac)
    assert (hello.lease, hello.nonce) == (shake.lease, shake.nonce.hex())


def _welcome(value: dict[str, Any]) -> None:
    told = frames.read_greeting(frames.Welcome, value["payload"].encode())
    _handshake(value).check_welcome(told.mac, told.slots, told.slot_bytes, value["memory"])


def _stream(value: dict[str, Any]) -> None:
    sides = {"client": frames.FROM_CLIENT, "worker": frames.FROM_WORKER}
    incoming = frames.Incoming(sides[value["sender"]])
    found = []
    for byte in bytes.fromhex(value["bytes"]):  # however it is cut on the way
        incoming.feed(bytes((byte,)))
        while (frame := incoming.next()) is not None:
            found.append([frame[0].decode(), frame[1].hex()])
    assert found == value["frames"]


RINGS = {"hello": _hello, "welcome": _welcome, "stream": _stream}
