"""Project the whole journal into a new file, while no server runs: `gateway lineage rebuild`.

A server does the same by itself when the file is missing, edited or of another version; this is
for whoever does not want to wait for it, or wants to see it done. Rows of closed files are made
in children, so that this process has little else to do than to put them in.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from gateway.journal import apart, segments
from gateway.journal.reader import Reader
from gateway.journal.segments import Segment
from gateway.lineage import file_rows
from gateway.lineage.batch import Batch
from gateway.lineage.projection import Projection
from gateway.lineage.recorded import tail_of

Progress = Callable[[float, str], None]  # 0..1 and words


def rebuild(
    directory: Path,
    seal_key: bytes,
    journal: Path,
    log_key: bytes,
    progress: Progress,
    *,
    processes: int | None = None,
) -> int:
    """Throw the projection away and make it anew; returns how many events it holds.

    Args:
        directory: of the projection.
        seal_key: 32 bytes, kept in the vault.
        journal: directory of the journal.
        log_key: its 32-byte public key: only what it signed is projected.
        progress: called now and then.
        processes: that read files that are closed; 0 = none but this one, None = as is worth it.

    Raises:
        IntegrityError: the journal was changed; the projection holds what came before.
    """
    files = segments.listed(journal) if journal.is_dir() else []
    projection = Projection(directory, seal_key)
    work = _Work(Reader(journal, log_key), projection, files, progress)
    try:
        projection.rebuild("asked for")
        if processes is None:
            processes = apart.processes_for(files)
        if processes and work.reader.seek(0):
            work.take_files(processes, log_key)
        work.take_rest()
        return projection.projected
    finally:
        projection.close()


@dataclass(frozen=True, slots=True)
class _Work:
    reader: Reader
    projection: Projection
    files: list[Segment]
    progress: Progress

    def take_files(self, processes: int, log_key: bytes) -> None:
        """Put in what children make of the closed files, up to the first that does not hold."""
        answers = apart.answers(self.files, processes, file_rows.__name__, log_key)
        with closing(answers):
            for answer in answers:
                if answer is None or not self.reader.take_over(answer.read):
                    return
                for batch in file_rows.unpacked(answer.payload):
                    self.projection.put(batch)
                self._tell()
                if not self.reader.enter_next():
                    return

    def take_rest(self) -> None:
        """Read on from there."""
        batch, leaf = Batch(), b""
        for event, leaf in tail_of(self.reader)(self.projection.projected):
            batch.add(event)
            if batch.is_full:
                self.projection.put(batch.prepared(leaf.hex()))
                batch = Batch()
                self._tell()
        if batch.events:
            self.projection.put(batch.prepared(leaf.hex()))
        self._tell()

    def _tell(self) -> None:
        sizes = {file.first: file.path.stat().st_size for file in self.files}
        share = 0.0
        if sizes and self.projection.projected:
            here = self.reader.read()
            done = here.offset + sum(size for first, size in sizes.items() if first < here.first)
            share = done / max(sum(sizes.values()), 1)
        self.progress(min(share, 0.99), f"{self.projection.projected} events")
