"""What can be registered: paths, patterns, `-`, Arrow tables; URIs of databases and buckets.

Everything is read here, where its owner is; the gateway gets bytes and opens no path or URL.
Files go as they are; tables and results of queries as an Arrow IPC stream, batch by batch.
"""

from __future__ import annotations

import glob
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, urlencode

from gateway.domain.partition import is_data, partition_of
from gateway.errors import InvalidInput
from gateway.ports import SourceFile

_URI = re.compile(r"([a-z][a-z0-9+.-]*)://")
_SLICE_BYTES = 8 << 20  # of one IPC message


def files_of(
    sources: Sequence[Any], query: str | None = None, decrypt_with: str | Path | None = None
) -> list[SourceFile]:
    """What is to be uploaded, in order; nothing is read yet but footers of encrypted files.

    Args:
        sources: paths, patterns, `-`, URIs and Arrow tables.
        query: SQL, for a database.
        decrypt_with: a file of keys; every source is then a path to encrypted Parquet.

    Raises:
        InvalidInput: a source is none, cannot be read, or there is none.
        ConnectorError: no plug answers to a URI's scheme, or its library is missing.
    """
    found: list[SourceFile] = []
    for source in sources:
        if decrypt_with is not None:
            found += _decrypted(source, Path(decrypt_with))
        else:
            found += _files(source, query)
    if not found:
        raise InvalidInput("there is nothing to register", advice="name at least one file")
    return found


def _files(source: Any, query: str | None) -> Sequence[SourceFile]:
    if isinstance(source, str) and _URI.match(source):
        return _plugged(source, query)
    if query is not None:
        raise InvalidInput("a query needs a database", advice="give its URI: `postgresql://…`")
    if source == "-":
        return [SourceFile(name="standard input", open=lambda: nullcontext(sys.stdin.buffer))]
    if isinstance(source, (str, Path)):
        return _local(str(source))
    if hasattr(source, "__arrow_c_stream__"):
        return [SourceFile(name="table.arrow", open=lambda: nullcontext(source))]
    raise InvalidInput(
        f"a {type(source).__name__} is not a source",
        advice="give a path, a URI or an Arrow table",
    )


def _plugged(uri: str, query: str | None) -> Sequence[SourceFile]:
    from gateway import discovery  # late: what reads entry points is not light

    return discovery.connect("sources", uri, query=query).files()  # type: ignore[no-any-return]


def _decrypted(source: Any, keys: Path) -> Iterator[SourceFile]:
    """Encrypted Parquet files, which are opened here: no key of theirs leaves this process."""
    if not isinstance(source, (str, Path)) or source == "-" or _URI.match(str(source)):
        raise InvalidInput(
            "only Parquet files on this machine can be decrypted",
            advice="give their paths, or leave --decrypt-with out",
        )
    for path, relative in _paths(str(source)):
        given = urlencode({"keys": keys.resolve()})
        (file,) = _plugged(f"parquet-encrypted://{quote(str(path.resolve()))}?{given}", None)
        yield replace(file, name=relative, partition=partition_of(relative))


def _local(text: str) -> list[SourceFile]:
    return [_file(path, relative) for path, relative in _paths(text)]


def _paths(text: str) -> list[tuple[Path, str]]:
    """Files, each with its path below the place that was named."""
    path = Path(text)
    if path.is_dir():
        inside = (p for p in sorted(path.rglob("*")) if p.is_file())
        found = [(p, p.relative_to(path).as_posix()) for p in inside]
        found = [(p, relative) for p, relative in found if is_data(relative)]
    elif not path.exists() and glob.has_magic(text):
        found = list(_matching(text))
    else:
        found = [(path, path.name)]
    if not found:
        raise InvalidInput(f"`{text}` matches no file", advice="name at least one file")
    return found


def _matching(pattern: str) -> Iterator[tuple[Path, str]]:
    """Files that match, with their paths below the part of the pattern that is fixed."""
    parts = Path(pattern).parts
    fixed = next(n for n, part in enumerate(parts) if glob.has_magic(part))
    root = Path(*parts[:fixed])
    for path in sorted(root.glob(str(Path(*parts[fixed:])))):
        relative = path.relative_to(root).as_posix()
        if path.is_file() and is_data(relative):
            yield path, relative


def _file(path: Path, relative: str) -> SourceFile:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2) if file.seekable() else None
    except OSError as cause:
        raise InvalidInput(f"`{path}` cannot be read: {cause.strerror or 'no file'}") from cause
    return SourceFile(
        name=relative, open=lambda: _opened(path), bytes=size, partition=partition_of(relative)
    )


def _opened(path: Path) -> AbstractContextManager[BinaryIO]:
    try:
        return path.open("rb")
    except OSError as cause:
        raise InvalidInput(f"`{path}` cannot be read: {cause.strerror}") from cause


def parts_of(opened: Any, part_bytes: int) -> Iterator[bytes]:
    """The bytes of an opened file, or of an Arrow stream as IPC, cut into parts of this size."""
    reader = opened if hasattr(opened, "read") else _IpcBytes(opened)
    while True:
        part = bytearray()
        while len(part) < part_bytes and (piece := reader.read(part_bytes - len(part))):
            part += piece
        if not part:
            return
        yield bytes(part)


class _IpcBytes:
    """An Arrow stream as the bytes of an IPC stream, made as they are read."""

    def __init__(self, stream: Any) -> None:
        import pyarrow as pa

        is_reader = isinstance(stream, pa.RecordBatchReader)
        self._reader = stream if is_reader else pa.RecordBatchReader.from_stream(stream)
        self._batches = self._slices()
        self._sink = _Sink()
        self._writer: Any = pa.ipc.new_stream(self._sink, self._reader.schema)

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; empty at the end."""
        while not self._sink.data and self._writer is not None:
            batch = next(self._batches, None)
            if batch is None:
                self._writer.close()
                self._writer = None
            else:
                self._writer.write_batch(batch)
        piece = bytes(self._sink.data[:size])
        del self._sink.data[:size]
        return piece

    def _slices(self) -> Iterator[Any]:
        for batch in self._reader:
            rows = max(1, len(batch) * _SLICE_BYTES // max(batch.nbytes, 1))
            for at in range(0, len(batch), rows):
                yield batch.slice(at, rows)


class _Sink:
    """Takes what the IPC writer writes."""

    closed = False

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: Any) -> int:
        self.data += memoryview(data)
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        """Nothing to close."""
