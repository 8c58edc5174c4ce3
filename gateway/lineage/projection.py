"""The DuckDB file: opened or rebuilt, appended to, sealed, read. This process alone owns it.

One transaction per batch holds the rows and the progress row, so that a kill at any moment
leaves no event half in or twice in. The file is never the truth: whatever is wrong with it,
it is removed and projected again from event 0.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb
import pyarrow as pa

from gateway import failpoints
from gateway.errors import IntegrityError, Unavailable
from gateway.lineage import expiry, rows, schema, seal
from gateway.lineage.batch import PARTS, Batch, Prepared

_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "wal_autocheckpoint": "1TB",  # checkpoints are ours alone, see seal.py
    "memory_limit": "1GB",
    "threads": 2,
    "python_enable_replacements": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "allow_persistent_secrets": False,
}

_COLUMN_SETS = """
INSERT INTO column_set
SELECT p.id,
       list(coalesce(c.name, '#' || p.field_id) ORDER BY p.place),
       coalesce(list(coalesce(c.name, '#' || p.field_id) || '=' || p.mask ORDER BY p.place)
                FILTER (WHERE p.mask IS NOT NULL), []),
       coalesce(list(coalesce(c.name, '#' || p.field_id) ORDER BY p.place)
                FILTER (WHERE p.mask IS NOT NULL), [])
