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
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

from gateway.errors import IntegrityError, Unavailable
from gateway.lineage import expiry, rows, schema, seal

# An append of more than one row group (122,880 rows) would write the main file outside a
# checkpoint and break the seal. Most events are a few rows of a table; a claim is up to
# ROWS_OF_EVENT_MAX, so rows are counted every so many events.
BATCH_EVENTS_MAX = 4096
ROWS_OF_EVENT_MAX = 4096
ROWS_MAX = 50_000
_COUNTED_EVERY = 16

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
        directory.mkdir(parents=True, exist_ok=True)
        self.rebuilt_because: str | None = None
        self.projected, self.leaf = 0, ""
        self.generation = 0  # of the open file: what was read from another is worth nothing
        self.taken_away: Callable[[], None] = lambda: None  # called when rows went
        self._open()

    def _open(self) -> None:
        try:
            self._open_sealed()
        except (IntegrityError, OSError, duckdb.Error) as cause:
            self._discard(str(cause))
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
        self._known_sets.clear()
        self._remove("", ".wal", ".wal.recovery", ".wal.checkpoint")
        self._seal_path.unlink(missing_ok=True)

    def _remove(self, *endings: str) -> None:
        for ending in endings:
            Path(f"{self._path}{ending}").unlink(missing_ok=True)

    def _let_go(self) -> None:
        self.taken_away()
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
        batch = rows.new_batch()
        for place, (event, leaf) in enumerate(fresh, 1):
            rows.add(batch, event)
            is_full = not place % _COUNTED_EVERY and max(map(len, batch.values())) > ROWS_MAX
            if is_full or place == len(fresh):
                takes_away = bool(batch.get("expiring"))
                self._write(batch, event, leaf)
                if takes_away:
                    self.taken_away()
                self.projected, self.leaf = event.index + 1, leaf
                batch = rows.new_batch()

    def _write(self, batch: rows.Batch, last: rows.EventLike, leaf: str) -> None:
        parts = [p for p in batch.pop("column_set_part", ()) if p[0] not in self._known_sets]
        expiring: list[Any] = batch.pop("expiring", [])
        tables = {name: lines for name, lines in batch.items() if lines}
        incoming = {
            name: schema.arrow_table(schema.TABLES[name], lines) for name, lines in tables.items()
        }
        if parts:
            incoming["column_set_part"] = schema.arrow_table(schema.COLUMN_SET_PART, parts)
        connection = self._connection
        for name, table in incoming.items():
            connection.register(f"incoming_{name}", table)
        connection.begin()
        try:
            for name in tables:
                special = _GRANTED if name == "granted" else None
                connection.execute(special or f"INSERT INTO {name} SELECT * FROM incoming_{name}")  # noqa: S608
            if parts:
                connection.execute(_COLUMN_SETS)
            expiry.expire(connection, expiring)
            connection.execute(
                "UPDATE progress SET projected = ?, leaf = ?, time = make_timestamp(?)",
                [last.index + 1, leaf, rows.microseconds(last.time)],
            )
            connection.commit()
        except BaseException:
            connection.rollback()
            raise
        finally:
            for name in incoming:
                connection.unregister(f"incoming_{name}")
        self._known_sets.update(part[0] for part in parts)
        if len(self._known_sets) > 65_536:  # noqa: PLR2004 - forgotten sets are only asked again
            self._known_sets.clear()

    def seal(self) -> bool:
        """Move the write-ahead log into the file and seal it; False when readers hinder it."""
        try:
            self._connection.execute("CHECKPOINT")
        except duckdb.TransactionException:
            return False
        log = Path(f"{self._path}.wal")
        if log.exists() and log.stat().st_size:
            return False
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
            if not hasattr(self, "_connection"):
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
