"""The lineage process: one thread takes requests from control, others follow and answer.

Control's first frame is `start`; then any number of requests, each with an `id` that its
reply repeats, in any order (docs/reference/questions.md). When the channel ends, so does the
process. It holds no key of the gateway but the one that seals its own file.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb

from gateway.errors import GatewayError, IntegrityError, InvalidInput, LimitExceeded, Unavailable
from gateway.journal import reader
from gateway.lineage import answers, asking, parameters
from gateway.lineage.copies import Copies
from gateway.lineage.follow import Follower, Tail
from gateway.lineage.outbox import Outbox
from gateway.lineage.projection import Projection
from gateway.lineage.query import Query, SandboxPool
from gateway.lineage.questions import question
from gateway.lineage.recorded import tail_of
from gateway.lineage.sinks import SinkName
from gateway.lineage.trace import DEPTH_DEFAULT, Walk, trace
from gateway.process.channel import Channel, ChannelClosed, Message
from gateway.process.status_page import StatusReader

ASKS_PER_TENANT_MAX = 4  # at once, waiting ones counted
QUERIES_PER_TENANT_MAX = 2
WAIT_SECONDS_MAX = 2.0  # for `at_least`; afterwards the answer says how far it is
SEAL_KEY_BYTES = 32
_Reply = tuple[str, bytes | bytearray | memoryview, dict[str, Any]]


def main(channel: Channel, options: dict[str, Any]) -> None:
    """Serve control over `channel` until it ends."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # control's end is ours, not the terminal's
    begin = channel.receive()
    if begin.kind != "start" or len(begin.payload) != SEAL_KEY_BYTES:
        raise IntegrityError("lineage expects `start` with the seal key first")
    page = options.get("descriptors", {}).get("page")
    server = LineageServer(
        channel,
        Projection(Path(begin.body["directory"]), bytes(begin.payload)),
        journal=Path(begin.body["journal"]),
        log_key=bytes.fromhex(begin.body["log_key"]),
        page=None if page is None else StatusReader(page),
    )
    server.tell(
        [SinkName(**sink) for sink in begin.body.get("sinks", ())],
        issuer=begin.body.get("issuer", ""),
        directory=Path(begin.body["directory"]),
    )
    try:
        server.serve()
    finally:
        server.close()


