"""A retry with the same Idempotency-Key gets the first answer again.

Kept in the memory of the control process: at most ENTRIES_MAX answers and BYTES_MAX bytes,
the oldest go first, none survives a restart (docs/reference/http.md). Only answers of acts
that succeeded are kept, and the facade answers only after its record is durable. The scope
of a key is (tenant, subject, grant, path): another caller's key is another key.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gateway.api.problems import dump
from gateway.errors import InvalidInput
from gateway.wire import codec

ENTRIES_MAX = 4096
BYTES_MAX = 16 << 20
_KEY = re.compile(r"[\x21-\x7e]{1,255}\Z")
Scope = tuple[str, str, str | None, str, str]


@dataclass(slots=True)
class _Entry:
    digest: bytes
    task: asyncio.Task[Response]
    size: int = 0


class Replies:
    """The bounded memory of answers."""

    def __init__(self) -> None:
        """Start empty."""
        self._entries: OrderedDict[Scope, _Entry] = OrderedDict()
        self._bytes = 0

    async def once(
        self, scope: Scope, digest: bytes, act: Callable[[], Awaitable[Response]]
    ) -> Response:
        """Run `act`, or return what it answered before under this scope.

        Two at the same time share one run. Raises InvalidInput when the key came with another
        body before, and whatever `act` raises (which is then not kept).
        """
        entry = self._entries.get(scope)
        if entry is not None:
            if entry.digest != digest:
                raise InvalidInput(
                    "this Idempotency-Key was used with another body",
                    advice="use a new key for a new request",
                )
            return _again(await asyncio.shield(entry.task))
        entry = _Entry(digest, asyncio.ensure_future(_run(act)))
        self._entries[scope] = entry
        try:
            response = await asyncio.shield(entry.task)
        except Exception:
            self._entries.pop(scope, None)
            raise
        self._keep(entry, response)
        return response

    def _keep(self, entry: _Entry, response: Response) -> None:
        entry.size = len(response.body) + 512
        self._bytes += entry.size
        while len(self._entries) > ENTRIES_MAX or self._bytes > BYTES_MAX:
            oldest = next((s for s, e in self._entries.items() if e.task.done()), None)
            if oldest is None:
                return
            self._bytes -= self._entries.pop(oldest).size


async def _run(act: Callable[[], Awaitable[Response]]) -> Response:
    return await act()


def _again(response: Response) -> Response:
    headers = {k: v for k, v in response.headers.items() if k != "content-length"}
    return Response(
        bytes(response.body), response.status_code, {**headers, "Idempotent-Replayed": "true"}
    )


def key_of(request: Request) -> str | None:
    """The Idempotency-Key, or None; raises InvalidInput when it is not 1-255 ASCII characters."""
    given = request.headers.getlist("idempotency-key")
    if not given:
        return None
    if len(given) > 1 or not _KEY.match(given[0]):
        raise InvalidInput("the Idempotency-Key must be 1 to 255 visible ASCII characters, once")
    return given[0]


def scope_of(request: Request, caller: Any, key: str) -> Scope:
    """Whose key it is, and for which path."""
    subject = caller.subject
    return (subject.tenant, subject.id, caller.grant, request.url.path, key)


def digest_of(body: Any) -> bytes:
    """SHA-256 over the body as understood, so that spaces and key order do not count."""
    return hashlib.sha256(dump(codec.encode(body))).digest()
