"""What every KMS plug promises, in one place; a plug adds only how its device does it.

Kept here for all: names and lengths are checked before a device sees them; what a key is
wrapped for (tenant, generation, caller's `aad`) is bound in one canonical form; a device that
fails, or is silent for longer than `seconds_max`, is `KeyUnavailable` with nothing of its own
words (they may quote key material), and is asked anew by the next call. Threads may share a plug.
"""

from __future__ import annotations

import logging
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as Overdue
from typing import TypeVar

from gateway.crypto.envelope import KEY_BYTES, bound
from gateway.errors import GatewayError, IntegrityError, InvalidInput, KeyUnavailable

WRAPPED_BYTES_MAX = 6144  # AWS KMS allows the most; a vault record holds far more
_TENANT = re.compile(r"_?[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?\Z")
_GENERATIONS_MAX = 10**9
_log = logging.getLogger("gateway.kms")
_T = TypeVar("_T")


class RootKeys(ABC):
    """A `gateway.ports.Kms`; plugs fill in the methods below the line."""

    service = "the key service"  # how messages call it
    seconds_max: float | None = None  # None: the device is this machine and cannot be silent
    threads = 4  # calls that may wait for the device at one time

    def __init__(self) -> None:
        """Start without any call under way."""
        self._creating = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        if self.seconds_max is not None:
            self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="kms")

    def create_root(self, tenant: str) -> int:
        """Make the next generation; numbers of destroyed ones are not used again."""
        check_place(tenant, 1)
        with self._creating:
            generation = max(self._ask(lambda: self._known(tenant)), default=0) + 1
            self._ask(lambda: self._make(tenant, generation))
            return generation

    def generations(self, tenant: str) -> tuple[int, ...]:
        """Generations that can be used."""
        check_place(tenant, 1)
        known = self._ask(lambda: self._known(tenant))
        return tuple(sorted(g for g, is_alive in known.items() if is_alive))

    def wrap_key(self, key: bytes, *, tenant: str, generation: int, aad: bytes) -> bytes:
        """Wrap 32 bytes, bound to tenant, generation and `aad`."""
        check_place(tenant, generation)
        if len(key) != KEY_BYTES:
            raise InvalidInput(f"a key to wrap has {KEY_BYTES} bytes")
        place = bound("root", tenant, generation, aad)
        return self._ask(lambda: self._wrap((tenant, generation), key, place))

    def unwrap_key(self, wrapped: bytes, *, tenant: str, generation: int, aad: bytes) -> bytes:
        """Undo `wrap_key`."""
        check_place(tenant, generation)
        if not 1 <= len(wrapped) <= WRAPPED_BYTES_MAX:
            raise IntegrityError("a wrapped key has an impossible length")
        place = bound("root", tenant, generation, aad)
        key = self._ask(lambda: self._unwrap((tenant, generation), wrapped, place))
        if len(key) != KEY_BYTES:
            raise IntegrityError(f"{self.service} gave back a key of another length")
        return key

    def destroy_root(self, tenant: str, generation: int) -> int | None:
        """Destroy one generation; when it takes effect (Unix seconds), None: it has."""
        check_place(tenant, generation)
        return self._ask(lambda: self._destroy(tenant, generation))

    def _ask(self, act: Callable[[], _T]) -> _T:
        """Let the device do it, within the time; only errors of the gateway come out."""
        try:
            if self._pool is None:
                return act()
            waiting = self._pool.submit(act)
            try:
                return waiting.result(self.seconds_max)
            except Overdue:
                waiting.cancel()
                raise
        except GatewayError:
            raise
        except Overdue as cause:
            raise KeyUnavailable(
                f"{self.service} did not answer within {self.seconds_max:g} seconds"
            ) from cause
        except Exception as cause:  # noqa: BLE001 - whatever a foreign library raises
            kind = type(cause).__name__
            _log.warning("a key service failed", extra={"kind": kind, "service": self.service})
            raise KeyUnavailable(f"{self.service} failed ({kind})") from None

    # What a plug says and does

    @property
    @abstractmethod
    def custody(self) -> str:
        """Where the root keys are, in words for `gateway doctor`."""

    @abstractmethod
    def _known(self, tenant: str) -> Mapping[int, bool]:
        """Every generation that ever was, and whether it can be used now."""

    @abstractmethod
    def _make(self, tenant: str, generation: int) -> None:
        """Make this generation, durably."""

    @abstractmethod
    def _wrap(self, root: tuple[str, int], key: bytes, place: bytes) -> bytes:
        """Wrap under (tenant, generation), bound to `place`; KeyUnavailable without that root."""

    @abstractmethod
    def _unwrap(self, root: tuple[str, int], wrapped: bytes, place: bytes) -> bytes:
        """Undo `_wrap`; IntegrityError when anything differs."""

    @abstractmethod
    def _destroy(self, tenant: str, generation: int) -> int | None:
        """Destroy it, idempotently; KeyUnavailable when it never was."""


def check_place(tenant: str, generation: int) -> None:
    """InvalidInput unless these can name a root key."""
    if not _TENANT.match(tenant) or not 1 <= generation < _GENERATIONS_MAX:
        raise InvalidInput(f"`{tenant[:80]}` generation {generation} cannot name a root key")