class LineageServer:
    """Requests in, replies out; never more than a bounded number at once for one tenant."""

    def __init__(
        self,
        channel: Channel,
        projection: Projection,
        *,
        journal: Path,
        log_key: bytes,
        page: StatusReader | None,
    ) -> None:
        """Begin to follow `journal`, whose checkpoints are signed by `log_key`."""
        self._channel, self._projection, self._page = channel, projection, page
        self._sending = threading.Lock()
        self._counting = threading.Lock()
        self._running: dict[tuple[str, str | None], int] = {}
        self._askers = ThreadPoolExecutor(4, thread_name_prefix="ask")
        self._queriers = ThreadPoolExecutor(2, thread_name_prefix="query")
        self._sandboxes = SandboxPool()
        self._copies = Copies(projection)
        self._copier = ThreadPoolExecutor(1, thread_name_prefix="copy")
        projection.taken_away = self._copies.clear
        self._journal = reader.Reader(journal, log_key)
        self._outboxes: list[Outbox] = []

        def read_anew() -> Tail:
            self._journal = reader.Reader(journal, log_key)
            return tail_of(self._journal)

        self._follower = Follower(projection, read_anew, time.time)
        self._follower.start()
        self._queriers.submit(self._prepare)

    def tell(self, sinks: Sequence[SinkName], *, issuer: str, directory: Path) -> None:
        """Begin to tell sinks of every run; their cursors lie in `directory`."""
        for name in sinks:
            outbox = Outbox(
                name,
                issuer,
                self._projection,
                head=lambda: self._journal.head(),  # noqa: PLW0108 - the reader is replaced
                directory=directory,
            )
            self._outboxes.append(outbox)
            outbox.start()

    def serve(self) -> None:
        """Take requests until the channel ends."""
        while True:
            message = self._channel.receive()
            kind = message.kind
            if kind == "status":
                self._answer(self._status, message)
            elif kind in ("ask", "trace"):
                action = self._ask if kind == "ask" else self._trace
                self._queue(self._askers, action, message, ASKS_PER_TENANT_MAX)
            elif kind == "query":
                self._queue(self._queriers, self._query, message, QUERIES_PER_TENANT_MAX)
            else:
                self._refuse(message, InvalidInput(f"`{kind[:80]}` is no request to lineage"))

    def close(self) -> None:
        """End the threads and children and let go of the file."""
        self._askers.shutdown(wait=False, cancel_futures=True)
        self._queriers.shutdown(wait=False, cancel_futures=True)
        self._copier.shutdown(wait=False, cancel_futures=True)
        self._sandboxes.close()
        self._copies.close()
        for outbox in self._outboxes:
            outbox.stop()
        self._follower.stop()
        self._projection.close()

    def _queue(
        self,
        pool: ThreadPoolExecutor,
        action: Callable[[Message], _Reply],
        message: Message,
        at_once_max: int,
    ) -> None:
        place = (message.kind, message.body.get("tenant"))
        with self._counting:
            running = self._running.get(place, 0)
            if running < at_once_max:
                self._running[place] = running + 1
        if running >= at_once_max:
            refusal = LimitExceeded(
                "too many questions of this tenant are under way",
                limit=at_once_max,
                retry_after_seconds=1,
            )
            self._refuse(message, refusal)
            return
        pool.submit(self._counted, place, action, message)

    def _counted(
        self, place: tuple[str, str | None], action: Callable[[Message], _Reply], message: Message
    ) -> None:
        try:
            self._answer(action, message)
        finally:
            with self._counting:
                self._running[place] -= 1
                if not self._running[place]:
                    del self._running[place]

    def _answer(self, action: Callable[[Message], _Reply], message: Message) -> None:
        try:
            kind, payload, body = action(message)
        except GatewayError as refusal:
            self._refuse(message, refusal)
        except duckdb.Error as error:
            self._refuse(message, _as_refusal(error))
        except Exception as error:  # noqa: BLE001 - one request never ends the process
            self._refuse(message, GatewayError(f"lineage failed: {type(error).__name__}"))
        else:
            self._send(kind, payload, {**body, "id": message.body.get("id")})

    def _refuse(self, message: Message, refusal: GatewayError) -> None:
        body = {
            "id": message.body.get("id"),
            "code": refusal.code,
            "message": refusal.message,
            "advice": refusal.advice,
            "facts": refusal.facts,
        }
        self._send("refused", b"", body)

    def _send(
        self, kind: str, payload: bytes | bytearray | memoryview, body: dict[str, Any]
    ) -> None:
        with self._sending, contextlib.suppress(ChannelClosed):
            self._channel.send(kind, payload, **body)

    def _ask(self, message: Message) -> _Reply:
        body = message.body
        wanted = question(body.get("name", ""))
        self._wait(body)
        with self._projection.reading() as cursor:
            as_of = _projected(cursor)
            table = asking.ask(
                cursor,
                wanted,
                body.get("params") or {},
                asker=asking.Asker(
                    tenant=body.get("tenant"),
                    is_operator=body.get("operator") is True,
                    terms=body.get("terms") or (),
                    held=body.get("held") or (),
                    vouched=body.get("vouched") or (),
                ),
                now=time.time(),
            )
        reply = {
            "question": wanted.name,
            "version": wanted.version,
            "columns": table.columns,
            "as_of_index": as_of,
            "truncated": table.is_truncated,
            "expired": table.expired,
        }
        names = [column["name"] for column in table.columns]
        return "answer", answers.to_json(table.rows, names), reply

    def _query(self, message: Message) -> _Reply:
        body, now = message.body, time.time()
        query = Query(
            sql=body.get("sql", ""),
            tenant=body.get("tenant"),
            is_operator=body.get("operator") is True,
            form="arrow" if body.get("form") == "arrow" else "json",
            shown=bytes(message.payload),
            since=parameters.parse_time(body["since"], now) if body.get("since") else None,
            until=parameters.parse_time(body["until"], now) if body.get("until") else None,
        )
        whose = query.tenant if query.is_of_whole_side else None
        self._wait(body)
        try:
            with self._projection.reading() as cursor:
                as_of = _projected(cursor)
                with self._copies.lent(whose, cursor) as copy:
                    result = self._sandboxes.run(query, cursor, copy)
                asker = asking.Asker(tenant=query.tenant, is_operator=query.is_operator)
                gone = asking.expired(cursor, asker, query.since, query.until)
        finally:
            self._queriers.submit(self._prepare)
        if whose is not None and self._copies.is_worth(whose, result.loaded):
            self._copier.submit(self._copies.make, whose)
        reply = {
            "columns": result.columns,
            "as_of_index": as_of,
            "truncated": result.is_truncated,
            "expired": gone,
            "form": query.form,
        }
        return "answer", result.payload, reply

    def _trace(self, message: Message) -> _Reply:
        body = message.body
        self._wait(body)
        with self._projection.reading() as cursor, asking.within(cursor, asking.ASK_SECONDS_MAX):
            as_of = _projected(cursor)
            graph = trace(
                cursor,
                body.get("ref", ""),
                tenant=body.get("tenant"),
                is_operator=body.get("operator") is True,
                walk=Walk(
                    depth=int(body.get("depth") or DEPTH_DEFAULT),
                    direction=body.get("direction") or "both",
                    of_columns=body.get("of_columns") is True,
                ),
            )
        return "trace", b"", {**graph, "as_of_index": as_of}

    def _status(self, message: Message) -> _Reply:  # noqa: ARG002
        projected = self._projection.projected
        durable = self._page.durable if self._page else projected
        reply = {
            "projected": projected,
            "durable": durable,
            "lag_events": max(0, durable - projected),
            "lag_seconds_p99": round(self._follower.lag_seconds_p99, 3),
            "rebuilt_because": self._projection.rebuilt_because,
            "fault": self._follower.fault,
            "sinks": [outbox.status(projected) for outbox in self._outboxes],
        }
        return "status", b"", reply

    def _wait(self, body: dict[str, Any]) -> None:
        if self._follower.fault is not None:
            raise Unavailable(
                f"lineage does not follow the journal: {self._follower.fault}",
                advice="tell the operator, who runs `gateway doctor`",
            )
        self._follower.wait_for(int(body.get("at_least") or 0), WAIT_SECONDS_MAX)

    def _prepare(self) -> None:
        with contextlib.suppress(Unavailable, OSError):
            self._sandboxes.prepare()


def _projected(cursor: duckdb.DuckDBPyConnection) -> int:
    return int(cursor.execute("SELECT projected FROM progress").fetchall()[0][0])


def _as_refusal(error: duckdb.Error) -> GatewayError:
    if isinstance(error, duckdb.OutOfMemoryException):
        return LimitExceeded("the answer needs too much memory", advice="narrow it with since")
    return Unavailable("lineage cannot read its projection", advice="try again in a moment")
