"""Access, tokens, grants: ask, get, see, end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import gateway.wire as W
from gateway.client.records import (
    AccessRequest,
    Decision,
    Grant,
    Record,
    Revocation,
    Table,
    Token,
)
from gateway.client.targets import segment
from gateway.errors import InvalidInput
from gateway.wire import codec
from gateway.wire.tokens import DETAIL_TYPE

if TYPE_CHECKING:
    from gateway.client.client import GatewayClient
    from gateway.crypto.tokens import DpopKey

_REQUESTS = "/v1/access-requests"


class Ask(TypedDict, total=False):
    """What an AccessRequest may name besides the dataset."""

    action: str
    purpose: str | None
    columns: Sequence[str] | None
    split: str | None
    shards: Sequence[int] | None
    max_rows: int | None
    max_bytes: int | None
    max_epochs: int | None
    run: str | None


def ask_of(dataset: str, ask: Mapping[str, Any]) -> W.AccessAsk:
    """Return the AccessRequest; InvalidInput names what does not fit."""
    if ask.get("columns") is not None:
        _listed(ask["columns"])
    return codec.decode(W.AccessAsk, {"dataset": dataset, **ask})


def _listed(columns: Sequence[str]) -> Sequence[str]:
    if isinstance(columns, str):
        raise InvalidInput("`columns` is a list of names", advice='write columns=["age", "hr"]')
    return columns


class Access:
    """`gw.access`."""

    def __init__(self, gateway: GatewayClient) -> None:
        """Belong to a client."""
        self._gateway = gateway

    def check(self, dataset: str, *, at: str | None = None, **ask: Unpack[Ask]) -> Decision:
        """Ask whether it would be allowed (now, or `at` a time); never makes a Grant."""
        request = W.EvaluationRequest.of(ask_of(dataset, ask), at)
        reply = self._gateway.post("/access/v1/evaluation", request)
        return Decision(reply["context"], self._gateway)

    def request(
        self,
        dataset: str,
        *,
        valid: str | None = None,
        reason: str | None = None,
        **ask: Unpack[Ask],
    ) -> AccessRequest:
        """Ask the owner's people for what the rules allow only under an approval.

        Raises:
            AccessDenied: the rules do not allow it even so.
            Conflict: no person is needed, or one said yes already.
        """
        same = codec.encode(ask_of(dataset, ask))
        wanted = codec.decode(W.PersonAsk, {**same, "valid": valid, "reason": reason})
        return AccessRequest(self._gateway.post(_REQUESTS, wanted), self._gateway)

    def list(
        self, *, pending: bool = False, dataset: str | None = None, subject: str | None = None
    ) -> Table:
        """What we asked for and what we are asked for."""
        only = "true" if pending else None
        return self._gateway.all_of(
            _REQUESTS, AccessRequest, pending=only, dataset=dataset, subject=subject
        )

    def show(self, request: str) -> AccessRequest:
        """One request."""
        path = f"{_REQUESTS}/{segment(request)}"
        return AccessRequest(self._gateway.get(path), self._gateway)

    def approve(
        self,
        request: str,
        *,
        narrow_columns: Sequence[str] | None = None,
        valid: str | None = None,
        reason: str | None = None,
    ) -> AccessRequest:
        """Say yes, to all of it or to less; it becomes the asker's Grant."""
        narrowed = narrow_columns if narrow_columns is None else tuple(_listed(narrow_columns))
        said = W.RequestAnswer(
            decision="approve", narrow_columns=narrowed, valid=valid, reason=reason
        )
        return self._answer(request, said)

    def reject(self, request: str, *, reason: str) -> AccessRequest:
        """Say no; the asker reads the reason."""
        return self._answer(request, W.RequestAnswer(decision="reject", reason=reason))

    def _answer(self, request: str, said: W.RequestAnswer) -> AccessRequest:
        path = f"{_REQUESTS}/{segment(request)}/approvals"
        return AccessRequest(self._gateway.post(path, said), self._gateway)


