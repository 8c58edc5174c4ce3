"""From a dataset's name to its rows: a token that stays good, a lease, a stream."""

from __future__ import annotations

import logging
import operator
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from gateway.client import program, signed
from gateway.client.access import Ask, detail_of
from gateway.client.transport import Held
from gateway.domain.position import StreamPosition
from gateway.errors import InvalidInput, KeyUnavailable, Unavailable
from gateway.wire.leases import LeaseRequest, OrderRequest
from gateway.wire.tokens import DETAIL_TYPE, TokenResponse

if TYPE_CHECKING:
    from gateway.client.stream import Stream
    from gateway.client.transport import Transport
    from gateway.client.trays import Memory
    from gateway.config import Settings

_ORDER = ("seed", "epoch", "shuffle", "lanes", "window_blocks", "rank", "world")
_CONSUMED = ("batch_size", "uneven", "output", "prefetch_segments", "prefetch_bytes")
_log = logging.getLogger("gateway.client")
HOW = (*_ORDER, *_CONSUMED)  # words of StreamAsk that say how rows come, not which
_WHOLE = (
    *("seed", "epoch", "lanes", "window_blocks", "rank", "world"),
    *("batch_size", "prefetch_segments", "prefetch_bytes", "max_rows", "max_bytes", "max_epochs"),
)
_MAY_BE_NONE = ("lanes", "max_rows", "max_bytes", "max_epochs")


class StreamAsk(Ask, total=False):
    """An AccessRequest, or the Grant that stands, and how its rows should come."""

    grant: str | None
    position: StreamPosition | Mapping[str, Any] | None  # or its `to_dict()`
    seed: int
    epoch: int
    shuffle: bool
    lanes: int | None
    window_blocks: int
    rank: int
    world: int
    batch_size: int
    uneven: str
    output: str
    prefetch_segments: int
    prefetch_bytes: int


def as_asked(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the words with whole numbers as Python's own (they may be numpy's).

    Raises:
        InvalidInput: one of them is no whole number.
    """
    found = dict(wanted)
    for name in (name for name in _WHOLE if name in found):
        if found[name] is not None or name not in _MAY_BE_NONE:
            found[name] = whole(name, found[name])
    return found


def whole(name: str, value: Any) -> int:
    """Return `value`, which was given as `name`, as an int; InvalidInput if it is none."""
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise InvalidInput(f"`{name}` is `{str(value)[:40]}` and no whole number")


class GrantedToken:
    """A dataset token that is good whenever it is asked for; all of one Grant."""

    def __init__(
        self,
        transport: Transport,
        detail: Mapping[str, Any],
        now: Callable[[], float] = time.time,
    ) -> None:
        """Get the first token; AccessDenied says why not."""
        self._transport, self._now = transport, now
        self._reply: TokenResponse
        self._held: Held
        self._take(detail)

    @property
    def grant(self) -> str | None:
        """The Grant behind it."""
        return self._reply.grant

    @property
    def columns(self) -> frozenset[str]:
        """Names of the columns that it gives."""
        of = [column for one in self._reply.authorization_details for column in one["columns"]]
        return frozenset(column["name"] for column in of if column["mask"] != "x-drop")

    def __call__(self) -> str:
        """The token, exchanged anew shortly before it ends."""
        now = self._now()
        if self._held.renew_at <= now:
            try:
                self._take({"type": DETAIL_TYPE, "grant": self._reply.grant})
            except (Unavailable, KeyUnavailable):
                if self._held.ends_at <= now:
                    raise
        return self._held.text

    def _take(self, detail: Mapping[str, Any]) -> None:
        asked_at = self._now()
        self._reply = self._transport.exchange(detail)
        self._held = Held.of(self._reply, asked_at)


def open_dataset(
    transport: Transport, dataset: str | None, ask: Mapping[str, Any], settings: Settings
) -> Stream:
    """Ask for a token, open a lease under it, and return the stream; see `GatewayClient.stream`."""
    wanted = as_asked(ask)
    how = {name: wanted.pop(name) for name in HOW if name in wanted}
    position, grant = wanted.pop("position", None), wanted.pop("grant", None)
    if position is not None:
        position = StreamPosition.from_dict(position).to_dict()
    token = granted_token(transport, dataset, grant, wanted)
    return open_under(transport, token, how, position, settings)


def granted_token(
    transport: Transport, dataset: str | None, grant: str | None, ask: Mapping[str, Any]
) -> GrantedToken:
    """Get a token for a dataset, or for a Grant that stands; AccessDenied says why not.

    A column that was asked for and is not given (no such name, withheld, dropped by a mask) is
    said as a warning: a plan may give less than was asked.
    """
    if (dataset is None) == (grant is None):
        raise InvalidInput("name either a dataset or a grant")
    token = GrantedToken(transport, detail_of(dataset, grant, ask))
    missing = [name for name in ask.get("columns") or () if name not in token.columns]
    if missing:
        _log.warning("not given of the columns asked for: %s", ", ".join(map(repr, missing)))
    return token


def open_under(
    transport: Transport,
    token: GrantedToken,
    how: Mapping[str, Any],
    position: Mapping[str, Any] | None,
    settings: Settings,
    memory: Memory | None = None,
) -> Stream:
    """Open a lease under a token that exists; `how` has words of HOW only.

    `memory` goes on from one stream to the next.
    """
    from gateway.client.leases import LeaseTerms
    from gateway.client.stream import StreamOptions, open_stream

    order = {name: how[name] for name in _ORDER if name in how}
    consumed: dict[str, Any] = {"prefetch_bytes": settings.prefetch_bytes}
    consumed |= {name: how[name] for name in _CONSUMED if name in how}
    if memory is not None:
        consumed["memory"] = memory
    terms = LeaseTerms(
        token=token,
        patience_seconds=settings.patience_seconds,
        delivery=settings.delivery,
        tls=transport.tls,
        manifest_key=partial(signed.opened, transport),
    )
    request = LeaseRequest(
        order=OrderRequest(**order),
        position=None if position is None else dict(position),
        code=program.code_digest(),
        framework=program.framework(),
    )
    return open_stream(transport, request, StreamOptions(terms=terms, **consumed))
