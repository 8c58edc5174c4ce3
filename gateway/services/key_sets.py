"""The public keys of an issuer: from a file that the operator brings, or from its URL.

Either way the last good set is kept for a day, so a provider that is down stops nobody whose
key is known. A set from a URL is asked for when it is first needed, when it is older than
FRESH_SECONDS, and when a token names a key that is not in it; never twice at a time, and
never sooner than RETRY_SECONDS after the last try, however many tokens ask for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from gateway.crypto import foreign_tokens, jws, strict_json
from gateway.crypto.foreign_tokens import PublicKey
from gateway.errors import ConfigError, InvalidInput, Unavailable
from gateway.services.outbound import BODY_BYTES_MAX, Document, Reach

KEPT_SECONDS = 24 * 3600  # how long the last good keys serve while they cannot be read anew
FRESH_SECONDS = 300  # a key that its issuer withdrew is believed no longer than this
RETRY_SECONDS = 10
DISCOVERY = "/.well-known/openid-configuration"
_log = logging.getLogger("gateway.issuers")


class Keys(Protocol):
    """Where the keys of one issuer come from."""

    async def for_kid(self, kid: str) -> Mapping[str, PublicKey]:
        """The keys as they are, looked for anew where `kid` is not among them.

        Raises:
            NotAuthenticated, Unavailable: there are none, or they are too old.
        """
        ...


class FileKeys:
    """A key set in a file, read anew when the file changes."""

    def __init__(self, path: Path, now: Callable[[], float]) -> None:
        """Read it; ConfigError when it cannot be used."""
        self._path, self._now = path, now
        try:
            self._mark = self._stamp()
            self._keys = foreign_tokens.read_key_set(_read(path))
        except (OSError, InvalidInput) as cause:
            raise ConfigError(f"the key set `{path}` cannot be used: {cause}") from cause
        self._good_at = now()

    async def for_kid(self, kid: str) -> Mapping[str, PublicKey]:  # noqa: ARG002 - the file is all
        """The keys as the file has them now; NotAuthenticated when it was broken too long."""
        try:
            mark = self._stamp()
            if mark != self._mark:
                self._keys, self._mark = foreign_tokens.read_key_set(_read(self._path)), mark
            self._good_at = self._now()
        except (OSError, InvalidInput) as cause:
            _log.warning("the key set cannot be read, the last good one serves: %s", cause)
            if self._now() - self._good_at > KEPT_SECONDS:
                raise jws.refused("kid") from cause
        return self._keys

    def _stamp(self) -> tuple[int, int, int]:
        found = self._path.stat()
        return found.st_mtime_ns, found.st_size, found.st_ino


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(foreign_tokens.KEY_SET_BYTES_MAX + 1)


class FetchedKeys:
    """A key set at a URL of the table, or at the one that the issuer's discovery names."""

    def __init__(self, source: KeySetAt | DiscoveredBy, now: Callable[[], float]) -> None:
        """Nothing is asked yet: a start does not wait for anybody's provider."""
        self._source, self._now = source, now
        self._keys: Mapping[str, PublicKey] = {}
        self._good_at = self._tried_at = float("-inf")
        self._flight: asyncio.Task[None] | None = None

    async def for_kid(self, kid: str) -> Mapping[str, PublicKey]:
        """The keys; Unavailable when there are none, or `kid` may be new and cannot be asked."""
        if kid not in self._keys or not self._is_within(FRESH_SECONDS, self._good_at):
            await self._refreshed()
        age = self._now() - self._good_at
        if age > KEPT_SECONDS or (kid not in self._keys and self._tried_at > self._good_at):
            raise Unavailable(
                "the keys of the token's issuer cannot be had now",
                advice="try again later; the log of the gateway says why",
            )
        return self._keys

    def _is_within(self, seconds: float, since: float) -> bool:
        return 0 <= self._now() - since <= seconds

    async def _refreshed(self) -> None:
        """Wait for the fetch that is under way, or begin one if it is time."""
        if self._flight is None:
            if self._is_within(RETRY_SECONDS, self._tried_at):
                return
            self._flight = asyncio.create_task(self._refresh())
        await asyncio.shield(self._flight)  # whoever gives up waiting ends it for nobody else

    async def _refresh(self) -> None:
        self._tried_at = self._now()
        try:
            self._keys = foreign_tokens.read_key_set(await self._source.get())
            self._good_at = self._tried_at
        except (Unavailable, InvalidInput) as cause:
            _log.warning("an issuer's keys cannot be had, the last good ones serve: %s", cause)
        finally:
            self._flight = None


class KeySetAt:
    """`jwks_uri` as the table has it."""

    def __init__(self, uri: str, reach: Reach) -> None:
        self._document = Document.at(uri, reach)

    async def get(self) -> bytes:
        """The key set."""
        return await self._document.get()


class DiscoveredBy:
    """`jwks_uri` as OpenID Connect Discovery 1.0 has it: said by the issuer, on its own host."""

    def __init__(self, issuer: str, reach: Reach) -> None:
        self._issuer, self._reach = issuer, reach
        self._document = Document.at(issuer.removesuffix("/") + DISCOVERY, reach)

    async def get(self) -> bytes:
        """The key set."""
        return await self._named_by(await self._document.get()).get()

    def _named_by(self, data: bytes) -> Document:
        try:
            said: Mapping[str, Any] = strict_json.decode(data, bytes_max=BODY_BYTES_MAX)
        except strict_json.NotStrictJson as cause:
            raise InvalidInput(f"the discovery document cannot be read: {cause}") from cause
        if said.get("issuer") != self._issuer:
            raise InvalidInput("the discovery document is another issuer's")
        uri = said.get("jwks_uri")
        found = Document.at(uri if isinstance(uri, str) else "", self._reach)
        if found.place != self._document.place:
            raise InvalidInput(
                "the keys are on another host than the issuer: write `jwks_uri` in the table"
            )
        return found
