"""Copies of one tenant's rows that the sandboxes of its statements share, so that none loads them.

A copy is a DuckDB file in sealed memory: a child attaches it read-only within milliseconds, and
nobody can change it. It holds what the tenant may see up to one event; what came later is loaded
beside it (`later`), so an answer is as complete as without one. It is never the truth: where there
is none, or it cannot be made, a statement's rows are loaded as for the first time.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from gateway.errors import GatewayError, LimitExceeded
from gateway.lineage.projection import Projection
from gateway.lineage.views import AUDITOR_VIEWS

COPIES_BYTES_MAX = 256 << 20  # of all tenants; the one that was asked longest ago goes first
WORTH_BYTES = 1 << 20  # who had to load so much gets a copy, or a newer one
ROWS_MAX = 4_000_000  # of one copy
AGAIN_SECONDS, AGAIN_SECONDS_FAILED = 5.0, 300.0  # until another of the same tenant is made
_BATCH_ROWS = 65_536
_READ_BYTES = 1 << 20
_MAKING: dict[str, str | bool | int | float | list[str]] = {
    "threads": 1,
    "memory_limit": "512MB",
    "temp_directory": "",
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
# Of each view the tables whose events bring it rows. Rows of some say something of events that
# come after their own: which tables hold those, by which column, and what the view calls it.
_ROWS_FROM = {
    "read": ("confirmed",),
    "decision": ("decision",),
    "grant": ("granted",),
    "lease": ("lease",),
    "denial": ("decision", "stream_refused", "request_refused"),
    "policy": ("policy",),
    "release": ("key_release",),
    "question": ("question",),
    "request": ("access_request",),
    "claim": ("claim",),
    "claim_edge": ("claim_edge",),
    "claim_column": ("claim_column",),
    "expired": ("expired",),
    "tenant_change": ("tenant_change",),
}
_SAYS_LATER = {
    "grant": ("revocation", "grant_id", '"grant"'),
    "lease": ("lease_change", "lease", "lease"),
    "request": ("request_answer", "request", "request"),
}


@dataclass(frozen=True, slots=True)
class Copy:
    """One tenant's rows of every view, complete for `projected` events."""

    descriptor: int
    size: int  # bytes
    projected: int
    generation: int  # of the projection that it was made from


