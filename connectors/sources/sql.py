"""The rows of a query, by ADBC (extra `[sources]`): PostgreSQL and SQLite.

`postgresql://user@host/database` goes to libpq as it is. A password is never part of the URI,
which others can see in the list of processes: libpq takes it from `PGPASSWORD`, `PGPASSFILE`
or `~/.pgpass`. `sqlite:///file.db` is a path relative to here, `sqlite:////data/file.db` an
absolute one. Both are opened for reading only; rows come in batches, never all at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, quote, unquote

from gateway.errors import ConnectorError, InvalidInput
from gateway.ports import SourceFile

_SECRET = ("password", "sslpassword")


def postgresql(parts: SplitResult, *, query: str | None = None) -> Query:
    """The plug of `postgresql://`; raises InvalidInput for a password in the URI."""
    if parts.password is not None or any(name in parse_qs(parts.query) for name in _SECRET):
        raise InvalidInput(
            "the URI holds a password, which others can see",
            advice="write it into ~/.pgpass or the variable PGPASSWORD and leave it out",
        )
    return Query("adbc_driver_postgresql", parts.geturl(), query, "SET TRANSACTION READ ONLY")


def sqlite(parts: SplitResult, *, query: str | None = None) -> Query:
    """The plug of `sqlite:///`; raises InvalidInput when there is no such file."""
    path = Path(unquote(parts.path[1:]))
    if parts.netloc or parts.query or not path.is_file():
        raise InvalidInput(
            f"there is no SQLite file `{path}`",
            advice="write `sqlite:///file.db`, with four slashes for an absolute path",
        )
    return Query("adbc_driver_sqlite", f"file:{quote(str(path))}?mode=ro", query)


class Query:
    """A `gateway.ports.Source` of one result."""

    def __init__(self, driver: str, uri: str, query: str | None, first: str | None = None) -> None:
        if not (query or "").strip():
            raise InvalidInput(
                "which rows of the database?", advice="add --query 'SELECT … FROM …'"
            )
        self._driver, self._uri, self._query, self._first = driver, uri, query, first

    def files(self) -> Sequence[SourceFile]:
        """The result."""
        return [SourceFile(name="query", open=self._result)]

    @contextmanager
    def _result(self) -> Iterator[Any]:
        dbapi, path = _library(self._driver)
        try:
            connection = dbapi.connect(driver=path, db_kwargs={"uri": self._uri})
        except dbapi.Error as cause:
            raise ConnectorError(
                f"the database cannot be opened: {_line(cause)}", advice="check the URI"
            ) from cause
        with connection, connection.cursor() as cursor:
            try:
                if self._first:
                    cursor.execute(self._first)
                cursor.execute(self._query)
                yield _told(cursor.fetch_record_batch(), dbapi)
            except dbapi.Error as cause:
                raise _failed(cause) from cause


def _told(reader: Any, dbapi: Any) -> Any:
    """The result's batches; an error of the driver between two of them is one of the query."""
    import pyarrow as pa

    def batches() -> Iterator[Any]:
        try:
            yield from reader
        except (dbapi.Error, pa.ArrowException, OSError) as cause:
            raise _failed(cause) from cause

    return pa.RecordBatchReader.from_batches(reader.schema, batches())


def _failed(cause: Exception) -> InvalidInput:
    return InvalidInput(
        f"the query failed: {_line(cause)}",
        advice="try it with the database's own client; CAST columns whose type varies",
    )


def _line(cause: Exception) -> str:
    return " ".join(str(cause).split())[:400]


def _library(driver: str) -> tuple[Any, str]:
    try:
        import importlib

        from adbc_driver_manager import dbapi

        return dbapi, importlib.import_module(driver)._driver_path()  # noqa: SLF001 - what its own connect() does
    except ImportError as cause:
        raise ConnectorError(
            "databases need ADBC", advice="pip install 'dataset-gateway[sources]'"
        ) from cause
