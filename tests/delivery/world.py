"""A small world for delivery: sealed shards and views on disk, a real worker process, and a
simulator of control that opens leases, records intents and judges again.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.crypto import tokens
from gateway.crypto.pages import ModuleType, module_aad, seal_frame
from gateway.crypto.signing import Signer, sign_document
from gateway.delivery.geometry import manifest_of, segments_of
from gateway.delivery.link import Closed, WorkerLink
from gateway.delivery.spec import (
    DirectColumn,
    DirectShard,
    DirectSource,
    LeaseSpec,
    ViewSource,
)
from gateway.domain.block_table import BlockTable, TableColumn
from gateway.domain.lease import OrderSpec
from gateway.domain.position import StreamPosition
from gateway.errors import LeaseRevoked, NotFound, Unavailable
from gateway.process import status_page
from gateway.process.spawn import Confinement, Launch
from gateway.process.spawn import start as start_process
from gateway.process.unix_socket import bind_private
from gateway.wire import codec
from gateway.wire.leases import LeaseColumn, LeaseRequest

T = TypeVar("T")
PLAN = "ab" * 32
ORDER_SECRET = b"\x07" * 32


@dataclass
class Data:
    """A dataset as its lease sees it, and the plaintext to compare with."""

    source: DirectSource | ViewSource
    columns: tuple[LeaseColumn, ...]
    expected: dict[str, np.ndarray]
    schema: bytes | None = None

    @property
    def rows(self) -> int:
        return len(next(iter(self.expected.values())))


def direct_data(
    directory: Path,
    *,
    shard_rows: Sequence[int] = (1000, 700),
    block_rows: int = 64,
    width: int = 16,
) -> Data:
    """Shards with an int64 `id` and an int32 vector `tokens`, sealed as PME seals data pages."""
    shards, ids, tokens, first = [], [], [], 0
    for rows in shard_rows:
        mine = {
            1: np.arange(first, first + rows, dtype="<i8"),
            2: np.random.default_rng(first).integers(0, 1 << 30, (rows, width), dtype="<i4"),
        }
        shards.append(_shard(directory, mine, block_rows))
        ids.append(mine[1])
        tokens.append(mine[2])
        first += rows
    return Data(
        source=DirectSource(
            columns=(
                DirectColumn(field_id=1, name="id", width=8),
                DirectColumn(field_id=2, name="tokens", width=4 * width),
            ),
            shards=tuple(shards),
        ),
        columns=(
            LeaseColumn(name="id", arrow="int64", dtype="<i8"),
            LeaseColumn(
                name="tokens",
                arrow=f"fixed_size_list<int32>[{width}]",
                dtype="<i4",
                shape=(width,),
            ),
        ),
        expected={"id": np.concatenate(ids), "tokens": np.concatenate(tokens)},
    )


def _shard(directory: Path, columns: dict[int, np.ndarray], block_rows: int) -> DirectShard:
    rows = len(columns[1])
    unique = os.urandom(8)
    deks = {field_id: os.urandom(32) for field_id in columns}
    count = -(-rows // block_rows)
    spans = [(b * block_rows, min(rows, (b + 1) * block_rows)) for b in range(count)]
    parts, offset, places = [b"PARE"], 4, []
    for ordinal, (field_id, values) in enumerate(columns.items()):
        cipher, mine = AESGCM(deks[field_id]), []
        for page, (start, stop) in enumerate(spans):
            nonce = os.urandom(12)
            aad = module_aad(unique, ModuleType.DATA_PAGE, 0, ordinal, page)
            sealed = nonce + cipher.encrypt(nonce, values[start:stop].tobytes(), aad)
            parts.append(len(sealed).to_bytes(4, "little") + sealed)
            mine.append((offset, len(sealed) + 4))
            offset += len(sealed) + 4
        places.append(tuple(mine))
    table = BlockTable(
        rows=rows,
        block_rows=block_rows,
        columns=tuple(
            TableColumn(field_id=f, width=v.nbytes // rows, ordinal=o)
            for o, (f, v) in enumerate(columns.items())
        ),
        blocks=tuple((0, b, stop - start) for b, (start, stop) in enumerate(spans)),
        places=tuple(places),
    ).to_bytes()
    path = directory / f"{secrets.token_hex(8)}.parquet"
    path.write_bytes(b"".join(parts))
    return DirectShard(
        path=str(path),
        file_bytes=offset,
        table=table,
        table_sha256=hashlib.sha256(table).hexdigest(),
        aad_file_unique=unique.hex(),
        deks=deks,
    )


def view_data(
    directory: Path,
    *,
    rows: int = 900,
    block_rows: int = 100,
    name: Callable[[int], str] = "name-{}".format,
) -> Data:
    """A view with a text and a nullable float column."""
    ids = np.arange(rows, dtype="<i8")
    names = np.array([name(i) for i in range(rows)], dtype=object)
    texts = pa.array(names.tolist(), pa.string())
    numbers = pa.array([None, 1.5] * (rows // 2), pa.float64())
    whole = pa.record_batch({"id": ids, "name": texts, "x": numbers})
    schema = whole.schema.serialize().to_pybytes()
    key, path, frames, offset = os.urandom(32), directory / "view", [], 0
    count = -(-rows // block_rows)
    with path.open("wb") as file:
        for number in range(count):
            batch = whole.slice(number * block_rows, block_rows)
            message = batch.serialize().to_pybytes()
            frame = seal_frame(
                key, message, view="view_1", plan_digest=PLAN, number=number, count=count
            )
            file.write(frame)
            frames.append((offset, len(frame), batch.num_rows))
            offset += len(frame)
    return Data(
        source=ViewSource(
            view="view_1", path=str(path), key=key, frames=tuple(frames), schema=schema
        ),
        columns=tuple(LeaseColumn(name=f.name, arrow=str(f.type)) for f in whole.schema),
        expected={"id": ids, "name": names},
        schema=schema,
    )


@dataclass
class Control:
    """A simulator of the control process: it answers a worker and the client's transport.

    Intents are recorded before they are answered, after `intent_seconds` (the fsync).
    """

    data: Data
    intent_seconds: float = 0.0
    lease_seconds: float = 600.0
    verdict: Callable[[str], int] | None = None  # what judging again says; None = still allowed
    policy_epoch: int = 1
    boot: str = "boot-1"
    intents: list[tuple[str, int, int, int, int]] = field(default_factory=list)
    confirmed: dict[str, list[int]] = field(default_factory=dict)
    acknowledged: list[tuple[str, int, int]] = field(default_factory=list)
    refusals: list[tuple[str, int, str]] = field(default_factory=list)
    workers_gone: list[int] = field(default_factory=list)
    opened: list[LeaseRequest] = field(default_factory=list)
    renewed: int = 0

    async def intent(
        self, lease: str, first: int, last: int, rows: int, size: int
    ) -> Sequence[str]:
        await asyncio.sleep(self.intent_seconds)
        self.intents.append((lease, first, last, rows, size))
        return [f"receipt-{n}" for n in range(first, last + 1)]

    async def confirm(self, lease: str, segments: Sequence[int], rows: int, size: int) -> None:
        self.confirmed.setdefault(lease, []).extend(segments)

    async def acknowledge(self, lease: str, segments: int, rows: int) -> None:
        self.acknowledged.append((lease, segments, rows))

    async def rejudge(self, lease: str) -> int:
        return self.policy_epoch if self.verdict is None else self.verdict(lease)

    async def refused(self, lease: str, segment: int, error: str) -> None:
        self.refusals.append((lease, segment, error))

    async def gone(self, worker: int) -> None:
        self.workers_gone.append(worker)


class Worker:
    """A running worker process and control's end of it, for one test after the other."""

    def __init__(self, module: str = "gateway.delivery.worker", **options: Any) -> None:
        self._module, self._options = module, options
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port = 0
        self.ring = Path(tempfile.mkdtemp(prefix="ring-")) / "ring.sock"
        self.is_up = False

    def start(self, control: Control) -> None:
        """Start the process, on the port it had before if there was one."""
        listening = socket.create_server(("127.0.0.1", self.port))
        self.port = listening.getsockname()[1]
        page = status_page.create()
        self.status = status_page.StatusWriter(page)
        self.status.set_policy_epoch(control.policy_epoch)
        self.status.start_heart()
        self.is_beating = True
        ours, theirs = socket.socketpair()
        ring = bind_private(self.ring.parent, self.ring.name)
        assert ring is not None
        launch = Launch(
            module=self._module,
            confinement=Confinement(network=True, sandboxed=False, open_files_max=4096),
            options={"worker": 3, **self._options},
            descriptors={"listen": listening.fileno(), "status": page, "ring": ring.fileno()},
        )
        self.process = start_process(launch, channel=theirs)
        theirs.close()
        listening.close()
        ring.close()
        os.close(page)
        self.link = self.run(WorkerLink.over(ours, 3, control))
        self.is_up = True

    def serve(self, control: Control) -> None:
        """Be a worker as new for `control`: the one that runs if nothing was done to it."""
        if self.is_up and self.is_beating and self.link.is_alive and self.process.poll() is None:
            self.link._keeper = control
            self.status.set_policy_epoch(control.policy_epoch)
            return
        self.stop()
        self.start(control)

    def run(self, work: Awaitable[T]) -> T:
        async def wrapped() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(wrapped(), self._loop).result(30)

    def stop(self) -> None:
        if self.is_up:
            self.is_up = False
            self.run(self.link.stop())
            self.process.wait(10)
            self.status.stop_heart()

    def close(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        shutil.rmtree(self.ring.parent)


class Gateway:
    """A worker with a control of its own; usable from tests and as a client's Transport."""

    def __init__(self, data: Data, worker: Worker) -> None:
        self.control = Control(data)
        self.worker = worker
        self.worker.serve(self.control)
        self.specs: dict[str, LeaseSpec] = {}
        self.port = worker.port  # what leases name as their data_url
        self.ring: str | None = str(worker.ring)  # and as their ring
        self.signer = Signer(secrets.token_bytes(32), "view")
        self.is_closed = False
        self._before = self.run(self.link.status())

    @property
    def link(self) -> WorkerLink:
        return self.worker.link

    @property
    def process(self) -> subprocess.Popen[bytes]:
        return self.worker.process

    def run(self, work: Awaitable[T]) -> T:
        return self.worker.run(work)

    def status(self) -> dict[str, Any]:
        """Leases and streams now; frames, segments, bytes since this gateway began."""
        now = self.run(self.link.status())
        return now | {key: now[key] - self._before[key] for key in ("frames", "segments", "bytes")}

    def start(self) -> None:
        """The parent puts a new worker in the place of the dead one."""
        self.worker.start(self.control)
        self.specs, self._before = {}, self.run(self.link.status())

    def kill(self) -> None:
        """kill -9 of the worker."""
        self.worker.process.kill()
        self.worker.stop()

    def fall_silent(self) -> None:
        """Control hangs: its heart stops."""
        self.worker.is_beating = False
        self.worker.status.stop_heart()

    def close(self) -> None:
        """Give the worker back without a lease."""
        self.is_closed = True
        if self.worker.is_up:
            with contextlib.suppress(Unavailable):
                for lease in self.specs:
                    self.run(self.link.close(lease, NotFound("the test is over")))

    def raise_epoch(self, verdict: Callable[[str], int] | None = None) -> None:
        """A policy change, as control publishes it."""
        self.control.policy_epoch += 1
        self.control.verdict = verdict
        self.worker.status.set_policy_epoch(self.control.policy_epoch)

    def revoke(self, lease: str) -> Closed:
        return self.run(self.link.close(lease, LeaseRevoked("the owner withdrew the grant")))

    # -- Transport ----------------------------------------------------------------------
    def request(
        self, method: str, path: str, *, json: Any = None, token: str | None = None
    ) -> Answer:
        if self.is_closed or not self.worker.is_up:
            raise Unavailable("no gateway answers")
        if method == "POST" and path == "/v1/leases":
            return Answer(self.open(codec.decode(LeaseRequest, json)))
        if path == "/.well-known/jwks.json":
            return Answer(tokens.key_set({self.signer.key_id: self.signer.public_key}))
        lease = path.split("/")[3]
        if lease not in self.specs:
            raise NotFound("no such lease")
        if method == "GET":
            return Answer({"lease": lease, "state": "open", "expires_at": 0})
        if path.endswith("/renewal"):
            self.control.renewed += 1
            expires = int(time.time() + self.control.lease_seconds)
            self.run(self.link.renew(lease, expires, self.control.policy_epoch))
            return Answer({"lease": lease, "state": "open", "expires_at": expires})
        self.run(self.link.close(lease, NotFound("the lease is closed")))
        return Answer({})

    def open(self, request: LeaseRequest) -> dict[str, Any]:
        self.control.opened.append(request)
        spec = self.spec(request)
        data = self.control.data
        manifest = manifest_of(
            spec,
            segments_of(spec),
            dataset="clinic/icu@1",
            split=None,
            columns=data.columns,
            schema=data.schema,
        )
        if request.position is not None:
            StreamPosition.from_dict(request.position).require(manifest.order_id, manifest.rows)
        self.run(self.link.open(spec))
        self.specs[spec.lease] = spec
        return {
            "lease": spec.lease,
            "state": "open",
            "expires_at": spec.expires_at,
            "policy_epoch": spec.policy_epoch,
            "data_url": f"http://127.0.0.1:{self.port}",
            "ring": self.ring,
            "lease_key": base64.b64encode(spec.key).decode(),
            "manifest": sign_document(self.signer, codec.encode(manifest)),
        }

    def spec(self, request: LeaseRequest) -> LeaseSpec:
        asked = request.order
        order = OrderSpec(
            seed=asked.seed,
            epoch=asked.epoch,
            shuffle=asked.shuffle,
            lanes=asked.lanes_chosen,
            window_blocks=asked.window_blocks,
            rank=asked.rank,
            world=asked.world,
        )
        order_key = hashlib.sha256(ORDER_SECRET + b"%d/%d" % (asked.seed, asked.epoch)).digest()
        return LeaseSpec(
            lease=f"lease_{secrets.token_hex(13)}",
            key=os.urandom(32),
            boot=self.control.boot,
            plan_digest=PLAN,
            policy_epoch=self.control.policy_epoch,
            expires_at=int(time.time() + self.control.lease_seconds),
            order=order,
            order_key=order_key,
            source=self.control.data.source,
        )


@dataclass
class Answer:
    """What the simulated transport answers."""

    value: Any
    status: int = 200

    def json(self) -> Any:
        return self.value