class Copies:
    """The copies of the tenants who ask; bounded, and gone with this process."""

    def __init__(self, projection: Projection) -> None:
        """Hold none yet; each is made beside the projection, in a file of seconds."""
        self._projection = projection
        self._directory = projection.directory / "copies"
        self._lock = threading.Lock()
        self._copies: OrderedDict[str, Copy] = OrderedDict()
        self._not_before: dict[str, float] = {}  # whose could not be made, to monotonic seconds
        self._is_closed = not hasattr(os, "memfd_create")
        shutil.rmtree(self._directory, ignore_errors=True)  # of a process that was killed

    @contextmanager
    def lent(self, tenant: str | None, source: duckdb.DuckDBPyConnection) -> Iterator[Copy | None]:
        """The tenant's copy, if what `source` reads still holds all that is in it; else None."""
        with self._lock:
            found = None if tenant is None else self._copies.get(tenant)
            if tenant is not None and found is not None:
                self._copies.move_to_end(tenant)
                found = replace(found, descriptor=os.dup(found.descriptor))
        if found is None:
            yield None
            return
        try:
            yield found if self._holds(found, source) else None
        finally:
            os.close(found.descriptor)

    def _holds(self, copy: Copy, source: duckdb.DuckDBPyConnection) -> bool:
        if copy.generation != self._projection.generation:
            return False
        ((expired,),) = source.execute("SELECT max(idx) FROM expired").fetchall()
        return expired is None or expired < copy.projected

    def is_worth(self, tenant: str, loaded: int) -> bool:
        """Whether a statement of the tenant that had to load so many bytes should not again."""
        with self._lock:
            known = self._copies.get(tenant)
            is_due = time.monotonic() >= self._not_before.get(tenant, 0.0)
        return is_due and loaded >= max(WORTH_BYTES, 0 if known is None else known.size // 4)

    def make(self, tenant: str) -> None:
        """Make the tenant's copy (anew), by one thread; quietly none when that fails."""
        if self._is_closed or time.monotonic() < self._not_before.get(tenant, 0.0):
            return
        try:
            self._keep(tenant, self._made(tenant))
            self._not_before[tenant] = time.monotonic() + AGAIN_SECONDS
        except (duckdb.Error, OSError, GatewayError):
            # Too many rows, no room, or lineage is being opened again: they are loaded instead.
            self._not_before[tenant] = time.monotonic() + AGAIN_SECONDS_FAILED

    def _made(self, tenant: str) -> Copy:
        generation = self._projection.generation
        self._directory.mkdir(mode=0o700, exist_ok=True)
        place = tempfile.TemporaryDirectory(dir=self._directory, ignore_cleanup_errors=True)
        with place as name:
            path, most = Path(name) / "copy.duckdb", ROWS_MAX
            with self._projection.reading() as source:
                ((projected,),) = source.execute("SELECT projected FROM progress").fetchall()
                with duckdb.connect(str(path), config=_MAKING) as database:
                    for view in AUDITOR_VIEWS:
                        most -= _fill(database, view, _batches(source, view, tenant, most))
            descriptor, size = _sealed(path)
        return Copy(descriptor, size, projected, generation)

    def _keep(self, tenant: str, copy: Copy) -> None:
        with self._lock:
            if self._is_closed or copy.generation != self._projection.generation:
                os.close(copy.descriptor)
                return
            self._drop(tenant)
            self._copies[tenant] = copy
            while sum(c.size for c in self._copies.values()) > COPIES_BYTES_MAX:
                self._drop(next(iter(self._copies)))

    def _drop(self, tenant: str) -> None:
        copy = self._copies.pop(tenant, None)
        if copy is not None:
            os.close(copy.descriptor)

    def clear(self) -> None:
        """Let go of all: rows went from the projection that may be in them."""
        with self._lock:
            for tenant in list(self._copies):
                self._drop(tenant)

    def close(self) -> None:
        """Let go of all, and make no more."""
        self._is_closed = True
        self.clear()


def later(view: str, start: int, source: duckdb.DuckDBPyConnection) -> tuple[str, str] | None:
    """SQL condition for the rows of `view` that a copy of `start` events lacks; None = no row.

    And whether they `add` to its rows, or `replace` some of them by `index`.
    """
    is_added = any(_has(table, start, source) for table in _ROWS_FROM[view])
    if view in _SAYS_LATER:
        table, key, column = _SAYS_LATER[view]
        if _has(table, start, source):
            about = f"SELECT {key} FROM {table} WHERE idx >= $start"  # noqa: S608 - ours
            return f'"index" >= $start OR {column} IN ({about})', "replace"
    return ('"index" >= $start', "add") if is_added else None


def _has(table: str, start: int, source: duckdb.DuckDBPyConnection) -> bool:
    sql = f"SELECT 1 FROM {table} WHERE idx >= ? LIMIT 1"  # noqa: S608 - a name of ours
    found = source.execute(sql, [start])
    return bool(found.fetchall())


def _batches(
    source: duckdb.DuckDBPyConnection, view: str, tenant: str, rows_max: int
) -> pa.RecordBatchReader:
    """The tenant's rows of a view; LimitExceeded while they are read when they are more."""
    side = {"tenant": tenant, "operator": False}
    reader: Any = source.sql(AUDITOR_VIEWS[view], params=side).to_arrow_reader(_BATCH_ROWS)

    def counted() -> Iterator[pa.RecordBatch]:
        rows = 0
        for batch in reader:
            rows += batch.num_rows
            if rows > rows_max:
                raise LimitExceeded(f"a copy has at most {ROWS_MAX} rows")
            yield batch

    return pa.RecordBatchReader.from_batches(reader.schema, counted())


def _fill(database: duckdb.DuckDBPyConnection, view: str, rows: pa.RecordBatchReader) -> int:
    database.register("incoming", rows)
    database.execute(f'CREATE TABLE "{view}" AS SELECT * FROM incoming')  # noqa: S608 - ours
    database.unregister("incoming")
    counted = f'SELECT count(*) FROM "{view}"'  # noqa: S608 - one of AUDITOR_VIEWS
    ((count,),) = database.execute(counted).fetchall()
    return int(count)


def _sealed(path: Path) -> tuple[int, int]:
    """The file as memory that nobody can change; its size."""
    descriptor, size = os.memfd_create("lineage-copy", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(_READ_BYTES):
                size += len(chunk)
                while chunk:
                    chunk = chunk[os.write(descriptor, chunk) :]
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, size
