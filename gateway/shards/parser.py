"""Child: read hostile file bytes and send Arrow batches. It has no keys, files or network.

Descriptors: `files` (ask the sealer for byte ranges), `stream` (a plan, batches, done or
refused, to the sealer). The channel to control stays silent: its end is the order to die.
"""

from __future__ import annotations

import socket
import threading
from typing import Any

import pyarrow as pa

from gateway.errors import GatewayError, SourceRefused
from gateway.process.channel import Channel, ChannelClosed
from gateway.shards.csv_source import CsvSource
from gateway.shards.json_source import JsonSource
from gateway.shards.memory import keep_small
from gateway.shards.partitions import with_partitions
from gateway.shards.remote_file import RemoteFile
from gateway.shards.sources import ArrowSource, ParquetSource, Source, kind_of


def main(channel: Channel, options: dict[str, Any]) -> None:
    """Serve one registration, then end."""
    keep_small()
    stream = Channel(socket.socket(fileno=options["descriptors"]["stream"]))
    files = Channel(socket.socket(fileno=options["descriptors"]["files"]))
    names = [str(file["name"]) for file in options["files"]]
    partitions = [dict(file["partition"]) for file in options["files"]]
    threading.Thread(target=_die_with, args=(channel,), daemon=True).start()
    try:
        _Parser(stream, files, (names, partitions), options["profile"]).run()
    except SourceRefused as refusal:
        stream.send("refused", message=refusal.message, advice=refusal.advice)
    except GatewayError as error:
        stream.send("refused", message=error.message, advice=None)
    except MemoryError:
        stream.send(
            "refused",
            message="the file needs more memory than a parser may use",
            advice="write it again in row groups or record batches of at most 32 MiB",
        )
    except UnicodeDecodeError:
        stream.send(
            "refused",
            message="a name in the file is not UTF-8",
            advice="rename its columns and write the file again",
        )
    except Exception as error:  # noqa: BLE001 - whatever a file does to its reader is its refusal
        if isinstance(error, ChannelClosed):
            return
        # Arrow's own text may quote values, so only its kind is passed on.
        stream.send(
            "refused",
            message=f"the file is damaged or not what it claims to be ({type(error).__name__})",
            advice="open it with the program that wrote it and write it again",
        )
    finally:
        stream.close()
        files.close()


def _die_with(channel: Channel) -> None:
    try:
        channel.receive()
    except ChannelClosed:
        import os

        os._exit(0)


class _Parser:
    """One registration."""

    def __init__(
        self,
        stream: Channel,
        files: Channel,
        told: tuple[list[str], list[dict[str, str]]],
        profile: str | None,
    ) -> None:
        self._stream, self._profile = stream, profile
        self._names, self._partitions = told
        sizes = files.call("open").body["sizes"]
        self._files = [RemoteFile(files, n, size) for n, size in enumerate(sizes)]
        self._done = 0

    def run(self) -> None:
        """Plan, then batches."""
        sources = self._sources()
        schema = sources[0].schema
        for name, source in zip(self._names, sources, strict=True):
            _check_same(name, source.schema, schema)
        whole = set.intersection(
            *(source.whole(self._working, self._profile) for source in sources)
        )
        plain = pa.schema([pa.field(f.name, f.type, metadata=f.metadata) for f in schema])
        self._stream.send(
            "plan",
            memoryview(plain.serialize()).cast("B"),
            rows=sum(source.rows() for source in sources),
            whole=sorted(whole),
            formats=[source.format for source in sources],
        )
        for source in sources:
            for batch in source.batches():
                self._stream.send("batch", memoryview(batch.serialize()).cast("B"))
        self._stream.send("done")

    def _sources(self) -> list[Source]:
        sources: list[Source] = []
        types: dict[str, Any] = {}
        for name, file in zip(self._names, self._files, strict=True):
            try:
                sources.append(self._source(file, types))
            except SourceRefused as refusal:
                if len(self._files) == 1:
                    raise
                raise SourceRefused(
                    f"`{name[:80]}`: {refusal.message}", advice=refusal.advice
                ) from refusal
        # A later file of text may have widened the types of an earlier one.
        settled = [
            type(source)(file, self._working, types=types)
            if isinstance(source, CsvSource | JsonSource) and source.types != types
            else source
            for file, source in zip(self._files, sources, strict=True)
        ]
        return with_partitions(settled, self._partitions)

    def _source(self, file: RemoteFile, types: dict[str, Any]) -> Source:
        kind = kind_of(file)
        if kind == "parquet":
            return ParquetSource(file)
        if kind == "arrow":
            return ArrowSource(file)
        reads = JsonSource if kind == "jsonl" else CsvSource
        source = reads(file, self._working, types=types)
        types.update(source.types)
        return source

    def _working(self, fraction: float) -> None:
        self._stream.send("working", fraction=fraction)


def _difference(schema: Any, first: Any) -> str:
    for name in first.names:
        if name not in schema.names:
            return f"no `{name[:80]}`"
    for name in schema.names:
        if name not in first.names:
            return f"a further `{name[:80]}`"
    return "another order"


def _check_same(name: str, schema: Any, first: Any) -> None:
    if schema.names != first.names:
        raise SourceRefused(
            f"`{name[:80]}` has other columns than the first file: {_difference(schema, first)}",
            advice="register files of one schema together",
        )
    for mine, theirs in zip(schema, first, strict=True):
        if mine.type != theirs.type:
            raise SourceRefused(
                f"column `{mine.name[:80]}` of `{name[:80]}` is `{mine.type}`,"
                f" in the first file `{theirs.type}`",
                advice="register files of one schema together",
            )
