"""What an opening must know of the events before a snapshot, so that it need not read them.

Saved with the catalogue's snapshot, under its signature and seal. Taken by the journal's own
thread in the course of a group commit: events, chains and catalogue are then of one moment,
and no append waits for more than a copy.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, TypeVar

from gateway.journal.chains import ChainEnd, Chains
from gateway.journal.checkpoint import parse_checkpoint
from gateway.journal.marks import Marks
from gateway.journal.tree import LogTree

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The journal under one LogCheckpoint, without its events."""

    note: str  # the LogCheckpoint
    firsts: tuple[int, ...]  # of each file: its first event
    sizes: tuple[int, ...]  # of each file: bytes up to the LogCheckpoint
    mark_indexes: tuple[int, ...]  # one commit per block of events, as Marks has them
    mark_files: tuple[int, ...]
    mark_offsets: tuple[int, ...]
    blocks: str  # hex: roots of the tree's whole blocks
    leaves: str  # hex: leaf hashes behind them
    chains: tuple[ChainEnd, ...]

    @property
    def size(self) -> int:
        """Events."""
        return parse_checkpoint(self.note)[0]


class Wish(Generic[T]):
    """Made by one thread, granted by the journal's: a Memory, and what belongs to it."""

    def __init__(self, beside: Callable[[], T]) -> None:
        """`beside` copies what must be of the same moment; it runs under the journal's lock."""
        self._beside = beside
        self._future: Future[tuple[Memory, T]] = Future()
        self.has_looked = False

    def look(self, tree: LogTree, chains: Chains) -> None:
        """Copy what the next append changes: a whole commit is in, and no event more."""
        try:
            self._copy = self._beside()
            self._blocks, self._leaves, self._chains = tree.blocks(), tree.rest(), chains.ends()
        except Exception as error:  # noqa: BLE001 - whose wish it is hears it; the journal goes on
            self.refuse(error)
        self.has_looked = True

    def grant(self, note: str, marks: Marks, offset: int) -> None:
        """That commit is durable: `note` signs it, and it ends at `offset` of the last file."""
        if self._future.done():
            return
        firsts, sizes = marks.files(offset)
        indexes, files, offsets = marks.thinned()
        memory = Memory(
            note=note,
            firsts=firsts,
            sizes=sizes,
            mark_indexes=indexes,
            mark_files=files,
            mark_offsets=offsets,
            blocks=self._blocks.hex(),
            leaves=self._leaves.hex(),
            chains=self._chains,
        )
        self._future.set_result((memory, self._copy))

    def refuse(self, error: BaseException) -> None:
        """It will not be granted."""
        if not self._future.done():
            self._future.set_exception(error)

    def wait(self) -> tuple[Memory, T]:
        """Block until it is granted; raises what it was refused with."""
        return self._future.result()
