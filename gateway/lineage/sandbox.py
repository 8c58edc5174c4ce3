"""The single-use child that runs one auditor's SQL over one tenant's rows, then dies.

It is started ahead of need, confined (no network, may write no file, bounded memory and CPU),
and holds a `:memory:` DuckDB without external access. It does three things in order: parse
text into a syntax tree (hostile text is parsed here, not in the lineage process), take the
tenant's rows as Arrow IPC, and run the statement once. Other tenants' rows are not filtered
out: they were never here.
"""

from __future__ import annotations

import io
from typing import Any

import duckdb
import pyarrow as pa

from gateway.lineage import answers
from gateway.process.channel import Channel, Message

MESSAGE_CHARS_MAX = 500
_BATCH_ROWS = 2048
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


class _TooMuch(Exception):
    """The result is over its byte limit."""


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
            elif message.kind == "load":
                _load(connection, message)
                channel.send("loaded")
            else:
                _run(connection, message, channel)
                return
        except _TooMuch:
            channel.send("refused", reason="result", text="the result is too large")
        except (duckdb.Error, MemoryError, ValueError, OverflowError) as refusal:
            reason = "memory" if _is_memory(refusal) else "sql"
            channel.send("refused", reason=reason, text=str(refusal)[:MESSAGE_CHARS_MAX])


def open_database(memory_limit: str) -> duckdb.DuckDBPyConnection:
    """An empty `:memory:` database that reaches nothing outside, for ever."""
    connection = duckdb.connect(":memory:", config={**_SETTINGS, "memory_limit": memory_limit})
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


def _load(connection: duckdb.DuckDBPyConnection, message: Message) -> None:
    name = str(message.body["view"])
    with pa.ipc.open_stream(pa.py_buffer(message.payload)) as stream:
        connection.register("incoming", stream.read_all())
    connection.execute(f'CREATE TABLE "{name}" AS SELECT * FROM incoming')  # noqa: S608 - ours
    connection.unregister("incoming")


def _run(connection: duckdb.DuckDBPyConnection, message: Message, channel: Channel) -> None:
    body = message.body
    reader: Any = connection.sql(_text(message)).to_arrow_reader(_BATCH_ROWS)
    batches, is_truncated = _take(reader, body["rows_max"], body["bytes_max"])
    payload = _ipc(reader.schema, batches) if body["form"] == "arrow" else _json(batches)
    if len(payload) > body["bytes_max"]:
        raise _TooMuch
    columns = [{"name": field.name, "type": str(field.type)} for field in reader.schema]
    rows = sum(batch.num_rows for batch in batches)
    channel.send("answer", payload=payload, columns=columns, rows=rows, truncated=is_truncated)


def _take(
    reader: pa.RecordBatchReader, rows_max: int, bytes_max: int
) -> tuple[list[pa.RecordBatch], bool]:
    batches: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in reader:
        size += batch.nbytes
        if size > bytes_max:
            raise _TooMuch
        batches.append(batch.slice(0, rows_max - rows))
        rows += batch.num_rows
        if rows > rows_max:
            return batches, True
    return batches, False


def _ipc(schema: pa.Schema, batches: list[pa.RecordBatch]) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue()


def _json(batches: list[pa.RecordBatch]) -> bytes:
    columns = [
        [value for batch in batches for value in batch.column(place).to_pylist()]
        for place in range(batches[0].num_columns if batches else 0)
    ]
    return answers.to_json(zip(*columns, strict=True))
