"""A dataset as numpy batches, epoch after epoch.

    batches = GatewayBatches("clinic/icu@3", split="train", purpose="health-research", seed=7)
    for epoch in range(3):
        for batch in batches:       # dict[str, ndarray]; each pass is the next epoch
            step(batch)

A pass that was left before its end begins anew with the next `for`; `set_epoch` chooses another.
Arrays may be read-only (rows of one column, or of a view, in stored order lie in memory that is
shared): copy before you write. Rank, world and run come from the launcher's environment unless
they are given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Unpack

from gateway.client import GatewayClient
from gateway.client.launcher import environment_of_training, require_run
from gateway.client.pause import patiently
from gateway.client.preemption import hand_back_when_stopped
from gateway.client.runs import finish
from gateway.client.stream import Stream
from gateway.client.streaming import (
    HOW,
    GrantedToken,
    StreamAsk,
    as_asked,
    granted_token,
    open_under,
    whole,
)
from gateway.client.transport import Transport
from gateway.client.trays import Memory
from gateway.config import Settings, load
from gateway.domain.position import StreamPosition
from gateway.errors import Conflict, GatewayError


class GatewayBatches:
    """Iterable of batches; each `for` is one pass over one epoch."""

    def __init__(
        self, dataset: str, *, transport: Transport | None = None, **wanted: Unpack[StreamAsk]
    ) -> None:
        """Name the dataset and what is wanted; nothing is asked before the first pass.

        Args:
            dataset: `tenant/name` or `tenant/name@version`.
            transport: of a GatewayClient; None = found by the documented chain.
            wanted: purpose, columns, split, batch_size, seed, shuffle (default True) and more:
                see `gateway.client.streaming.StreamAsk`.

        Raises:
            InvalidInput: there are several ranks and no run that they share.
        """
        self._wanted = as_asked({"shuffle": True, **environment_of_training(), **wanted})
        require_run(self._wanted)
        self._dataset = dataset
        self._transport = transport
        self._token: GrantedToken | None = None
        self._epoch: int = self._wanted.pop("epoch", 0)
        position = self._wanted.pop("position", None)
        self._resume: dict[str, Any] | None = None
        self._stream: Stream | None = None
        self._ready: Stream | None = None  # opened for its length, not yet iterated
        self._memory = Memory()
        self._running: Stream | None = None  # somebody iterates it
        self._stats: dict[str, Any] = {}
        if position is not None:
            self.load_state_dict(position)

    @property
    def epoch(self) -> int:
        """The epoch of the running pass, or of the next one."""
        return self._epoch

    @property
    def stats(self) -> dict[str, Any]:
        """Of the running pass, or of the last one: see `gateway.client.stream.Stream.stats`."""
        return self._stats if self._running is None else self._running.stats

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass; a pass that was left is forgotten."""
        chosen = whole("epoch", epoch)
        if chosen != self._epoch:
            self._discard()
            self._epoch, self._resume = chosen, None
            if self._running is None:
                self._stream = None

    def __iter__(self) -> Iterator[Any]:
        stream = self._take()
        hand_back_when_stopped(stream)
        self._stream = self._running = stream
        try:
            with stream:
                yield from stream
                if self._stream is stream:
                    self._stream = None
                    self._epoch += 1
        finally:
            if self._running is stream:
                self._running, self._stats = None, stream.stats

    def to_arrow(self) -> Any:
        """One pass as a `pyarrow.RecordBatchReader`, which counts as the next epoch.

        For loaders made with `output="arrow"`; DuckDB, polars and HF `datasets` read it.
        """
        import pyarrow as pa

        if self._wanted.get("output") != "arrow":
            raise Conflict("these batches are numpy", advice='ask for output="arrow"')
        if self._ready is None:
            self._ready = self._open()
        return pa.RecordBatchReader.from_batches(self._ready.to_arrow().schema, iter(self))

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """As `to_arrow`, for whatever takes the Arrow PyCapsule interface."""
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def __len__(self) -> int:
        """Batches that the running pass has, or the next one will have; the same on every rank."""
        if self._stream is not None:
            return len(self._stream)
        if self._ready is None:
            self._ready = self._open()
        return len(self._ready)

    def state_dict(self) -> dict[str, Any]:
        """Return one global state for every rank and world size: a StreamPosition."""
        stream = self._stream or self._ready
        if stream is not None:
            return stream.state_dict()
        if self._resume is not None:
            return dict(self._resume)
        self._ready = self._open()
        return self._ready.state_dict()

    def load_state_dict(self, state: Mapping[str, Any] | StreamPosition) -> None:
        """Let the next pass go on from a position (its seed, epoch and order count).

        Also after a pass that was left or stopped, from the `position` of its error.

        Raises:
            Conflict: somebody iterates a pass.
        """
        given = StreamPosition.from_dict(state)
        if self._running is not None:
            raise Conflict("a pass is running", advice="leave its loop, then load the state")
        self._discard()
        self._stream = None
        self._epoch, self._resume = given.epoch, given.to_dict()

    def finish(self, model: str | None = None, artifact: str | None = None) -> Any:
        """Say that the run is over, and what came of it; nothing is delivered to it any more.

        Args:
            model: name of the model.
            artifact: path of its file, whose SHA-256 is recorded.

        Returns:
            With both, the signed attestation: `envelope`, `digest`, `public_key`; else the run.
        """
        run = self._wanted.get("run")
        if not run:
            raise Conflict("this stream belongs to no run", advice="give run= or GATEWAY_RUN_ID")
        self.close()  # gives the lease back, with its last acknowledgement
        return finish(self._open_transport(), run, model, artifact)

    def close(self) -> None:
        """Give back what is open."""
        self._discard()
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        self._memory.clear()

    def _take(self) -> Stream:
        stream, self._ready = self._ready or self._open(), None
        self._resume = None
        return stream

    def _open(self) -> Stream:
        settings = load()
        try:
            if self._token is None:  # nobody has answered yet: a wrong server is said at once
                return self._open_once(settings)
            return patiently(lambda: self._open_once(settings), settings.patience_seconds)
        except GatewayError:
            self._memory.clear()  # rows of the pass before are in it
            raise

    def _open_once(self, settings: Settings) -> Stream:
        transport = self._open_transport()
        how = {name: self._wanted[name] for name in HOW if name in self._wanted}
        how["epoch"] = self._epoch
        if self._resume is not None:
            saved = {"seed": "seed", "shuffle": "shuffle", "lanes": "lanes",
                     "window": "window_blocks"}  # fmt: skip
            how |= {name: self._resume[key] for key, name in saved.items()}
        if self._token is None:
            ask = {name: v for name, v in self._wanted.items() if name not in (*HOW, "grant")}
            grant = self._wanted.get("grant")
            dataset = None if grant else self._dataset
            self._token = granted_token(transport, dataset, grant, ask)
        return open_under(transport, self._token, how, self._resume, settings, self._memory)

    def _open_transport(self) -> Transport:
        if self._transport is None:
            self._transport = GatewayClient().transport
        return self._transport

    def _discard(self) -> None:
        ready, self._ready = self._ready, None
        if ready is not None:
            ready.close()
