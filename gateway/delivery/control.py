"""The worker's end of the control link: asks control, obeys it, ends with it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

from gateway.delivery import spec as lease_spec
from gateway.delivery.geometry import segments_of
from gateway.delivery.leases import LeaseTable, OpenLease
from gateway.delivery.sources import Maps, open_source
from gateway.errors import GatewayError, InvalidInput, Unavailable
from gateway.process.channel import AsyncChannel, ChannelClosed, Message
from gateway.wire.problems import error_of, fault_of


class ControlLink:
    """Calls to control, and the leases that control hands over."""

    def __init__(self, channel: AsyncChannel, table: LeaseTable, facts: dict[str, Any]) -> None:
        """Serve `table` over `channel`; `facts` are what `status` answers besides counts."""
        self._channel, self._table, self._facts = channel, table, facts
        self._maps = Maps()
        self._calls = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._draining: asyncio.Task[None] | None = None
        self.before_close: Callable[[OpenLease], None] = lambda _: None

    @property
    def is_draining(self) -> bool:
        """Whether control has said that the gateway stops."""
        return self._draining is not None

    async def intent(self, lease: str, first: int, last: int, rows: int, size: int) -> list[str]:
        """Return one receipt per segment once the intent is durable."""
        answer = await self._call(
            "intent", lease=lease, first=first, last=last, rows=rows, size=size
        )
        return [str(receipt) for receipt in answer["receipts"]]

    async def rejudge(self, lease: str) -> int:
        """Return the PolicyEpoch the lease holds for, or raise why it does not."""
        return int((await self._call("rejudge", lease=lease))["policy_epoch"])

    def confirm(self, lease: str, segments: list[int], rows: int, size: int) -> None:
        """Tell which segments were handed to the kernel whole."""
        self._channel.post("confirm", lease=lease, segments=segments, rows=rows, size=size)

    def acknowledge(self, lease: str, segments: int, rows: int) -> None:
        """Tell how much the client says to have verified."""
        self._channel.post("acknowledge", lease=lease, segments=segments, rows=rows)

    def refused(self, lease: str, segment: int, error: str) -> None:
        """Tell that stored bytes were not authentic."""
        self._channel.post("refused", lease=lease, segment=segment, error=error)

    async def _call(self, kind: str, **body: Any) -> dict[str, Any]:
        call = next(self._calls)
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[call] = future
        try:
            self._channel.post(kind, call=call, **body)
            return await future
        except ChannelClosed as cause:
            raise Unavailable("the gateway's control is gone", advice="try again") from cause
        finally:
            del self._waiting[call]

    async def serve(self) -> None:
        """Obey until control is gone; then stop every stream and return."""
        try:
            self._channel.post("started")  # who has not said so is given no new lease
            while True:
                self._take(await self._channel.receive())
        except (ChannelClosed, GatewayError):
            pass  # control is gone, or this link cannot be trusted: the same for us
        finally:
            gone = Unavailable("the gateway's control is gone", advice="try again")
            for lease in self._table.all():
                self._table.close(lease.spec.lease, gone)
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(gone)

    def _take(self, message: Message) -> None:
        if message.kind == "answer":
            future = self._waiting.get(message.body["call"])
            if future is not None and not future.done():
                if "error" in message.body:
                    future.set_exception(error_of(message.body["error"]))
                else:
                    future.set_result(message.body)
            return
        call = message.body.pop("call")
        if message.kind == "drain":  # the only one that takes its time
            self._draining = asyncio.create_task(self._drain(call, message.body["seconds"]))
            return
        try:
            answer = self._obey(message)
        except GatewayError as error:
            answer = {"error": fault_of(error)}
        self._channel.post("answer", call=call, **answer)

    async def _drain(self, call: int, seconds: float) -> None:
        unfinished = await self._table.flight.drain(seconds)
        self._channel.post("answer", call=call, unfinished=unfinished)

    def _obey(self, message: Message) -> dict[str, Any]:
        body = message.body
        if message.kind == "open":
            return self._open(body, message.payload)
        if message.kind == "renew":
            lease = self._table.get(body["lease"])
            lease.expires_at = body["expires_at"]
            lease.policy_epoch = max(lease.policy_epoch, body["policy_epoch"])
            return {}
        if message.kind == "close":
            return self._close(body)
        if message.kind == "ticket":
            self._table.get(body["lease"]).add_ticket(body["digest"], body["until"], body["now"])
            return {}
        if message.kind == "status":
            return self._status()
        raise InvalidInput(f"`{message.kind}` is not a message to a data worker")

    def _open(self, body: dict[str, Any], payload: Any) -> dict[str, Any]:
        spec = lease_spec.decode(body, payload)
        lease = OpenLease(
            spec=spec,
            source=open_source(spec, self._maps),
            segments=segments_of(spec),
            policy_epoch=spec.policy_epoch,
            expires_at=spec.expires_at,
        )
        self._table.add(lease)
        return {"segments": len(lease.segments)}

    def _close(self, body: dict[str, Any]) -> dict[str, Any]:
        for lease in self._table.all():
            if lease.spec.lease == body["lease"]:
                self.before_close(lease)
        return {"streams": self._table.close(body["lease"], error_of(body["reason"]))}

    def _status(self) -> dict[str, Any]:
        leases = self._table.all()
        return {
            **self._facts,
            "leases": len(leases),
            "streams": self._table.streams,
            "rings": sum(len(lease.rings) for lease in leases),
            "frames": self._table.frames,
            "segments": self._table.segments,
            "bytes": self._table.bytes,
        }
