"""An auditor's own SQL: parsed, checked, and run in a child that is used once and killed.

The order: take a warmed child → it parses → the allow-list here judges the tree (`guard.py`)
→ only the views that the statement names are loaded, only this tenant's rows → it runs under
a wall clock. Whatever the child sends back is passed on as bytes and never parsed here.
"""

from __future__ import annotations

import io
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb
import pyarrow as pa

from gateway.errors import (
    GatewayError,
    IntegrityError,
    InvalidInput,
    LimitExceeded,
    TooLarge,
    Unavailable,
)
from gateway.lineage import answers, guard
from gateway.lineage.copies import Copy, later
from gateway.lineage.views import AUDITOR_VIEWS
from gateway.process.channel import Channel, ChannelClosed, Message
from gateway.process.spawn import Child, Confinement, Launch, spawn

WALL_SECONDS_MAX = 8.0  # every denial-of-service statement measured dies by then
START_SECONDS_MAX = 20.0
ROWS_MAX = 10_000
RESULT_BYTES_MAX = 16 << 20
LOADED_BYTES_MAX = 256 << 20
_SPARES = 1
_CONFINEMENT = Confinement(
    data_bytes_max=1536 << 20,
    cpu_seconds_max=20,
    open_files_max=64,
    file_bytes_max=0,
    read_paths=("/sys/fs/cgroup",),  # DuckDB asks there for its share of the machine, or aborts
)
_MEMORY_LIMIT = "512MB"
_VIEWS = frozenset(AUDITOR_VIEWS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One auditor's statement and whose rows it may see."""

    sql: str
    tenant: str | None
    is_operator: bool = False
    form: str = "json"  # how the rows come back: `json` | `arrow`
    shown: bytes = b""  # who is behind the tags of an Arrow answer (results.Shown, as JSON)
    since: datetime | None = None  # only rows of this time on are loaded
    until: datetime | None = None
    rows_max: int = ROWS_MAX

    @property
    def is_of_whole_side(self) -> bool:
        """Whether it is about all that one tenant sees, as a copy of its rows is."""
        is_narrowed = self.since is not None or self.until is not None
        return self.tenant is not None and not self.is_operator and not is_narrowed


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a child answered: opaque bytes, and what it says about them."""

    payload: bytes | bytearray | memoryview
    columns: list[dict[str, str]]
    rows: int
    is_truncated: bool
    loaded: int  # bytes of rows that the child was given for it


class SandboxPool:
    """Keeps a warmed child ready; each is used once."""

    def __init__(self, *, wall_seconds_max: float = WALL_SECONDS_MAX) -> None:
        """Start nothing yet; `prepare` does."""
        self._wall = wall_seconds_max
        self._spares: list[Child] = []
        self._lock = threading.Lock()
        self._closed = False

    def prepare(self) -> None:
        """Have a spare child ready (call it from a thread that may wait)."""
        with self._lock:
            if self._closed or len(self._spares) >= _SPARES:
                return
        child = _start()
        with self._lock:
            if not self._closed:
                self._spares.append(child)
                return
        child.kill()

    def run(
        self, query: Query, source: duckdb.DuckDBPyConnection, copy: Copy | None = None
    ) -> Result:
        """Run one query with rows read through `source`, beside those in the tenant's `copy`.

        Raises:
            InvalidInput: the statement is refused or does not run.
            LimitExceeded: time, memory, or the tenant's rows are over the limit.
            TooLarge: the statement or its result is.
        """
        if not isinstance(query.sql, str) or not query.sql.strip():
            raise InvalidInput("there is no statement")
        if len(query.sql) > guard.SQL_CHARS_MAX:
            raise TooLarge(f"a statement has at most {guard.SQL_CHARS_MAX} characters")
        with self._child() as child:
            tree = _call(child.channel, "parse", sql=query.sql)
            needs = guard.check(bytes(_expect(tree, "tree").payload), _VIEWS)
            if copy is not None and not _attach(child.channel, copy):
                copy = None
            loaded = 0
            for view in sorted(needs.views):
                if copy is None:
                    rows, onto = load(query, view, source, needs.words), None
                else:
                    rows, onto = load_later(query, view, source, copy)
                loaded += len(rows)
                given = _call(child.channel, "load", payload=rows, view=view, onto=onto)
                _expect(given, "loaded")
            return self._answer(child, query, loaded)

    def _answer(self, child: Child, query: Query, loaded: int) -> Result:
        message = _call(
            child.channel,
            "run",
            payload=query.shown,
            sql=query.sql,
            form=query.form,
            rows_max=max(1, min(query.rows_max, ROWS_MAX)),
            bytes_max=RESULT_BYTES_MAX,
        )
        body = _expect(message, "answer").body
        return Result(
            payload=message.payload,
            columns=_columns(body.get("columns")),
            rows=int(body.get("rows", 0)),
            is_truncated=body.get("truncated") is True,
            loaded=loaded,
        )

    @contextmanager
    def _child(self) -> Iterator[Child]:
        with self._lock:
            child = self._spares.pop() if self._spares else None
        child = child or _start()
        is_late = threading.Event()

        def stop() -> None:
            is_late.set()
            child.process.kill()

        timer = threading.Timer(self._wall, stop)
        timer.start()
        try:
            yield child
        except (ChannelClosed, IntegrityError) as cause:
            raise _death(is_late=is_late.is_set(), wall=self._wall) from cause
        finally:
            timer.cancel()
            child.process.kill()
            # The kernel takes its time to take the memory back: nobody waits for that.
            threading.Thread(target=child.kill, name="reap").start()

    def close(self) -> None:
        """Kill the spares."""
        with self._lock:
            self._closed = True
            spares, self._spares = self._spares, []
        for child in spares:
            child.kill()


def load(
    query: Query,
    view: str,
    source: duckdb.DuckDBPyConnection,
    words: frozenset[str] | None = None,
) -> bytes:
    """The tenant's rows of one view as an Arrow IPC stream; LimitExceeded when too many.

    Of its columns only `time` and those among `words` (None = all).
    """
    parameters: dict[str, Any] = {"since": query.since, "until": query.until}
    chosen = "*" if words is None else "COLUMNS(lambda c: c = 'time' OR list_contains($words, c))"
    if words is not None:
        parameters["words"] = sorted(words)
    within = "($since IS NULL OR time >= $since) AND ($until IS NULL OR time < $until)"
    return _rows(query, view, source, (chosen, within, parameters))


def load_later(
    query: Query, view: str, source: duckdb.DuckDBPyConnection, copy: Copy
) -> tuple[bytes, str]:
    """The rows of one view that `copy` lacks, and how they go onto it; b"" = it lacks none."""
    wanted = later(view, copy.projected, source)
    if wanted is None:
        return b"", "add"
    condition, onto = wanted
    return _rows(query, view, source, ("*", condition, {"start": copy.projected})), onto


def _rows(
    query: Query,
    view: str,
    source: duckdb.DuckDBPyConnection,
    wanted: tuple[str, str, dict[str, Any]],
) -> bytes:
    columns, condition, parameters = wanted
    sql = f"SELECT {columns} FROM ({AUDITOR_VIEWS[view]}) WHERE {condition}"  # noqa: S608 - ours
    parameters = {**parameters, "tenant": query.tenant, "operator": query.is_operator}
    reader: Any = source.sql(sql, params=parameters).to_arrow_reader(65_536)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)
            if sink.tell() > LOADED_BYTES_MAX:
                raise LimitExceeded(
                    f"the rows of `{view}` are more than {LOADED_BYTES_MAX >> 20} MiB",
                    advice="narrow the query with since and until, or ask a named question",
                )
    return sink.getvalue()


def _start() -> Child:
    child = spawn(
        Launch(
            module="gateway.lineage.sandbox",
            confinement=_CONFINEMENT,
            options={"memory_limit": _MEMORY_LIMIT},
        ),
        stderr=subprocess.DEVNULL,
    )
    child.channel = Channel(child.channel.socket, payload_bytes_max=RESULT_BYTES_MAX)
    timer = threading.Timer(START_SECONDS_MAX, child.process.kill)
    timer.start()
    try:
        _expect(child.channel.receive(), "ready")
    except (ChannelClosed, GatewayError) as cause:
        child.kill()
        raise Unavailable("the query sandbox does not start") from cause
    finally:
        timer.cancel()
    return child


def _call(channel: Channel, kind: str, *, payload: bytes = b"", **body: Any) -> Message:
    return channel.call(kind, payload, **body)


def _attach(channel: Channel, copy: Copy) -> bool:
    """Hand the child the copy; False when it cannot use it (a system without /proc)."""
    channel.send("attach")
    try:
        socket.send_fds(channel.socket, [b"\0"], [copy.descriptor])
    except OSError as cause:
        raise ChannelClosed("the child is gone") from cause
    return channel.receive().kind == "attached"


def _expect(message: Message, kind: str) -> Message:
    if message.kind == kind:
        return message
    text = str(message.body.get("text", ""))[:500]
    reason = message.body.get("reason")
    if reason == "memory":
        raise LimitExceeded("the query needs too much memory", advice="aggregate or narrow it")
    if reason == "inexact":
        raise InvalidInput(text, advice=answers.AS_TEXT)
    if reason == "result":
        raise TooLarge("the result is too large", advice="aggregate, or add a LIMIT")
    raise InvalidInput(f"the query does not run: {text}", advice="correct the statement")


def _columns(value: Any) -> list[dict[str, str]]:
    listed = value if isinstance(value, list) else []
    return [
        {"name": str(item.get("name", "")), "type": str(item.get("type", ""))}
        for item in listed
        if isinstance(item, dict)
    ]


def _death(*, is_late: bool, wall: float) -> GatewayError:
    if is_late:
        return LimitExceeded(
            f"the query ran longer than {wall:g} seconds", advice="narrow it, or aggregate less"
        )
    return LimitExceeded("the query broke its limits and was ended", advice="narrow it")
