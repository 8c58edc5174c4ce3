"""Write the vectors of docs/formats/segment-v1.md; run from the repository root, once per version.

Seals are random, so running it again gives other bytes that are as good.
"""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from gateway.delivery.body import SegmentBody, keyed_seal
from gateway.delivery.sources import Piece
from gateway.delivery.spec import DirectSource, LeaseSpec, ViewSource
from gateway.domain.lease import OrderSpec
from gateway.domain.order import Segment
from gateway.wire import codec
from gateway.wire.leases import LEASE_MANIFEST_FORMAT, LeaseColumn, LeaseManifest, OrderRequest
from gateway.wire.segments import ALIGNMENT

HERE = Path(__file__).parent / "segment-v1"
KEY = bytes(range(32))
SCHEMA = pa.schema([("n", pa.int32()), ("text", pa.string())])


class Memory:
    """Parts that lie in memory, one piece each."""

    def __init__(self, parts: list[bytes]) -> None:
        self._parts = parts

    def parts(self, segment: Segment) -> list[list[Piece]]:
        found = []
        for index, part in enumerate(self._parts):
            padding = -len(part) % ALIGNMENT
            pieces = (Piece(len(part), index, 0), Piece(padding, -1, 0))
            found.append([piece for piece in pieces if piece.size])
        return found

    def open(self, piece: Piece, out: memoryview) -> None:
        out[:] = self._parts[piece.block]


def made(kind: str, parts: list[bytes], rows: int, columns: tuple[LeaseColumn, ...]) -> Any:
    spec = LeaseSpec(
        lease="lease_vector",
        key=KEY,
        boot="boot",
        plan_digest="ab" * 32,
        policy_epoch=1,
        expires_at=0,
        order=OrderSpec(),
        order_key=KEY,
        source=DirectSource(columns=(), shards=())
        if kind == "direct"
        else ViewSource(view="view_1", path="", key=KEY, frames=()),
    )
    manifest = LeaseManifest(
        format=LEASE_MANIFEST_FORMAT,
        lease=spec.lease,
        dataset="clinic/icu@1",
        split=None,
        kind=kind,
        plan_digest=spec.plan_digest,
        columns=columns,
        schema=base64.b64encode(SCHEMA.serialize()).decode() if kind == "view" else None,
        rows=rows,
        lanes=((rows,),),
        order=OrderRequest(lanes=1),
        order_id="0" * 16,
        window_key="",
        boot="boot",
    )
    segment = Segment(number=0, lane=0, first_row=0, rows=rows, bytes=0, blocks=(0,))
    body = SegmentBody(spec, segment, Memory(parts), final=True)
    buffer = memoryview(bytearray(1 << 20))
    frames = body.frames("receipt-0", lambda: buffer, keyed_seal)
    return manifest, b"".join(bytes(frame) for frame in frames)


def write(name: str, manifest: LeaseManifest, data: bytes, **more: Any) -> None:
    value = {
        "key": KEY.hex(),
        "number": 0,
        "manifest": codec.encode(manifest),
        "segment": base64.b64encode(data).decode(),
        **more,
    }
    (HERE / f"{name}.json").write_text(json.dumps(value, indent=1) + "\n")


def main() -> None:
    HERE.mkdir(exist_ok=True)
    numbers, pairs = np.arange(5, dtype="<i8"), np.arange(10, dtype="<f4").reshape(5, 2)
    columns = (
        LeaseColumn(name="n", arrow="int64", dtype="<i8"),
        LeaseColumn(name="pair", arrow="fixed_size_list<float>[2]", dtype="<f4", shape=(2,)),
    )
    manifest, data = made("direct", [numbers.tobytes(), pairs.tobytes()], 5, columns)
    expected = {"n": numbers.tolist(), "pair": pairs.tolist()}
    write("ok-direct", manifest, data, columns=expected)
    batch = pa.record_batch([[1, None], ["a", "ß"]], schema=SCHEMA)
    view, view_data = made(
        "view", [batch.serialize().to_pybytes()], 2,
        tuple(LeaseColumn(name=f.name, arrow=str(f.type)) for f in SCHEMA),
    )  # fmt: skip
    write("ok-view", view, view_data, columns=batch.to_pydict())
    empty, empty_data = made("direct", [b""], 0, columns[:1])
    write("ok-empty", empty, empty_data, columns={"n": []})
    end = data.rindex(b"GWE1")
    body = len(data) - (len(data) - end) - 40
    mac = data.index(b'"mac":"') + 7
    bad = {
        "flipped-body": data[:body] + bytes([data[body] ^ 1]) + data[body + 1 :],
        "cut-end": data[:end],
        "cut-body": data[: end - 64],
        "added": data + b" ",
        "other-mac": data[:mac] + b"0" * 64 + data[mac + 64 :],
        "not-final": data.replace(b'"final":true', b'"final":null'),
        "other-lease": data.replace(b"lease_vector", b"lease_victim"),
        "other-magic": b"GWS0" + data[4:],
        "other-version": data.replace(b"segment-v1", b"segment-v0"),
    }
    for name, changed in bad.items():
        write(f"bad-integrity-{name}", manifest, changed, error="integrity")
    write("bad-integrity-rows", replace(manifest, lanes=((6,),), rows=6), data, error="integrity")
    write("bad-integrity-plan", replace(manifest, plan_digest="cd" * 32), data, error="integrity")


if __name__ == "__main__":
    main()
