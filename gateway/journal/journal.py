"""The journal of one node: every state change is one event, durable before anything follows.

append → checked, applied to the catalogue and chained under one lock → the journal's thread
writes all that has gathered, with the TenantHeads event and a signed LogCheckpoint, in one
write and one fdatasync → whoever waits is released. Formats: docs/formats/journal-v0.md.

What is absent on purpose: a retry after a failed write or fsync. The kernel may have dropped
the pages; the only honest state is the one that recovery reads from the disk.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from gateway.domain.events import Event, EventDraft, EventKind
from gateway.domain.merkle import leaf_hash
from gateway.errors import GatewayError, IntegrityError, InvalidInput, Unavailable
from gateway.journal import frames, segments
from gateway.journal.chains import Head
from gateway.journal.commit import ANCHOR_SYNC_SECONDS, Batch
from gateway.journal.durability import Durability
from gateway.journal.memory import Memory, Wish
from gateway.journal.opening import Apply, JournalSetup, Parts, Start, recover

__all__ = ["Journal", "JournalSetup"]

T = TypeVar("T")
PLATFORM = "platform"  # the tenant of the gateway's own events
PENDING_BYTES_MAX = 64 << 20  # appended and not yet written; beyond it appends are refused


@dataclass(slots=True)
class _Pending:
    """Appended, not yet taken by the commit thread."""

    first: int
    data: list[bytes] = field(default_factory=list)
    bytes: int = 0


class Journal:
    """The one writer of a node's log. `append` is safe from any thread."""

    def __init__(self, setup: JournalSetup, apply: Apply, parts: Parts) -> None:
        """Use `Journal.open`."""
        self._setup = setup
        self._apply = apply
        self._tree = parts.tree
        self._chains = parts.chains
        self._composer = parts.composer
        self._marks = parts.marks
        self._file = parts.file
        self._note = parts.note
        self.boot = parts.boot
        self.cut_bytes = parts.cut_bytes  # never acknowledged bytes that this opening removed
        self.tags = parts.tags
        self._durability = Durability(self._tree.size)
        self._pending = _Pending(self._tree.size)
        self._work = threading.Condition()
        self._idle = False
        self._heads = 0  # index of the newest TenantHeads event of this opening
        self.is_closed = False  # nothing more is taken
        self._failure: str | None = None
        self._wishes: list[Wish[Any]] = []
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)

    @classmethod
    def open(
        cls, setup: JournalSetup, apply: Apply, start: int, *, memory: Memory | None = None
    ) -> Journal:
        """Recover, replay, and write the Boot event.

        Args:
            setup: places, keys and clock.
            apply: takes every event in index order, before `append` returns its index. What
                it refuses with a GatewayError is not recorded; it must then be unchanged.
            start: index of the first event that `apply` has not seen (from a snapshot).
            memory: of the events before `start`, from the same snapshot: they are not read.

        Raises:
            Unavailable: another process writes this journal.
            IntegrityError: acknowledged history was changed, facts: `index`; or, with `memory`,
                the snapshot does not fit: open without it, and the journal alone decides.
            ConfigError: another format, or a setup that cannot work.
        """
        try:
            setup.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = segments.lock(setup.directory)
        except OSError as cause:
            raise _unusable(setup, cause) from cause
        try:
            journal = cls(setup, apply, recover(setup, apply, Start(start, memory)))
        except BaseException as error:
            os.close(lock)
            if isinstance(error, OSError):
                raise _unusable(setup, error) from error
            raise
        journal._lock_fd = lock
        journal._thread.start()
        try:
            journal.wait_durable(journal.append(journal._boot_draft()))
        except BaseException:
            journal.close()
            raise
        return journal

    _lock_fd: int

    def append(self, draft: EventDraft) -> int:
        """Record one event and return its index; it is applied now and durable a moment later.

        Raises:
            InvalidInput, TooLarge: the draft is not as the format says; nothing is recorded.
            GatewayError: whatever `apply` refuses with; nothing is recorded.
            Unavailable: the journal failed, is closed, or is far behind.
        """
        with self._work:
            self._need_open()
            if self._pending.bytes > PENDING_BYTES_MAX:
                raise Unavailable("the journal is behind", advice="try again in a second")
            index = self._record(draft)
            if self._idle:
                self._idle = False
                self._work.notify()
        return index

    def wait_durable(self, index: int, timeout: float | None = None) -> None:
        """Block until event `index` is durable; Unavailable when the journal fails."""
        self._need_known(index)
        self._durability.wait(index, timeout)

    async def durable(self, index: int) -> None:
        """Suspend until event `index` is durable; Unavailable when the journal fails."""
        self._need_known(index)
        await self._durability.until(index)

    def on_durable(self, callback: Callable[[int], None]) -> None:
        """Call `callback(durable size)` after each group commit, from the journal's thread."""
        self._durability.on_advance(callback)

    @property
    def size(self) -> int:
        """Events so far, durable or not."""
        return self._tree.size

    @property
    def durable_size(self) -> int:
        """Durable events: indexes below it survive `kill -9` and power loss."""
        return self._durability.size

    def read(
        self, start: int, stop: int | None = None, *, kinds: frozenset[EventKind] | None = None
    ) -> Iterator[Event]:
        """Durable events [start, stop) with their details opened; None = all that are durable.

        Args:
            start: index of the first.
            stop: index behind the last.
            kinds: only these; others cost little (their bytes are neither hashed nor parsed).

        Raises:
            InvalidInput: `stop` is beyond the durable events.
            IntegrityError: the disk no longer holds what was written.
        """
        self._need_unbroken()
        stop = self.durable_size if stop is None else stop
        if not 0 <= start <= stop <= self.durable_size:
            raise InvalidInput(f"the journal has {self.durable_size} durable events")
        try:
            for index, data in self._marks.payloads(start, stop):
                if kinds is not None and not _may_be_of(kinds, data):
                    continue
                if leaf_hash(data) != self._tree.leaf(index):
                    raise IntegrityError(f"event {index} was changed on disk", index=index)
                event = self._composer.read(data, index)
                if kinds is None or event.kind in kinds:
                    yield event
        except (frames.BadFrame, OSError) as cause:
            raise IntegrityError("the journal on disk was changed while it is open") from cause

    def head(self, tenant: str) -> Head:
        """The tenant's newest event, as the newest TenantHeads event fixes it (maybe not durable).

        Raises:
            NotFound: nothing is recorded about the tenant.
        """
        with self._work:
            return self._chains.head(self.tags.chain(tenant), self._heads)

    def chain(self, tenant: str, stop: int) -> Iterator[tuple[int, bytes]]:
        """(index, canonical bytes) of the first `stop` events that concern a tenant.

        Raises:
            IntegrityError: the disk no longer holds what was written.
        """
        self._need_durable(stop)
        named = f'"{self.tags.chain(tenant)}":{{"prev":'.encode()  # stands in `chains` alone
        try:
            for index, data in self._marks.payloads(0, stop):
                if named in data:
                    if leaf_hash(data) != self._tree.leaf(index):
                        raise IntegrityError(f"event {index} was changed on disk", index=index)
                    yield index, data
        except (frames.BadFrame, OSError) as cause:
            raise IntegrityError("the journal on disk was changed while it is open") from cause

    def event_bytes(self, index: int) -> bytes:
        """Canonical bytes of one durable event."""
        self._need_durable(index + 1)
        _, data = next(self._marks.payloads(index, index + 1))
        return data

    @property
    def failure(self) -> str | None:
        """Why nothing can be recorded any more; None while all is well."""
        return self._failure

    def checkpoint(self) -> str:
        """The signed LogCheckpoint of the last group commit."""
        self._need_unbroken()
        return self._note

    def leaf(self, index: int) -> bytes:
        """Leaf hash of event `index`."""
        return self._tree.leaf(index)

    def root(self, size: int) -> bytes:
        """Root of the first `size` events."""
        return self._tree.root(size)

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """Proof that event `index` is among the first `size` durable events."""
        self._need_durable(size)
        return self._tree.inclusion(index, size)

    def multiproof(self, indexes: Sequence[int], size: int) -> list[bytes]:
        """Proof that these events (ascending) are among the first `size` durable events."""
        self._need_durable(size)
        return self._tree.multiproof(indexes, size)

    def consistency(self, first: int, second: int) -> list[bytes]:
        """Proof that the first `first` events are the beginning of the first `second`."""
        self._need_durable(second)
        return self._tree.consistency(first, second)

    def remember(self, beside: Callable[[], T]) -> tuple[Memory, T]:
        """Commit, and say what a next opening needs to know of the events so far.

        Args:
            beside: copies what must be of the same moment (the catalogue); appends wait for it.

        Raises:
            Unavailable: the journal failed or is closed.
        """
        wish = Wish(beside)
        with self._work:
            self._need_open()
            self._wishes.append(wish)
            self._work.notify()
        return wish.wait()

    def close(self) -> None:
        """Commit what is pending, sync the anchor, give the directory free. Idempotent."""
        with self._work:
            if self.is_closed:
                return
            self.is_closed = True
            self._work.notify()
        self._thread.join()
        try:
            self._file.close()
        finally:
            os.close(self._lock_fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Under the lock

    def _record(self, draft: EventDraft) -> int:
        index = self._tree.size
        event, data = self._composer.compose(draft, index, self._setup.now(), self._chains)
        try:
            self._apply(event)
        except GatewayError:
            raise  # refused: the catalogue is unchanged, and so is everything here
        except Exception as cause:
            self._fail(cause)
            raise Unavailable("the catalogue failed on an event; the gateway stops") from cause
        leaf = leaf_hash(data)
        self._tree.append(leaf)
        self._chains.extend(event.chains, leaf)
        framed = frames.frame(frames.EVENT, data)
        self._pending.data.append(framed)
        self._pending.bytes += len(framed)
        return index

    def _take(self) -> Batch:
        root = self._chains.root().hex()
        heads = {"root": root, "tenants": self._chains.tenants}
        draft = EventDraft(kind=EventKind.TenantHeads, owner_tenant=PLATFORM, facts=heads)
        self._heads = self._record(draft)
        taken, size = self._pending, self._tree.size
        self._pending = _Pending(size)
        for wish in self._wishes:
            wish.look(self._tree, self._chains)
        return Batch(taken.first, size, self._tree.root(), self._tree.edge(), taken.data)

    # The commit thread

    def _run(self) -> None:
        try:
            while (batch := self._next()) is not None:
                self._note = self._file.commit(batch)
                self._durability.advance(batch.size)
                self._grant()
                self._file.settle(batch)
        except BaseException as failure:  # noqa: BLE001 - whatever it is, the journal ends here
            self._fail(failure)

    def _grant(self) -> None:
        with self._work:
            granted = [wish for wish in self._wishes if wish.has_looked]
            self._wishes = [wish for wish in self._wishes if not wish.has_looked]
        for wish in granted:
            wish.grant(self._note, self._marks, self._file.offset)

    def _next(self) -> Batch | None:
        """Wait for work; None when the journal is closed and everything is written."""
        while True:
            with self._work:
                if not (self._pending.data or self._wishes or self.is_closed):
                    self._idle = True
                    timeout = None if self._file.is_anchor_synced else ANCHOR_SYNC_SECONDS
                    self._work.wait(timeout)
                    self._idle = False
                if self._pending.data or self._wishes:
                    return self._take()
                if self.is_closed:
                    return None
            if not self._file.is_anchor_synced:
                self._file.sync_anchor()

    def _fail(self, failure: BaseException) -> None:
        with self._work:
            if self._failure is not None:
                return
            self._failure = f"the journal cannot be written: {type(failure).__name__}"
            for wish in self._wishes:
                wish.refuse(Unavailable(self._failure))
        self._durability.fail(self._failure)
        if self._setup.on_failure is not None:
            self._setup.on_failure(failure)

    def _need_unbroken(self) -> None:
        if self._failure is not None:
            raise Unavailable(self._failure, advice="look at the disk, then start the gateway")

    def _need_open(self) -> None:
        self._need_unbroken()
        if self.is_closed:
            raise Unavailable("the journal is closed")

    def _need_known(self, index: int) -> None:
        if not 0 <= index < self._tree.size:
            raise InvalidInput(f"there is no event {index} to wait for")

    def _need_durable(self, size: int) -> None:
        self._need_unbroken()
        if not 0 <= size <= self.durable_size:
            raise InvalidInput(f"the journal has {self.durable_size} durable events")

    def _boot_draft(self) -> EventDraft:
        facts = {
            "boot": self.boot,
            "format": frames.MAGIC.decode("ascii").strip(),
            "log_key": self._setup.signer.public_key.hex(),
        }
        return EventDraft(kind=EventKind.Boot, owner_tenant=PLATFORM, facts=facts)


def _unusable(setup: JournalSetup, cause: OSError) -> Unavailable:
    return Unavailable(
        f"the journal in `{setup.directory}` cannot be opened: {cause.strerror}",
        advice="look at the disk and the permissions, then start the gateway",
    )


def _may_be_of(kinds: frozenset[EventKind], data: bytes) -> bool:
    """Whether these canonical bytes can be an event of one of `kinds`; often decides it alone."""
    return any(f'"kind":"{kind.value}"'.encode() in data for kind in kinds)
