"""Access, tokens, grants, policies: ask, get, see, end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import gateway.wire as W
from gateway.client.records import Decision, Grant, Record, Revocation, Table, Token
from gateway.client.transport import segment
from gateway.errors import InvalidInput
from gateway.wire import codec
from gateway.wire.tokens import DETAIL_TYPE

if TYPE_CHECKING:
    from gateway.client.client import GatewayClient

POLICY_SUFFIXES = (".yaml", ".yml")
POLICY_BYTES_MAX = 1 << 20


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


class Policies:
    """`gw.policies`."""

    def __init__(self, gateway: GatewayClient) -> None:
        """Belong to a client."""
        self._gateway = gateway

    def show(self, tenant: str) -> Record:
        """The bundle in force: its hash and files."""
        return Record(self._gateway.get(f"/v1/policies/{segment(tenant)}"), self._gateway)

    def push(self, source: str | Path | Mapping[str, str], *, tenant: str | None = None) -> Record:
        """Publish a directory (or path → text) over the bundle that is in force now.

        Raises:
            PolicyError: naming file, line and column; the old bundle stays in force.
            PreconditionFailed: somebody else published meanwhile.
        """
        owner = tenant or self._own_tenant()
        reply = self._gateway.transport.request(
            "PUT",
            f"/v1/policies/{segment(owner)}",
            json=W.PolicyFiles(files=policy_files(source)),
            headers={"If-Match": f'"{self.show(owner).hash}"'},
        )
        return Record(reply.json(), self._gateway)

    def test(self, source: str | Path | Mapping[str, str], *, tenant: str | None = None) -> Record:
        """Lint and test a directory at the gateway without publishing it."""
        path = f"/v1/policies/{segment(tenant or self._own_tenant())}/trial"
        files = W.PolicyFiles(files=policy_files(source))
        return Record(self._gateway.post(path, files), self._gateway)

    def explain(self, decision: str) -> Record:
        """Why a decision came out as it did."""
        return Record(self._gateway.get(f"/v1/decisions/{segment(decision)}"), self._gateway)

    def _own_tenant(self) -> str:
        return str(self._gateway.whoami().tenant)


def policy_files(source: str | Path | Mapping[str, str]) -> dict[str, str]:
    """Read a policy directory: every YAML file below it, by its relative path."""
    if isinstance(source, Mapping):
        return dict(source)
    root = Path(source)
    if not root.is_dir():
        raise InvalidInput(f"`{root}` is not a directory", advice="name the directory of rules")
    found = sorted(p for p in root.rglob("*") if p.suffix in POLICY_SUFFIXES and p.is_file())
    if sum(p.stat().st_size for p in found) > POLICY_BYTES_MAX:
        raise InvalidInput(f"the rules in `{root}` are over {POLICY_BYTES_MAX} bytes")
    return {p.relative_to(root).as_posix(): p.read_text("utf-8") for p in found}
