"""An Act is one line of the route table; `serve` is the one path every request takes.

Nothing is decided here: the facade judges and records. Each module of this room lists its
Acts; `app.py` mounts them, `openapi.py` describes them, a test compares them with DESIGN §11.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response

import gateway.wire as W
from gateway.api import bodies
from gateway.api.facade import Gateway
from gateway.api.problems import dump
from gateway.config import Settings
from gateway.domain.dataset import parse_name
from gateway.errors import GatewayError, InvalidInput
from gateway.wire import codec

K = TypeVar("K")
_WEIGHT = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\Z")
_NUMBER = re.compile(r"(?:0|[1-9][0-9]{0,14})\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request that was authenticated, with its strict query and body."""

    caller: Any
    path: Mapping[str, str]
    query: Mapping[str, str]
    body: Any
    http: Request
    settings: Settings

    def value(self, kind: type[K]) -> K:
        """The body, which is of the Act's kind."""
        if not isinstance(self.body, kind):
            raise TypeError(f"this act has no body of {kind.__name__}")
        return self.body

    def number(self, name: str, default: int | None = None) -> int:
        """A number in the path or the query; raises InvalidInput."""
        text = self.path.get(name, self.query.get(name))
        if text is None and default is not None:
            return default
        if text is None or not _NUMBER.match(text):
            raise InvalidInput(f"`{name}` must be a number", field=name)
        return int(text)

    def optional(self, name: str) -> int | None:
        """A number that may be left out; raises InvalidInput."""
        return self.number(name) if name in self.query else None

    @property
    def if_match(self) -> str | None:
        """The ETag that `If-Match` names, without its quotes; raises InvalidInput."""
        given = self.http.headers.get("if-match")
        if given is None or given == "*":
            return given
        if not (given[:1] == given[-1:] == '"' and len(given) > 2):  # noqa: PLR2004 - two quotes
            raise InvalidInput("`If-Match` is not one ETag", advice="send the ETag as you got it")
        return given[1:-1]

    @property
    def idempotency_key(self) -> str | None:
        """What makes a retry the same request; checked before the act was called."""
        return self.http.headers.get("idempotency-key")

    @property
    def wants_arrow(self) -> bool:
        """Whether `Accept` prefers an Arrow IPC stream to JSON."""
        return prefers_arrow(",".join(self.http.headers.getlist("accept")))

    @property
    def ref(self) -> str:
        """`tenant/name[@version]` of the path; raises InvalidInput."""
        tenant = parse_name(self.path["tenant"], what="tenant")
        name = parse_name(self.path["name"], what="dataset")
        at = f"@{self.number('version')}" if "version" in self.path else ""
        return f"{tenant}/{name}{at}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One method on one path."""

    method: str
    path: str
    summary: str
    call: Callable[[Gateway, Asked], Awaitable[Any]]
    reply: type | None = None  # dataclass of the body; None = no body (204), dict = any object
    is_page: bool = False  # the reply is a page of `reply`
    body: type | None = None
    query: Mapping[str, str] = field(default_factory=dict)  # name -> what it means
    status: int = 200
    is_public: bool = False  # served without authentication
    is_binary: bool = False  # the body is read by the call, as a stream
    is_also_arrow: bool = False  # who accepts it gets an Arrow IPC stream instead
    is_secret: bool = False  # the reply holds keys: told once, never kept for a retry
    headers: Callable[[Any], Mapping[str, str]] = lambda _: {}  # from the reply
    error_response: Callable[[GatewayError, str], Response] | None = None

    @property
    def takes_idempotency_key(self) -> bool:
        """Whether a retry may carry an Idempotency-Key."""
        return self.method == "POST" and self.path.startswith("/v1/") and not self.is_secret


def prefers_arrow(accept: str) -> bool:
    """Whether this `Accept` names Arrow and wants nothing more than it (RFC 9110 §12.5.1).

    JSON is what comes otherwise, also when both are named as equals; a wildcard is no name.
    """
    weights = dict(_weighed(part) for part in accept.split(","))
    arrow = weights.get(W.ARROW_STREAM, 0.0)
    if "application/json" in weights:
        return arrow > weights["application/json"]
    other = weights.get("application/*", weights.get("*/*", 0.0))
    return arrow > 0 and arrow >= other


def _weighed(part: str) -> tuple[str, float]:
    kind, *parameters = (word.strip().lower() for word in part.split(";"))
    given = [text[2:] for text in parameters if text.startswith("q=")]
    if not given:
        return kind, 1.0
    return kind, float(given[0]) if _WEIGHT.match(given[0]) else 0.0


def strict_query(act: Act, request: Request) -> dict[str, str]:
    """Return the query; InvalidInput when a key is unknown, repeated or not UTF-8."""
    raw = request.scope["query_string"].decode("latin-1")
    try:
        pairs = parse_qsl(raw, keep_blank_values=True, errors="strict", max_num_fields=32)
    except ValueError as cause:
        raise InvalidInput("the query cannot be read", advice="send UTF-8, url-encoded") from cause
    known = {*act.query, *(("limit", "cursor") if act.is_page else ())}
    for name, _ in pairs:
        if name not in known:
            raise InvalidInput(f"`{name[:80]}` is not a query key here", field=name[:80])
    return bodies.once(pairs, "query key")


async def ask_of(act: Act, request: Request, caller: Any, settings: Settings) -> Asked:
    """Read the query and the body of an authenticated request; raises InvalidInput, TooLarge."""
    query = strict_query(act, request)
    body: Any = None
    if act.body is not None:
        body = await bodies.read_json(request, act.body, settings.body_bytes_max)
    elif not act.is_binary:
        bodies.refuse_body(request)
    return Asked(
        caller=caller,
        path=request.path_params,
        query=query,
        body=body,
        http=request,
        settings=settings,
    )


def answer(act: Act, asked: Asked, value: Any) -> Response:
    """Turn what the facade returned into the HTTP answer."""
    if isinstance(value, Response):
        return value
    if act.reply is None:
        return Response(status_code=204)
    if isinstance(value, bytes):
        return Response(value, act.status, media_type="application/octet-stream")
    headers = dict(act.headers(value))
    shape = page(value, asked) if act.is_page else codec.encode(value)
    return Response(dump(shape), act.status, headers, media_type="application/json")


PAGE_MAX, PAGE_DEFAULT = 1000, 100


def page(items: Any, asked: Asked) -> dict[str, Any]:
    """Cut one page out of a list that the facade orders the same way each time.

    The cursor is the position after the last item; it is opaque to callers.
    """
    limit = asked.number("limit", PAGE_DEFAULT)
    if not 1 <= limit <= PAGE_MAX:
        raise InvalidInput(f"`limit` must be 1 to {PAGE_MAX}", field="limit")
    start = asked.number("cursor", 0)
    end = start + limit
    return {
        "items": [codec.encode(item) for item in items[start:end]],
        "next": str(end) if end < len(items) else None,
    }


def location(prefix: str) -> Callable[[Any], Mapping[str, str]]:
    """Headers that say where the created thing is: `prefix` + its id."""
    return lambda value: {"Location": prefix + str(value.id)}
