"""Control's end of the lineage process: ask and await. Knows neither DuckDB nor Arrow."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway import errors
from gateway.errors import GatewayError, IntegrityError, Unavailable
from gateway.process.channel import AsyncChannel, ChannelClosed, Message

REPLY_SECONDS_MAX = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """Whose side of lineage is asked for: a tenant's, or an operator's over all tenants."""

    tenant: str | None
    operator: bool = False
    at_least: int = 0  # wait up to 2 s until so many events are projected

    def to_body(self) -> dict[str, Any]:
        """As every request carries it."""
        tenant = None if self.operator else self.tenant
        return {"tenant": tenant, "operator": self.operator, "at_least": self.at_least}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Rows of a question or query; JSON values, or Arrow IPC bytes in `arrow`."""

    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    as_of_index: int  # number of journal events it is complete for
    truncated: bool
    question: str = ""
    version: int = 0
    arrow: bytes = b""
    expired: tuple[str, ...] = ()  # months in its time that are not in it any more


class LineageLink:
    """Requests over one channel; it may be replaced when the process was (`attach`)."""

    def __init__(self) -> None:
        """Not connected yet: every request raises Unavailable until `attach`."""
        self._channel: AsyncChannel | None = None
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._ids = itertools.count(1)
        self._receiving: asyncio.Task[None] | None = None

    @property
    def is_attached(self) -> bool:
        """Whether a process is there to be asked."""
        return self._channel is not None

    async def attach(
        self,
        channel: AsyncChannel,
        *,
        journal: Path,
        directory: Path,
        log_key: bytes,
        seal_key: bytes,
        telling: Mapping[str, Any] | None = None,
    ) -> None:
        """Use `channel` from now on and tell the process what to follow.

        Args:
            channel: to a freshly started lineage process.
            journal: the journal's directory.
            directory: where the projection lives (made if missing).
            log_key: raw public key of the journal's checkpoints.
            seal_key: 32 secret bytes, the same at every start (`vault.secret("lineage-seal")`).
            telling: `issuer` and `sinks` ({`uri`, `tenant`}) for OpenLineage events; None: nobody.
        """
        self.detach()
        await channel.send(
            "start",
            payload=seal_key,
            journal=str(journal),
            directory=str(directory),
            log_key=log_key.hex(),
            **(telling or {}),
        )
        self._channel = channel
        self._receiving = asyncio.create_task(self._receive(channel), name="lineage-replies")

    def detach(self) -> None:
        """Let go of the channel; requests under way raise Unavailable."""
        if self._receiving is not None:
            self._receiving.cancel()
            self._receiving = None
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        self._fail()

    async def ask(
        self,
        name: str,
        params: Mapping[str, Any],
        side: Side,
        *,
        terms: Sequence[Mapping[str, Any]] = (),
        held: Sequence[Mapping[str, Any]] = (),
        vouched: Sequence[str] = (),
    ) -> Answer:
        """Answer a named question; raises what the question raises, or Unavailable.

        `terms` is what the cards of that side's own datasets say, `held` what Grants had of the
        person asked about, `vouched` which parameters name what is known to be there.
        """
        given = {"params": dict(params), "terms": list(terms), "held": list(held)}
        given["vouched"] = list(vouched)
        message = await self._call("ask", name=name, **given, **side.to_body())
        return _answer(message)

    async def query(
        self,
        sql: str,
        side: Side,
        *,
        form: str = "json",
        since: str | None = None,
        until: str | None = None,
        shown: Mapping[str, Mapping[str, str]] | None = None,
    ) -> Answer:
        """Run an auditor's SQL in the sandbox; `form` is `json` or `arrow`.

        `shown` is for `arrow`, whose bytes nobody opens on their way: `names` (tag → name), and
        `columns` that hold tags (→ their title with names in them).
        """
        payload = b"" if shown is None else json.dumps(shown).encode()
        times = {"since": since, "until": until}
        message = await self._call("query", payload, sql=sql, form=form, **times, **side.to_body())
        return _answer(message)

    async def trace(
        self,
        ref: str,
        side: Side,
        *,
        depth: int | None = None,
        direction: str = "both",
        of_columns: bool = False,
    ) -> dict[str, Any]:
        """The graph around `ref`: `nodes`, `edges`, `starts`, `truncated`, `as_of_index`."""
        message = await self._call(
            "trace",
            ref=ref,
            depth=depth,
            direction=direction,
            of_columns=of_columns,
            **side.to_body(),
        )
        return message.body

    async def status(self) -> dict[str, Any]:
        """`projected`, `durable`, `lag_events`, `lag_seconds_p99`, `rebuilt_because`, `fault`.

        And `sinks`, of each: `sink`, `lag_events`, `refused`, `error`.
        """
        return (await self._call("status")).body

    async def _call(self, kind: str, payload: bytes = b"", /, **body: Any) -> Message:
        if self._channel is None:
            raise Unavailable("lineage is starting again", advice="try again in a moment")
        number = next(self._ids)
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            await self._channel.send(kind, payload, id=number, **body)
            message = await asyncio.wait_for(future, REPLY_SECONDS_MAX)
        except (ChannelClosed, TimeoutError) as cause:
            raise Unavailable("lineage does not answer", advice="try again in a moment") from cause
        finally:
            self._waiting.pop(number, None)
        message.body.pop("id", None)
        if message.kind == "refused":
            raise _refusal(message.body)
        return message

    async def _receive(self, channel: AsyncChannel) -> None:
        try:
            while True:
                message = await channel.receive()
                future = self._waiting.get(message.body.get("id", 0))
                if future is not None and not future.done():
                    future.set_result(message)
        except (ChannelClosed, IntegrityError):
            if self._channel is channel:
                self._channel = None
            self._fail()

    def _fail(self) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(Unavailable("lineage is starting again"))


def _answer(message: Message) -> Answer:
    body = message.body
    is_arrow = body.get("form") == "arrow"
    columns = body["columns"]
    try:
        rows = [] if is_arrow else json.loads(bytes(message.payload))
        return Answer(
            columns=tuple(str(column["name"]) for column in columns),
            types=tuple(str(column["type"]) for column in columns),
            rows=tuple(tuple(row) for row in rows),
            as_of_index=int(body["as_of_index"]),
            truncated=body["truncated"] is True,
            expired=tuple(map(str, body.get("expired", ()))),
            question=str(body.get("question", "")),
            version=int(body.get("version", 0)),
            arrow=bytes(message.payload) if is_arrow else b"",
        )
    except (ValueError, TypeError, KeyError, RecursionError) as cause:
        raise IntegrityError("the answer of lineage is not a table") from cause


def _refusal(body: dict[str, Any]) -> GatewayError:
    kind = _BY_CODE.get(body.get("code", ""), GatewayError)
    return kind(str(body.get("message")), advice=body.get("advice"), **(body.get("facts") or {}))


def _codes(kind: type[GatewayError]) -> dict[str, type[GatewayError]]:
    found = {kind.code: kind}
    for child in kind.__subclasses__():
        found.update(_codes(child))
    return found


_BY_CODE = _codes(errors.GatewayError)
