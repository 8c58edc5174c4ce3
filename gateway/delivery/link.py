"""Control's end of the link to one data worker.

The worker asks (`intent`, `rejudge`) and reports (`confirm`, `acknowledge`, `refused`); control
opens, renews and closes leases. `close` returns only after the worker said that no further
byte of the lease is handed to the kernel.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.delivery import spec as lease_spec
from gateway.delivery.spec import LeaseSpec
from gateway.errors import GatewayError, Unavailable
from gateway.process.channel import AsyncChannel, ChannelClosed, Message
from gateway.wire.problems import error_of, fault_of


class Keeper(Protocol):
    """What control does when the worker asks or reports; every method may raise GatewayError."""

    async def intent(
        self, lease: str, first: int, last: int, rows: int, size: int
    ) -> Sequence[str]:
        """Record that segments `first`..`last` will be released; return once it is durable.

        Args:
            lease: id of the lease.
            first: number of the first segment.
            last: number of the last segment, inclusive.
            rows: visible rows in all of them.
            size: plaintext bytes in all of them.

        Returns: one receipt per segment: text of at most 512 characters for the client.
        """
        ...

    async def confirm(self, lease: str, segments: Sequence[int], rows: int, size: int) -> None:
        """Record that these segments were handed to the kernel whole."""
        ...

    async def acknowledge(self, lease: str, segments: int, rows: int) -> None:
        """Record that the client has verified so many segments and rows in all."""
        ...

    async def rejudge(self, lease: str) -> int:
        """Judge the lease again; return the PolicyEpoch it now holds for, or raise why not."""
        ...

    async def refused(self, lease: str, segment: int, error: str) -> None:
        """Record that stored bytes of a segment were not authentic (an error code)."""
        ...

    async def gone(self, worker: int) -> None:
        """The worker is dead: its leases are over, what it did not confirm is unknown."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """How a lease ended on its worker."""

    lease: str
    streams: int  # responses that were being sent when it stopped
    milliseconds: float  # from the call to the worker's word that nothing more is sent


class WorkerLink:
    """One data worker, seen from control."""

    def __init__(self, channel: AsyncChannel, worker: int, keeper: Keeper) -> None:
        """Use `WorkerLink.over`."""
        self.worker = worker
        self._channel = channel
        self._keeper = keeper
        self._calls = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._reports: set[asyncio.Task[None]] = set()  # those nobody waits for an answer of
        self._alive = True
        self._has_spoken = False
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def over(cls, sock: socket.socket, worker: int, keeper: Keeper) -> WorkerLink:
        """Take over the connected socket to worker number `worker`."""
        return cls(await AsyncChannel.over(sock), worker, keeper)

    @property
    def is_alive(self) -> bool:
        """Whether the worker's end is still open."""
        return self._alive

    @property
    def has_spoken(self) -> bool:
        """Whether the worker has started: before, whatever it is told waits."""
        return self._has_spoken

    async def open(self, spec: LeaseSpec) -> None:
        """Hand a lease to the worker; raises what the worker refuses it with."""
        head, payload = lease_spec.encode(spec)
        await self._call("open", payload, **head)

    async def renew(self, lease: str, expires_at: int, policy_epoch: int) -> None:
        """Move the end of a lease; NotFound when the worker does not have it."""
        await self._call("renew", lease=lease, expires_at=expires_at, policy_epoch=policy_epoch)

    async def ticket(self, lease: str, digest: str, now: float, until: float) -> None:
        """Let whoever has the ticket of this SHA-256 read the lease whole, once, before `until`."""
        await self._call("ticket", lease=lease, digest=digest, now=now, until=until)

    async def close(self, lease: str, reason: GatewayError) -> Closed:
        """Stop a lease; further requests for it are answered with `reason`.

        Returns after the worker has confirmed that no further byte is handed to the kernel, or
        is itself gone. Confirmations of the lease arrive before.
        """
        started = time.perf_counter()
        try:
            answer = await self._call("close", lease=lease, reason=fault_of(reason))
        except Unavailable:
            answer = {}  # a dead worker sends nothing
        milliseconds = (time.perf_counter() - started) * 1e3
        await asyncio.gather(*self._reports, return_exceptions=True)
        streams = int(answer.get("streams", 0))
        return Closed(lease=lease, streams=streams, milliseconds=milliseconds)

    async def drain(self, seconds: float) -> int:
        """Let the worker finish what it is sending, for so long, and begin nothing more.

        Returns: how many answers it did not finish; 0 of a worker that is gone.
        """
        try:
            answer = await self._call("drain", seconds=seconds)
        except Unavailable:
            return 0
        return int(answer["unfinished"])

    async def status(self) -> dict[str, Any]:
        """Counters of the worker: leases, streams now; frames, segments, bytes since its start."""
        return await self._call("status")

    async def stop(self) -> None:
        """Let go of the worker: it ends when its channel closes."""
        self._channel.close()
        await asyncio.gather(self._reader, return_exceptions=True)

    async def _call(self, kind: str, payload: bytes = b"", **body: Any) -> dict[str, Any]:
        if not self._alive:
            raise Unavailable(f"data worker {self.worker} is gone")
        call = next(self._calls)
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[call] = future
        try:
            await self._channel.send(kind, payload, call=call, **body)
            return await future
        except ChannelClosed as cause:
            raise Unavailable(f"data worker {self.worker} is gone") from cause
        finally:
            del self._waiting[call]

    async def _read(self) -> None:
        try:
            while True:
                self._take(await self._channel.receive())
        except (ChannelClosed, GatewayError):
            pass  # gone, or talking nonsense: either way nothing it says counts any more
        finally:
            self._alive = False
            self._channel.close()
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(Unavailable(f"data worker {self.worker} is gone"))
            await self._keeper.gone(self.worker)

    def _take(self, message: Message) -> None:
        body = message.body
        self._has_spoken = True
        if message.kind == "answer":
            future = self._waiting.get(body["call"])
            if future is not None and not future.done():
                if "error" in body:
                    future.set_exception(error_of(body["error"]))
                else:
                    future.set_result(body)
            return
        serve = _SERVED.get(message.kind)
        if serve is not None:
            task = asyncio.create_task(self._answer(serve, body))
            held = self._tasks if "call" in body else self._reports
            held.add(task)
            task.add_done_callback(held.discard)

    async def _answer(self, serve: _Serve, body: dict[str, Any]) -> None:
        try:
            answer = await serve(self._keeper, body)
        except GatewayError as error:
            answer = {"error": fault_of(error)}
        except Exception:
            self._post_answer(body, {"error": fault_of(GatewayError("control failed"))})
            raise
        self._post_answer(body, answer)

    def _post_answer(self, body: dict[str, Any], answer: dict[str, Any]) -> None:
        if "call" in body and self._alive:
            self._channel.post("answer", call=body["call"], **answer)


