"""The single-use child that runs one auditor's SQL over one tenant's rows, then dies.

It is started ahead of need, confined (no network, may write no file, bounded memory and CPU),
and holds a `:memory:` DuckDB without external access. It does three things in order: parse
text into a syntax tree (hostile text is parsed here, not in the lineage process), take the
tenant's rows as Arrow IPC or as a copy in sealed memory (`copies.py`), and run the statement
once. Other tenants' rows are not filtered out: they were never here.
"""

from __future__ import annotations

import os
import socket
from typing import Any

import duckdb
import pyarrow as pa

from gateway.errors import InvalidInput
from gateway.lineage import results
from gateway.process.channel import Channel, Message

MESSAGE_CHARS_MAX = 500
COPY_DESCRIPTOR = 63  # the last that the child may have
_COPY_ENDINGS = ("", ".wal", ".wal.recovery", ".wal.checkpoint")  # DuckDB looks for all of them
_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "temp_directory": "",
    "threads": 1,
    "python_enable_replacements": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "allow_persistent_secrets": False,
    "max_expression_depth": 250,
}


def main(channel: Channel, options: dict[str, Any]) -> None:
    """Serve one query over `channel`: `parse`, any number of `load`, `run`; then return."""
    connection = open_database(str(options["memory_limit"]))
    _warm(connection)
    channel.send("ready")
    while True:
        message = channel.receive()
        try:
            if message.kind == "parse":
                channel.send("tree", payload=_tree(connection, _text(message)))
            elif message.kind == "attach":
                _attach(connection, channel)
                channel.send("attached")
            elif message.kind == "load":
                _load(connection, message)
                channel.send("loaded")
            else:
                _run(connection, message, channel)
                return
        except results.TooMuch:
            channel.send("refused", reason="result", text="the result is too large")
        except InvalidInput as refusal:
            channel.send("refused", reason="inexact", text=refusal.message)
        except (duckdb.Error, MemoryError, ValueError, OverflowError) as refusal:
            reason = "memory" if _is_memory(refusal) else "sql"
            channel.send("refused", reason=reason, text=str(refusal)[:MESSAGE_CHARS_MAX])


def open_database(memory_limit: str) -> duckdb.DuckDBPyConnection:
    """An empty `:memory:` database that reaches nothing outside, for ever.

    But for a copy of the tenant's rows at COPY_DESCRIPTOR, when there is one: sealed memory.
    """
    connection = duckdb.connect(":memory:", config={**_SETTINGS, "memory_limit": memory_limit})
    copy = f"{os.path.realpath('/proc/self')}/fd/{COPY_DESCRIPTOR}"  # as DuckDB spells it
    paths = ", ".join(f"'{copy}{ending}'" for ending in _COPY_ENDINGS)
    connection.execute(f"SET allowed_paths = [{paths}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def _is_memory(refusal: BaseException) -> bool:
    return isinstance(refusal, (MemoryError, duckdb.OutOfMemoryException))


def _warm(connection: duckdb.DuckDBPyConnection) -> None:
    """Pay for lazy imports and the first parse before anybody waits."""
    connection.execute("SELECT json_serialize_sql('SELECT 1')").fetchall()
    connection.register("warm", pa.table({"a": pa.array([0], pa.timestamp("us"))}))
    reader: Any = connection.sql("SELECT max(a) FROM warm").to_arrow_reader(1)
    reader.read_all().to_pylist()
    connection.unregister("warm")


def _text(message: Message) -> str:
    return str(message.body["sql"])


def _tree(connection: duckdb.DuckDBPyConnection, sql: str) -> bytes:
    rows = connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()
    return str(rows[0][0]).encode()


def _attach(connection: duckdb.DuckDBPyConnection, channel: Channel) -> None:
    _, (descriptor,), _, _ = socket.recv_fds(channel.socket, 1, 1)
    os.dup2(descriptor, COPY_DESCRIPTOR, inheritable=False)
    os.close(descriptor)
    connection.execute(f"ATTACH '/proc/self/fd/{COPY_DESCRIPTOR}' AS copied (READ_ONLY)")


def _load(connection: duckdb.DuckDBPyConnection, message: Message) -> None:
    """The rows of a view, or those that the copy lacks: `add`, or `replace` rows by `index`."""
    name, onto = str(message.body["view"]), message.body.get("onto")
    table = name if onto is None else f"later_{name}"
    if onto is not None and not message.payload:
        connection.execute(f'CREATE VIEW "{name}" AS SELECT * FROM copied."{name}"')  # noqa: S608
        return
    with pa.ipc.open_stream(pa.py_buffer(message.payload)) as stream:
        connection.register("incoming", stream.read_all())
    connection.execute(f'CREATE TABLE "{table}" AS SELECT * FROM incoming')  # noqa: S608 - ours
    connection.unregister("incoming")
    if onto is not None:
        but = f'ANTI JOIN "{table}" USING ("index")' if onto == "replace" else ""
        connection.execute(
            f'CREATE VIEW "{name}" AS SELECT * FROM copied."{name}" {but} '  # noqa: S608 - ours
            f'UNION ALL SELECT * FROM "{table}"'
        )


def _run(connection: duckdb.DuckDBPyConnection, message: Message, channel: Channel) -> None:
    body = message.body
    bytes_max = body["bytes_max"]
    rows = results.take(
        connection.sql(_text(message)), rows_max=body["rows_max"], bytes_max=bytes_max
    )
    if body["form"] == "arrow":
        payload = results.to_arrow(rows, results.Shown.read(bytes(message.payload)))
    else:
        payload = results.to_json(rows)
    if len(payload) > bytes_max:
        raise results.TooMuch
    columns = [{"name": field.name, "type": str(field.type)} for field in rows.schema]
    channel.send(
        "answer", payload=payload, columns=columns, rows=rows.count, truncated=rows.is_truncated
    )