class Tokens:
    """`gw.tokens`."""

    def __init__(self, gateway: GatewayClient) -> None:
        """Belong to a client."""
        self._gateway = gateway

    def request(
        self,
        dataset: str | None = None,
        *,
        grant: str | None = None,
        parent: str | None = None,
        **ask: Unpack[Ask],
    ) -> Token:
        """Get a token for a dataset, for a Grant that stands, or for a part of one (`parent`).

        Raises:
            AccessDenied: with the reason and, where the rule permits it, what would have to
                change.
        """
        if sum(name is not None for name in (dataset, grant, parent)) != 1:
            raise InvalidInput("name either a dataset, a grant or a parent")
        detail = detail_of(dataset, grant, ask)
        if parent is not None:
            del detail["dataset"]
            detail["parent"] = parent
        return Token.of(self._gateway.transport.exchange(detail))

    def show(self, token: Token | str) -> Record:
        """What a token is good for now; of one that is not, nothing but `active: false`.

        Its subject may ask, an owner of the subject's tenant, and the operator.
        """
        return Record(self._gateway.transport.introspect(_text_of(token)), self._gateway)

    def revoke(self, token: Token | str) -> None:
        """End one of our own tokens, what was had for it, and the streams it holds open."""
        self._gateway.transport.revoke(_text_of(token))

    def proof(
        self, method: str, url: str, *, token: Token | str | None = None, key: DpopKey | None = None
    ) -> dict[str, str]:
        """The headers of one request of another program: `Authorization` and a fresh `DPoP`.

        Args:
            method: HTTP method.
            url: of this gateway, or a path there; good for this request alone, for a minute.
            token: a dataset token; None = the API token.
            key: that `token` is bound to; None = this process's own.

        Raises:
            InvalidInput: the URL is not of this gateway: its token goes nowhere else.
        """
        transport = self._gateway.transport
        used = transport.api_token() if token is None else _text_of(token)
        transport.learn_nonce()
        proof = transport.proof(method, transport.own_url(url), used, key)
        return {"Authorization": f"DPoP {used}", "DPoP": proof}


def _text_of(token: Token | str) -> str:
    return token if isinstance(token, str) else str(token.access_token)


def detail_of(dataset: str | None, grant: str | None, ask: Mapping[str, Any]) -> dict[str, Any]:
    """The RFC 9396 detail of a token request; fields that were not given are left out."""
    if grant is not None:
        return {"type": DETAIL_TYPE, "grant": grant}
    wanted = codec.encode(ask_of(dataset or "", ask))
    action = wanted.pop("action")
    given = {name: value for name, value in wanted.items() if value is not None}
    return {"type": DETAIL_TYPE, "actions": [action], **given}


class Grants:
    """`gw.grants`."""

    def __init__(self, gateway: GatewayClient) -> None:
        """Belong to a client."""
        self._gateway = gateway

    def list(
        self,
        *,
        dataset: str | None = None,
        subject: str | None = None,
        run: str | None = None,
        tenant: str | None = None,
    ) -> Table:
        """Grants that we gave or hold."""
        return self._gateway.all_of(
            "/v1/grants", Grant, dataset=dataset, subject=subject, run=run, tenant=tenant
        )

    def show(self, grant: str) -> Grant:
        """One grant."""
        return Grant(self._gateway.get(f"/v1/grants/{segment(grant)}"), self._gateway)

    def revoke(
        self,
        grant: str | None = None,
        *,
        dataset: str | None = None,
        subject: str | None = None,
        run: str | None = None,
        tenant: str | None = None,
        reason: str | None = None,
    ) -> Revocation:
        """End a grant, or all that fit every selector given, and stop their streams."""
        request = W.RevocationRequest(
            grant=grant, dataset=dataset, subject=subject, run=run, tenant=tenant, reason=reason
        )
        return Revocation(self._gateway.post("/v1/revocations", request), self._gateway)
