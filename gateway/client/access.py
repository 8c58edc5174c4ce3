"""Access, tokens, grants: ask, get, see, end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import gateway.wire as W
from gateway.client.records import Decision, Grant, Revocation, Table, Token
from gateway.client.transport import segment
from gateway.errors import InvalidInput
from gateway.wire import codec
from gateway.wire.tokens import DETAIL_TYPE

if TYPE_CHECKING:
    from gateway.client.client import GatewayClient


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
    if isinstance(ask.get("columns"), str):
        raise InvalidInput("`columns` is a list of names", advice='write columns=["age", "hr"]')
    return codec.decode(W.AccessAsk, {"dataset": dataset, **ask})


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
