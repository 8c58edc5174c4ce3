"""Stream the rows of a lease: prefetched, verified, in order, and resumable at any batch.

    with open_stream(transport, LeaseRequest(order=OrderRequest(shuffle=True))) as stream:
        for batch in stream:            # dict[str, ndarray]
            step(batch)
            position = stream.position  # enough to go on from here, on any number of ranks

Errors are typed and carry the StreamPosition: LeaseRevoked, LeaseExpired, PlanChanged,
StreamBroken. A gateway that is away shorter than `patience_seconds` is a pause.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from gateway.client.arriving import Arriving
from gateway.client.assembly import Assembly
from gateway.client.batches import Batches, OpenSegment, Part
from gateway.client.leases import HeldLease, LeaseTerms, Transport
from gateway.client.position import Step, Walk
from gateway.client.prefetch import Ahead, Prefetcher, Progress
from gateway.client.row_places import RowPlaces
from gateway.client.trays import Memory
from gateway.config import PREFETCH_BYTES
from gateway.domain.order import Deal
from gateway.domain.position import StreamPosition
from gateway.errors import (
    AccessDenied,
    Conflict,
    GatewayError,
    IntegrityError,
    InvalidInput,
    LimitExceeded,
    StreamBroken,
)
from gateway.wire.leases import LeaseManifest, LeaseRequest, OrderRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """How a stream is consumed."""

    batch_size: int = 256  # rows per batch and rank
    uneven: str = "pad"  # the last step: `drop` | `pad` | `error` (order-v0.md §4)
    output: str = "numpy"  # `numpy`: dict[str, ndarray] | `arrow`: RecordBatch
    prefetch_segments: int = 2  # fetched ahead of need, each up to 16 MiB
    prefetch_bytes: int = PREFETCH_BYTES  # of them at most, or else one segment
    terms: LeaseTerms = field(default_factory=LeaseTerms)
    memory: Memory = field(default_factory=Memory)  # for a stream that follows on another

    def __post_init__(self) -> None:
        if self.output not in ("numpy", "arrow"):
            raise InvalidInput("`output` is numpy or arrow")
        if min(self.prefetch_segments, self.prefetch_bytes) < 1:
            raise InvalidInput("`prefetch_segments` and `prefetch_bytes` are at least 1")


def open_stream(
    transport: Transport, request: LeaseRequest, options: StreamOptions | None = None
) -> Stream:
    """Open a lease and return its stream; raises what the gateway refuses the lease with.

    Args:
        transport: the control connection.
        request: order, split, run; `position` to resume.
        options: batch size and the like.
    """
    return Stream(transport, request, options or StreamOptions())


class Stream:
    """One pass over one order, as one rank. An iterator of batches.

    For one thread of the process that opened it; only `close` may be called from another.
    """

    def __init__(self, transport: Transport, request: LeaseRequest, options: StreamOptions) -> None:
        """Open the lease; use `open_stream`."""
        self._transport, self._request, self._options = transport, request, options
        self._deal = Deal(
            rank=request.order.rank,
            world=request.order.world,
            batch_rows=options.batch_size,
            uneven=options.uneven,
        )
        self._prefetcher: Prefetcher | None = None
        self._steps: Iterator[Step] | None = None
        self._left = 0  # steps
        self._held: dict[int, OpenSegment | Arriving] = {}
        self._assembly: Assembly | None = None
        self._ended: GatewayError | None = None
        self._process = os.getpid()
        self._reading = threading.Lock()
        self._stats: dict[str, Any] = {}  # of the prefetcher that is over
        self._lease = HeldLease(transport, request, options.terms)
        self._batches = Batches.of_lease(self._lease.manifest, is_arrow=options.output == "arrow")
        lanes = self._lease.manifest.lanes
        self._deal = self._deal.within(sum(map(sum, lanes)))
        self._walk = Walk(lanes, self._deal)
        self._start = self._start_of(request.position)
        self._progress = Progress(self._start)

    def _start_of(self, position: Mapping[str, Any] | None) -> int:
        if position is None:
            return 0
        given = StreamPosition.from_dict(position)
        given.require(self._lease.manifest.order_id, self._walk.order.rows)
        return given.rows

    @property
    def manifest(self) -> LeaseManifest:
        """Columns, rows and order of the lease."""
        return self._lease.manifest

    @property
    def position(self) -> StreamPosition:
        """Where to resume so that no row of a batch handed out comes again."""
        return self._lease.position(self._progress.rows)

    @property
    def receipts(self) -> list[str]:
        """The gateway's receipts of the last segments received (at most 1,000)."""
        return [] if self._prefetcher is None else list(self._prefetcher.receipts)

    @property
    def stats(self) -> dict[str, Any]:
        """What was fetched so far, and how; empty before the first batch.

        `producer` (`direct` | `view`), `delivery` (`ring` | `http`; `reason` says why it is not
        the ring), `segments`, `rows`, `bytes`, and `seconds` from the beginning to the newest.
        """
        return self._stats if self._prefetcher is None else self._prefetcher.stats

    def __len__(self) -> int:
        """Batches of this rank from the position it was opened at to the end."""
        return self._walk.batches(self._start)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if not self._reading.acquire(blocking=False):
            raise Conflict(
                "another thread reads this stream",
                advice="give each thread a stream of its own, or pass batches on by a queue",
            )
        try:
            return self._next()
        finally:
            self._reading.release()

    def _next(self) -> Any:
        if self._ended is not None:
            raise self._ended
        self._require_own()
        if self._steps is None:
            self._begin()
        assert self._steps is not None
        step = next(self._steps, None)
        if step is None:
            self._end()
            raise StopIteration
        try:
            batch = self._batch(step)
            self._left -= 1
            if not self._left:
                self._finish()
        except GatewayError as error:
            self._ended = self._ended or self._typed(error)
            self._end()
            raise self._ended from error
        except BaseException:  # a signal, no memory: what was taken of the batch is gone
            self._ended = self._typed(StreamBroken("a batch was interrupted"))
            self._end()
            raise
        self._progress.rows = step.position
        return batch

    def _end(self) -> None:
        """Close, unless another thread is at it: it acknowledges before it hands back."""
        if self._prefetcher is not None:
            self.close()

    def _begin(self) -> None:
        options = self._options
        self._left = self._walk.batches(self._start)
        if self.manifest.window_key and self.manifest.kind == "direct":
            places = RowPlaces(self._walk, self._deal, self._start)
            segments = options.prefetch_segments
            self._assembly = Assembly(self.manifest, places, options.memory, segments)
            self._steps = self._assembly.steps(self._walk.opens(self._start))
        else:
            self._steps = self._walk.steps(self._start)
        needs = self._walk.needs(self._start)
        ahead = Ahead(options.prefetch_segments, options.prefetch_bytes)
        self._prefetcher = Prefetcher(
            self._lease, needs, self._progress, ahead, options.terms, self._assembly
        )
        weakref.finalize(self, self._prefetcher.abandon)

    def _batch(self, step: Step) -> Any:
        if self._assembly is not None:
            return self._assembled(self._assembly, step)
        parts = (Part(self._segment(t.segment), t.start, t.count) for t in step.takes)
        batch = self._batches.make(parts, sum(take.count for take in step.takes))
        for number in step.closes:
            closed = self._held.pop(number, None)
            if isinstance(closed, Arriving):
                closed.let_go()
        return batch

    def _assembled(self, assembly: Assembly, step: Step) -> Any:
        assembly.begin()
        for number in step.opens:
            self._running().get(number)
        return self._batches.of_arrays(assembly.batch())

    def _finish(self) -> None:
        """Before the last batch is given: the last segment proves itself at its end only."""
        self._running().finish()

    def _segment(self, number: int) -> OpenSegment | Arriving:
        """Segments come in the order in which the steps need them."""
        held = self._held  # `close` in another thread takes it away as a whole
        if number not in held:
            for other in held.values():
                if isinstance(other, Arriving):
                    other.absorb()
            found = self._running().get(number)
            assert found is not None, "nothing is assembled"
            held[number] = found
        return held[number]

    def _running(self) -> Prefetcher:
        prefetcher = self._prefetcher
        if prefetcher is None:
            raise StreamBroken("the stream was closed")
        return prefetcher

    def _require_own(self) -> None:
        """A forked process has no thread that fetches, and shares a connection and a lease."""
        if os.getpid() != self._process:
            raise Conflict(
                "this stream belongs to the process that opened it",
                advice="open a stream in the forked process, as a rank of its own",
            )

    def _typed(self, error: GatewayError) -> GatewayError:
        """Return the error as one that carries the position."""
        if isinstance(error, (AccessDenied, LimitExceeded)):
            error.position = self.position  # type: ignore[union-attr] # StreamStopped declares it
            return error
        if isinstance(error, IntegrityError):
            message = f"the stream is not authentic: {error.message}"
            return StreamBroken(message, position=self.position, cause_code=error.code)
        return StreamBroken(
            f"the stream ended: {error.message}",
            advice=error.advice,
            position=self.position,
            cause_code=error.code,
        )

    def to_arrow(self) -> Any:
        """The batches still to come as a `pyarrow.RecordBatchReader`; for `output="arrow"`.

        DuckDB, polars, pandas and HF `datasets` read it. An error of the stream ends it as the
        same error.
        """
        import pyarrow as pa

        if self._options.output != "arrow":
            raise Conflict("this stream gives numpy", advice='open it with output="arrow"')
        return pa.RecordBatchReader.from_batches(self._batches.schema, self)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """As `to_arrow`, for whatever takes the Arrow PyCapsule interface."""
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def state_dict(self) -> dict[str, Any]:
        """Return the position as JSON values; the same on every rank after equal batches."""
        return self.position.to_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a position; only before the first batch. Opens the lease anew."""
        self._require_own()
        if self._steps is not None:
            raise Conflict("the stream has begun", advice="load the state before the first batch")
        given = StreamPosition.from_dict(state)
        order = OrderRequest(
            seed=given.seed,
            epoch=given.epoch,
            shuffle=given.shuffle,
            lanes=given.lanes,
            window_blocks=given.window,
            rank=self._deal.rank,
            world=self._deal.world,
        )
        self._lease.close()
        request = replace(self._request, order=order, position=given.to_dict())
        self.__init__(self._transport, request, self._options)  # type: ignore[misc]

    def close(self) -> None:
        """Stop prefetching and give the lease back; harmless twice, and in a forked process.

        May be called from any thread: who waits for a batch, or asks for one that is left, gets
        StreamBroken.
        """
        if os.getpid() != self._process:
            return  # all of it is the parent's
        if self._ended is None and (self._steps is None or self._left):
            self._ended = StreamBroken("the stream was closed", position=self.position)
        prefetcher, self._prefetcher = self._prefetcher, None
        if prefetcher is not None:
            prefetcher.close()
            self._stats = prefetcher.stats
        held, self._held = self._held, {}
        for segment in held.values():
            if isinstance(segment, Arriving):
                segment.let_go()
        assembly, self._assembly = self._assembly, None
        if assembly is not None and not self._left:
            assembly.keep()
        self._steps = iter(())
        if self._lease.is_open:
            self._lease.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