FROM (SELECT DISTINCT * FROM incoming_column_set_part) p
LEFT JOIN version_column c USING (dataset_id, version, field_id)
WHERE p.id NOT IN (SELECT id FROM column_set)
GROUP BY p.id
"""
_GRANTED = """
INSERT INTO granted
SELECT DISTINCT ON (grant_id) * FROM incoming_granted
WHERE grant_id NOT IN (SELECT grant_id FROM granted) ORDER BY grant_id, idx
"""


class Projection:
    """The open projection. `append` and `seal` belong to one thread, `reading` to any."""

    def __init__(self, directory: Path, key: bytes) -> None:
        """Open what is in `directory` if its seal under `key` holds; else begin at event 0."""
        self.directory = directory
        self._path = directory / "lineage.duckdb"
        self._seal_path = directory / "lineage.seal"
        self._key = key
        self._known_sets: set[object] = set()
        self._opening = threading.Lock()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.rebuilt_because: str | None = None
        self.projected, self.leaf = 0, ""
        self.generation = 0  # of the open file: what was read from another is worth nothing
        self.taken_away: Callable[[], None] = lambda: None  # called when rows went
        self._open()

    def _open(self) -> None:
        try:
            self._open_sealed()
        except (IntegrityError, OSError, duckdb.Error) as cause:
            self._discard(_why(cause))
            self._open_empty()

    def _open_sealed(self) -> None:
        known = seal.read(self._seal_path, self._key)
        if known.format != schema.FORMAT:
            raise IntegrityError("the lineage projection is of another version")
        self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        if seal.file_digest(self._descriptor) != known.file:
            raise IntegrityError("the lineage projection was changed by someone else")
        self._remove(".wal", ".wal.recovery", ".wal.checkpoint")
        self._connection = self._connect()
        found = self._connection.execute("SELECT format, projected, leaf FROM progress").fetchall()
        if found != [(known.format, known.projected, known.leaf)]:
            raise IntegrityError("the lineage projection does not hold what its seal says")
        self.projected, self.leaf = known.projected, known.leaf

    def _open_empty(self) -> None:
        self._connection = self._connect()
        self._connection.begin()
        for statement in schema.ddl():
            self._connection.execute(statement)
        self._connection.commit()
        self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        self.projected, self.leaf = 0, ""
        self.seal()

    def _connect(self) -> duckdb.DuckDBPyConnection:
        self.generation += 1
        spill = self._path.with_suffix(".spill")
        shutil.rmtree(spill, ignore_errors=True)
        connection = duckdb.connect(
            str(self._path), config={**_SETTINGS, "temp_directory": str(spill)}
        )
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        return connection

    def _discard(self, because: str) -> None:
        if self._path.exists() or self._seal_path.exists():
            self.rebuilt_because = because
        self._let_go()
        self.projected, self.leaf = 0, ""  # even if nothing can be begun anew
        self._remove("", ".wal", ".wal.recovery", ".wal.checkpoint")
        _clear(self._seal_path)

    def _remove(self, *endings: str) -> None:
        for ending in endings:
            _clear(Path(f"{self._path}{ending}"))

    def _let_go(self) -> None:
        self.taken_away()
        self._known_sets.clear()  # what opens next may not have them
        connection = getattr(self, "_connection", None)
        if connection is not None:
            connection.close()
            del self._connection
        descriptor = getattr(self, "_descriptor", None)
        if descriptor is not None:
            os.close(descriptor)
            del self._descriptor

    def rebuild(self, because: str) -> None:
        """Throw the file away and begin at event 0; `because` is shown by `status`."""
        with self._opening:
            self._discard(because)
            self.rebuilt_because = because
            self._open_empty()

    @property
    def is_open(self) -> bool:
        """Whether there is a file to project into; else `reopen` failed."""
        return hasattr(self, "_connection")

    def reopen(self) -> None:
        """Open again after DuckDB invalidated itself (a full disk does that)."""
        with self._opening:
            self._let_go()
            self._open()

    def append(self, events: Sequence[tuple[rows.EventLike, str]]) -> None:
        """Project events with their leaf hashes, each whole or not at all; known ones are skipped.

        All are one transaction, unless they are more rows than one may hold.

        Raises:
            IntegrityError: an event is missing between these and the projected ones.
        """
        fresh = [pair for pair in events if pair[0].index >= self.projected]
        if not fresh:
            return
        if [event.index for event, _ in fresh] != list(
            range(self.projected, self.projected + len(fresh))
        ):
            raise IntegrityError(f"event {self.projected} is missing from the journal's tail")
        batch = Batch()
        for place, (event, leaf) in enumerate(fresh, 1):
            batch.add(event)
            if batch.is_full or place == len(fresh):
                self.put(batch.prepared(leaf))
                batch = Batch()

    def put(self, batch: Prepared) -> None:
        """Put in the rows of the events that come next, all or none.

        Raises:
            IntegrityError: they are not what comes next.
        """
        if batch.first != self.projected:
            raise IntegrityError(f"event {self.projected} is missing from the journal's tail")
        parts = self._unknown_sets(batch.tables.get(PARTS))
        self._insert(batch, parts)
        if parts is not None:
            self._known_sets.update(parts.column("id").to_pylist())
        if len(self._known_sets) > 65_536:  # noqa: PLR2004 - forgotten sets are only asked again
            self._known_sets.clear()
        if batch.expiring:
            self.taken_away()
        self.projected, self.leaf = batch.size, batch.leaf

    def _insert(self, batch: Prepared, parts: pa.Table | None) -> None:
        tables = {name: table for name, table in batch.tables.items() if name != PARTS}
        incoming = tables if parts is None else tables | {PARTS: parts}
        connection = self._connection
        for name, table in incoming.items():
            connection.register(f"incoming_{name}", table)
        connection.begin()
        try:
            for name in tables:
                special = _GRANTED if name == "granted" else None
                connection.execute(special or f"INSERT INTO {name} SELECT * FROM incoming_{name}")  # noqa: S608
            if parts is not None:
                connection.execute(_COLUMN_SETS)
            expiry.expire(connection, batch.expiring)
            connection.execute(
                "UPDATE progress SET projected = ?, leaf = ?, time = make_timestamp(?)",
                [batch.size, batch.leaf, batch.time],
            )
            connection.commit()
        except BaseException:
            with suppress(duckdb.Error):  # after a full disk there is nothing to roll back
                connection.rollback()
            raise
        finally:
            for name in incoming:
                connection.unregister(f"incoming_{name}")

    def _unknown_sets(self, parts: pa.Table | None) -> pa.Table | None:
        """Parts of column sets that may not be there yet."""
        if parts is None:
            return None
        names = parts.column("id").to_pylist()
        wanted = [place for place, name in enumerate(names) if name not in self._known_sets]
        return parts.take(wanted) if wanted else None

    def seal(self) -> bool:
        """Move the write-ahead log into the file and seal it; False when readers hinder it."""
        try:
            self._connection.execute("CHECKPOINT")
        except duckdb.TransactionException:
            return False
        log = Path(f"{self._path}.wal")
        if log.exists() and log.stat().st_size:
            return False
        failpoints.reach("lineage.checkpoint")
        value = seal.Seal(
            format=schema.FORMAT,
            projected=self.projected,
            leaf=self.leaf,
            file=seal.file_digest(self._descriptor),
        )
        seal.write(self._seal_path, value, self._key)
        return True

    @contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor on one snapshot: what is read together belongs together."""
        with self._opening:
            if not self.is_open:
                raise Unavailable("lineage is being opened again")
            cursor = self._connection.cursor()
        try:
            cursor.begin()
            yield cursor
            cursor.rollback()
        finally:
            cursor.close()

    @property
    def unsealed_bytes(self) -> int:
        """Size of the write-ahead log: what a kill would make us project again."""
        try:
            return Path(f"{self._path}.wal").stat().st_size
        except FileNotFoundError:
            return 0

    @property
    def file_bytes(self) -> int:
        """Size of the sealed file."""
        return self._path.stat().st_size

    def close(self) -> None:
        """Seal and let go of the file."""
        with self._opening:
            self.seal()
            self._let_go()


def _why(cause: Exception) -> str:
    """For whoever runs the gateway, and for nobody else to learn a path from."""
    return (
        str(cause) if isinstance(cause, IntegrityError) else f"not opened: {type(cause).__name__}"
    )


def _clear(path: Path) -> None:
    """Free this name. A directory there is nothing of ours: it is moved aside, not emptied."""
    if path.is_dir() and not path.is_symlink():
        path.rename(path.with_name(f"{path.name}.aside-{os.urandom(4).hex()}"))
    else:
        path.unlink(missing_ok=True)
