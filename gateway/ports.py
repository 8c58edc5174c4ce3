"""The sockets that plugs fit into; a port enters here with its second real implementation.

Plugs live in `connectors` (or anywhere) and are found by entry point and URI scheme
(discovery.py). tests/contracts holds one suite per port, run over every plug.
Clock, randomness and the decision function are plain callables, not ports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol


class Kms(Protocol):
    """Keeps root keys, one per tenant and generation; they never leave it."""

    def create_root(self, tenant: str) -> int:
        """Make the tenant's next root generation and return its number (1, 2, …)."""
        ...

    def wrap_key(self, key: bytes, *, tenant: str, generation: int, aad: bytes) -> bytes:
        """Wrap a 32-byte KEK; `aad` is bound. Raises KeyUnavailable."""
        ...

    def unwrap_key(self, wrapped: bytes, *, tenant: str, generation: int, aad: bytes) -> bytes:
        """Undo `wrap_key`. Raises KeyUnavailable, or IntegrityError when `aad` differs."""
        ...

    def destroy_root(self, tenant: str, generation: int) -> int | None:
        """Destroy one generation for ever; it wraps and unwraps nothing from now on.

        Returns: when nobody can call it back any more (Unix seconds): a service may keep a
        waiting period, which a certificate of erasure must name. None: it is gone already.
        """
        ...

    def generations(self, tenant: str) -> tuple[int, ...]:
        """Generations that exist and can be used, ascending."""
        ...

    @property
    def custody(self) -> str:
        """Where the root keys are, in words for `gateway doctor`."""
        ...


class ObjectStore(Protocol):
    """Opaque sealed bytes under random object ids. Everything stored is ciphertext or signed."""

    def put_new(self, key: str, source: str) -> None:
        """Store the file at path `source` under a new key, durably; Conflict if it exists."""
        ...

    def put_bytes_new(self, key: str, data: bytes) -> None:
        """Store small bytes under a new key, durably; Conflict if it exists."""
        ...

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Read a range; NotFound if the object is missing."""
        ...

    def size(self, key: str) -> int:
        """Bytes of the object; NotFound if it is missing."""
        ...

    def list(self, prefix: str = "") -> Iterator[str]:
        """Keys that start with `prefix`, in order; those that a killed writer half put, too."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object; harmless when it is not there."""
        ...

    def local_path(self, key: str) -> str | None:
        """A path that a data worker can map; None when the object is not on this host."""
        ...

    @property
    def is_local(self) -> bool:
        """Whether `local_path` gives a path; if not, the gateway keeps copies to map."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One file of a source, or one result of a query, before its upload."""

    name: str  # for messages
    open: Callable[[], AbstractContextManager[Any]]  # gives `read(n) -> bytes` or an Arrow reader
    bytes: int | None = None  # None: not known before its end
    partition: Mapping[str, str] = field(default_factory=dict)  # columns that its place says


class Source(Protocol):
    """Where an owner's data comes from. It runs on the owner's machine, never in the server.

    `connect(parts, query=…)` gets the URI, split, and the query of `--query` (None: none).
    """

    def files(self) -> Sequence[SourceFile]:
        """What there is to upload, in order. Raises InvalidInput when there is nothing."""
        ...


class LineageSink(Protocol):
    """Where OpenLineage events go, one by one, in order. It runs in the lineage process.

    `connect(parts)` gets the URI, split, and does nothing yet that may wait.
    """

    def emit(self, event: bytes) -> None:
        """Hand over one event (JSON, one line); when this returns, it is there.

        The same event may come again after a kill. An answer that takes longer than ten seconds
        is no answer.

        Raises:
            Unavailable: not now; it is tried again later, and nothing behind it is sent before.
            InvalidInput: never; it is counted and left out.
        """
        ...

    def close(self) -> None:
        """Let go of connections and files."""
        ...