_Serve = Callable[[Keeper, dict[str, Any]], Awaitable[dict[str, Any]]]


async def _intent(keeper: Keeper, body: dict[str, Any]) -> dict[str, Any]:
    receipts = await keeper.intent(
        body["lease"], body["first"], body["last"], body["rows"], body["size"]
    )
    return {"receipts": list(receipts)}


async def _rejudge(keeper: Keeper, body: dict[str, Any]) -> dict[str, Any]:
    return {"policy_epoch": await keeper.rejudge(body["lease"])}


async def _confirm(keeper: Keeper, body: dict[str, Any]) -> dict[str, Any]:
    await keeper.confirm(body["lease"], body["segments"], body["rows"], body["size"])
    return {}


async def _acknowledge(keeper: Keeper, body: dict[str, Any]) -> dict[str, Any]:
    await keeper.acknowledge(body["lease"], body["segments"], body["rows"])
    return {}


async def _refused(keeper: Keeper, body: dict[str, Any]) -> dict[str, Any]:
    await keeper.refused(body["lease"], body["segment"], body["error"])
    return {}


_SERVED: dict[str, _Serve] = {
    "intent": _intent,
    "rejudge": _rejudge,
    "confirm": _confirm,
    "acknowledge": _acknowledge,
    "refused": _refused,
}
