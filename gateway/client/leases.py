"""A lease in the hands of a client: opened, renewed at half its life, opened again after loss."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import logging
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from gateway.client.segments import Access
from gateway.domain.position import StreamPosition
from gateway.errors import (
    ConfigError,
    GatewayError,
    IntegrityError,
    KeyUnavailable,
    NotFound,
    PlanChanged,
    Unavailable,
)
from gateway.wire import codec
from gateway.wire.leases import GOES_ON, LeaseManifest, LeaseRequest, LeaseView
from gateway.wire.operations import Operation

DELIVERIES = ("auto", "ring", "http")
_KEY_BYTES = 32
_BUILDING_POLL_SECONDS = 0.2
_PROGRESS_SECONDS = 5.0

_log = logging.getLogger("gateway.client")


class Response(Protocol):
    """What a transport answers."""

    @property
    def status(self) -> int:
        """HTTP status."""
        ...

    def json(self) -> Any:
        """The body as JSON values."""
        ...


class Transport(Protocol):
    """The control connection (gateway.client.transport); raises typed GatewayErrors."""

    def request(
        self, method: str, path: str, *, json: Any = None, token: str | None = None
    ) -> Response:
        """Send one request."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTerms:
    """How a stream deals with its lease."""

    token: Callable[[], str] | None = None  # a dataset token that is good now; None = transport's
    patience_seconds: float = 600.0  # how long a gateway may be away
    delivery: str = "auto"  # `auto` | `ring` | `http`
    tls: Callable[[], ssl.SSLContext] | None = None  # for `https` data URLs; None = the system's
    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    manifest_key: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = field(default=None)
    # ^ verifies the signed lease manifest and returns its value (crypto.signing.open_document
    #   with the gateway's pinned key); None = trusted as it came through the transport

    def __post_init__(self) -> None:
        if self.delivery not in DELIVERIES:
            raise ConfigError(
                f"`{self.delivery[:40]}` is not a delivery",
                advice=f"use one of {', '.join(DELIVERIES)}",
            )


class HeldLease:
    """One lease at a time for one order; `access` is what segments are fetched with."""

    def __init__(self, transport: Transport, request: LeaseRequest, terms: LeaseTerms) -> None:
        """Open the lease; raises what the gateway refuses it with."""
        self._transport, self._request, self._terms = transport, request, terms
        self._renew_at = 0.0
        self.is_open = True
        self.access: Access = self._open(request)

    def tls(self) -> ssl.SSLContext:
        """What `https` to the data worker is checked with."""
        return self._terms.tls() if self._terms.tls else ssl.create_default_context()

    @property
    def manifest(self) -> LeaseManifest:
        """The lease manifest in force."""
        return self.access.manifest

    def position(self, rows: int) -> StreamPosition:
        """Return the position after `rows` rows of this order."""
        order = self.manifest.order
        return StreamPosition(
            order=self.manifest.order_id,
            seed=order.seed,
            epoch=order.epoch,
            shuffle=order.shuffle,
            lanes=order.lanes_chosen,
            window=order.window_blocks,
            rows=rows,
        )

    def reopen(self, rows: int) -> None:
        """Open a new lease for the same order at `rows`; PlanChanged when it is another order."""
        before = self.manifest
        position = self.position(rows)
        order = replace(self._request.order, lanes=before.order.lanes_chosen)
        request = replace(self._request, order=order, position=position.to_dict())
        access = self._open(request)
        after = access.manifest
        if (after.order_id, after.lanes) != (before.order_id, before.lanes):
            raise PlanChanged("the gateway now gives another plan or order")
        self.access = access

    def is_lost(self) -> bool:
        """Whether the gateway says that this lease ended with its worker, or with itself.

        Its data URL may be nobody's then: a gateway that is started again has another port.
        """
        path = f"/v1/leases/{self.manifest.lease}"
        try:
            view = self._view(self._transport.request("GET", path, token=self._token()))
        except NotFound:
            return True  # its last words were not durable
        except GatewayError:
            return False  # whoever refuses us says so again, when a segment is asked for
        return view.closed in GOES_ON

    def renew_when_due(self) -> None:
        """Renew at half the lease's life; a gateway that is away is asked again later."""
        if self._terms.now() < self._renew_at:
            return
        try:
            path = f"/v1/leases/{self.manifest.lease}/renewal"
            view = self._view(self._transport.request("POST", path, token=self._token()))
        except (Unavailable, KeyUnavailable):
            self._renew_at = self._terms.now() + 1.0
            return
        self._schedule(view)

    def close(self) -> None:
        """Give the lease back; a gateway that does not answer closes it at its expiry."""
        self.is_open = False
        try:
            path = f"/v1/leases/{self.manifest.lease}"
            self._transport.request("DELETE", path, token=self._token())
        except GatewayError:
            return

    def _open(self, request: LeaseRequest) -> Access:
        said = self._terms.now()
        while True:
            reply = self._transport.request(
                "POST", "/v1/leases", json=codec.encode(request), token=self._token()
            )
            view = self._view(reply)
            if view.state != "building":
                break
            if self._terms.now() - said >= _PROGRESS_SECONDS:
                said = self._terms.now()
                self._say_progress(view.operation)
            self._terms.sleep(_BUILDING_POLL_SECONDS)
        self._schedule(view)
        if not view.data_url or not view.lease_key or view.manifest is None:
            raise IntegrityError("the gateway's answer lacks the key or the manifest of the lease")
        return Access(self._manifest(view), view.data_url, _key(view.lease_key), view.ring)

    def _say_progress(self, operation: str | None) -> None:
        """A view, or shards from afar, may take minutes: nobody shall take that for a hang."""
        done = ""
        with contextlib.suppress(GatewayError):  # it is over, or not ours to see
            reply = self._transport.request("GET", f"/v1/operations/{operation}")
            found = codec.decode_reply(Operation, reply.json())
            done = f": {found.detail[:80]}, {found.progress:.0%}"
        _log.warning("the gateway makes the rows ready%s", done)

    def _manifest(self, view: LeaseView) -> LeaseManifest:
        document = view.manifest or {}
        if self._terms.manifest_key is not None:
            payload = self._terms.manifest_key(document)
        else:
            payload = _payload(document)
        manifest = codec.decode_reply(LeaseManifest, payload)
        if manifest.lease != view.lease:
            raise IntegrityError("the manifest belongs to another lease")
        return manifest

    def _schedule(self, view: LeaseView) -> None:
        now = self._terms.now()
        self._renew_at = now + max(0.0, view.expires_at - now) / 2

    def _token(self) -> str | None:
        return None if self._terms.token is None else self._terms.token()

    @staticmethod
    def _view(reply: Response) -> LeaseView:
        return codec.decode_reply(LeaseView, reply.json())


def _key(text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as cause:
        raise IntegrityError("the lease key cannot be read") from cause
    if len(key) != _KEY_BYTES:
        raise IntegrityError("the lease key has another length")
    return key


def _payload(document: Mapping[str, Any]) -> Any:
    try:
        return json.loads(base64.b64decode(document["payload"], validate=True))
    except (KeyError, TypeError, ValueError) as cause:
        raise IntegrityError("the manifest of the lease cannot be read") from cause
