"""From a dataset's name to its stream: ask for the token, keep it fresh, open the lease.

What `gw.stream(...)` and the loaders are made of. A Grant is asked for once; later tokens
refer to it, so a long run needs no new decision to go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypedDict, Unpack

from gateway.client.leases import LeaseTerms, Transport
from gateway.client.stream import Stream, StreamOptions, open_stream
from gateway.config import training_environment
from gateway.errors import InvalidInput
from gateway.wire.leases import LeaseRequest, OrderRequest

RENEW_SECONDS_BEFORE = 30.0


class TokenReply(Protocol):
    """What the token endpoint answers."""

    @property
    def access_token(self) -> str:
        """The dataset token."""
        ...

    @property
    def expires_in(self) -> int:
        """Seconds."""
        ...

    @property
    def grant(self) -> str | None:
        """Id of the Grant behind it."""
        ...


class TokenTransport(Transport, Protocol):
    """A transport that can also exchange tokens (gateway.client.transport)."""

    def exchange(self, details: Mapping[str, Any]) -> TokenReply:
        """Ask for a dataset token with one RFC 9396 detail; raises AccessDenied."""
        ...


class Wanted(TypedDict, total=False):
    """What is asked for, how it is ordered, how it is consumed. All optional."""

    purpose: str
    columns: Sequence[str]
    split: str
    run: str
    grant: str  # a Grant that stands, instead of asking for a new one
    max_rows: int
    max_bytes: int
    max_epochs: int
    seed: int
    epoch: int
    shuffle: bool
    lanes: int
    window_blocks: int
    rank: int
    world: int
    batch_size: int
    uneven: str
    output: str
    prefetch_segments: int
    patience_seconds: float


_ASKED = ("purpose", "columns", "split", "run", "max_rows", "max_bytes", "max_epochs")
_ORDER = ("seed", "epoch", "shuffle", "lanes", "window_blocks", "rank", "world")
_OPTIONS = ("batch_size", "uneven", "output", "prefetch_segments")


class DatasetToken:
    """Calls give a dataset token that is good now."""

    def __init__(
        self,
        transport: TokenTransport,
        dataset: str,
        wanted: Mapping[str, Any],
        now: Callable[[], float] = time.time,
    ) -> None:
        """Nothing is asked yet."""
        self._transport, self._now = transport, now
        asked = {name: wanted[name] for name in _ASKED if wanted.get(name) is not None}
        if isinstance(asked.get("columns"), str):
            raise InvalidInput("`columns` is a list of names", advice='write columns=["age"]')
        if "columns" in asked:
            asked["columns"] = list(asked["columns"])
        self._detail: dict[str, Any] = {
            "type": "dataset_access",
            "actions": ["stream"],
            "dataset": dataset,
            **asked,
        }
        if wanted.get("grant"):
            self._use(wanted["grant"])
        self._token = ""
        self._good_until = 0.0

    def __call__(self) -> str:
        """Return the token, asking for another when it is about to end."""
        if self._now() >= self._good_until:
            reply = self._transport.exchange(self._detail)
            self._token = reply.access_token
            self._good_until = self._now() + max(1.0, reply.expires_in - RENEW_SECONDS_BEFORE)
            if reply.grant:
                self._use(reply.grant)
        return self._token

    def _use(self, grant: str) -> None:
        self._detail = {"type": "dataset_access", "grant": grant}


def open_dataset(transport: TokenTransport, dataset: str, **wanted: Unpack[Wanted]) -> Stream:
    """Ask for a token, open a lease, return its stream (one pass).

    Raises:
        AccessDenied: with the reason and, where the rule permits, what would have to change.
        InvalidInput: a keyword or value that nothing here knows.
    """
    return stream_under(transport, DatasetToken(transport, dataset, wanted), wanted)


def stream_under(
    transport: Transport,
    token: Callable[[], str],
    wanted: Mapping[str, Any],
    position: Mapping[str, Any] | None = None,
) -> Stream:
    """Open a stream under a token that exists; `position` resumes an earlier one."""
    known = {*Wanted.__annotations__}
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise InvalidInput(f"`{unknown[0]}` is not a word of a stream")
    order = {name: wanted[name] for name in _ORDER if wanted.get(name) is not None}
    options = {name: wanted[name] for name in _OPTIONS if wanted.get(name) is not None}
    terms = LeaseTerms(token=token, patience_seconds=wanted.get("patience_seconds", 600.0))
    request = LeaseRequest(
        order=OrderRequest(**order),
        run=wanted.get("run"),
        position=None if position is None else dict(position),
    )
    return open_stream(transport, request, StreamOptions(**options, terms=terms))


def environment_of_training() -> dict[str, Any]:
    """Rank, world and run as the launcher set them; only those that are known."""
    found = training_environment()
    wanted: dict[str, Any] = {}
    for rank, world in (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS")):
        if rank in found and world in found:
            wanted |= {"rank": int(found[rank]), "world": int(found[world])}
            break
    run = _run_of(found)
    return wanted | ({"run": run} if run else {})


_RUNS = {
    "GATEWAY_RUN_ID": "",
    "MLFLOW_RUN_ID": "mlflow-",
    "WANDB_RUN_ID": "wandb-",
    "RAY_JOB_ID": "ray-",
    "SLURM_JOB_ID": "slurm-",
    "TORCHELASTIC_RUN_ID": "torchrun-",
}


def _run_of(found: Mapping[str, str]) -> str | None:
    for variable, prefix in _RUNS.items():
        value = found.get(variable)
        if value and value != "none":  # torchrun's default when no --rdzv-id was given
            return value if value.startswith("run:") else f"run:{prefix}{value}"
    return None
