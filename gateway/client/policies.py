"""`gw.policies`: rules as directories of files, pulled, tried and pushed.

A pulled directory remembers in `.gateway-pull.json` whose rules it holds and which bundle they
were, so that `push` replaces exactly what was read and never somebody else's work.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gateway.wire as W
from gateway.client.records import Record, Table
from gateway.client.targets import segment
from gateway.errors import Conflict, InvalidInput, NotFound

if TYPE_CHECKING:
    from gateway.client.client import GatewayClient

Source = str | Path | Mapping[str, str]
POLICY_SUFFIXES = (".yaml", ".yml")
POLICY_BYTES_MAX = 1 << 20
_ENTRIES = 1000  # of a page
_PULLED = ".gateway-pull.json"


class Policies:
    """`gw.policies`."""

    def __init__(self, gateway: GatewayClient) -> None:
        """Belong to a client."""
        self._gateway = gateway

    def show(self, tenant: str) -> Record:
        """The bundle in force: its hash and files."""
        return Record(self._gateway.get(f"/v1/policies/{segment(tenant)}"), self._gateway)

    def pull(
        self,
        directory: str | Path,
        *,
        tenant: str | None = None,
        overwrite: bool = False,
        proposed: bool = False,
    ) -> Record:
        """Write the bundle in force into a directory, which `push` then pushes against it.

        `proposed=True` writes the one that waits for a second person.

        Raises:
            NotFound: none waits.
            Conflict: the directory holds other rules; `overwrite=True` replaces them.
        """
        bundle = self.show(tenant or self._own_tenant())
        files = _proposed(bundle)["files"] if proposed else bundle.files
        root = Path(directory)
        here = policy_files(root) if root.is_dir() else {}
        if not overwrite and {**here, **files} != files:
            raise Conflict(
                f"`{root}` holds rules that are not those in force",
                advice="pull into a new directory, or say --yes to lose them",
            )
        write_files(root, files)
        for name in set(here) - set(files):
            (root / name).unlink()
        _remember(root, bundle)
        return bundle

    def push(
        self, source: Source, *, tenant: str | None = None, if_match: str | None = None
    ) -> Record:
        """Publish a directory (or path → text) over the bundle that was pulled, or is in force.

        Args:
            source: the rules.
            tenant: whose; default: as pulled, else one's own.
            if_match: hash of the bundle to replace; default: as pulled, else the one in force.

        Raises:
            PolicyError: naming file, line and column; the old bundle stays in force.
            PreconditionFailed: somebody else published meanwhile.
        """
        pulled = _pulled(source)
        owner = tenant or pulled.get("tenant") or self._own_tenant()
        if if_match is None and pulled.get("tenant") == owner:
            if_match = pulled["hash"]
        reply = self._gateway.transport.request(
            "PUT",
            f"/v1/policies/{segment(owner)}",
            json=W.PolicyFiles(files=policy_files(source)),
            headers={"If-Match": f'"{if_match or self.show(owner).hash}"'},
        )
        bundle = Record(reply.json(), self._gateway)
        if pulled and not isinstance(source, Mapping):
            _remember(Path(source), bundle)
        return bundle

    def who(self, dataset: str, *, column: str | None = None, as_of: str | None = None) -> Table:
        """Who could get the dataset's columns, now or `as_of` a time or catalogue index."""
        path = f"/v1/policies/{segment(dataset.partition('/')[0])}/who?limit={_ENTRIES}&cursor="
        wanted = W.WhoRequest(dataset=dataset, column=column, as_of=as_of)
        items: list[Record] = []
        cursor: str | None = "0"
        while cursor is not None:
            page = self._gateway.post(path + cursor, wanted)
            items += [Record(item, self._gateway) for item in page["items"]]
            cursor = page["next"]
        return Table.of(items)

    def approve(self, bundle: str, *, tenant: str | None = None) -> Record:
        """Put in force what somebody else proposed; `bundle` is its hash."""
        path = f"/v1/policies/{segment(tenant or self._own_tenant())}/approvals"
        return Record(self._gateway.post(path, W.ApprovalRequest(bundle=bundle)), self._gateway)

    def trial(self, source: Source, *, tenant: str | None = None) -> Record:
        """All that a push of these rules would do: lint, test, diff and replay in one."""
        return self._trial(source, tenant, ())

    def test(self, source: Source, *, tenant: str | None = None) -> Record:
        """Lint and test a directory at the gateway without publishing it."""
        return self._trial(source, tenant, ("lint", "test"))

    def lint(self, source: Source | None = None, *, tenant: str | None = None) -> Record:
        """What in a directory, or in the rules in force, was probably not meant."""
        return self._trial(source, tenant, ("lint",))

    def diff(self, source: Source, *, tenant: str | None = None) -> Record:
        """How a directory differs from the rules in force, and who would get another answer."""
        return self._trial(source, tenant, ("diff",))

    def replay(self, source: Source, *, tenant: str | None = None) -> Record:
        """Which recorded requests would be answered otherwise under these rules."""
        return self._trial(source, tenant, ("replay",))

    def explain(self, decision: str) -> Record:
        """Why a decision (or a request, `req_…`) came out as it did."""
        path = f"/v1/decisions/{segment(decision)}"
        if decision.startswith("req_"):
            path = f"/v1/access-requests/{segment(decision)}/explanation"
        return Record(self._gateway.get(path), self._gateway)

    def _trial(self, source: Source | None, tenant: str | None, parts: tuple[str, ...]) -> Record:
        pulled = {} if source is None else _pulled(source)
        owner = tenant or pulled.get("tenant") or self._own_tenant()
        files = None if source is None else policy_files(source)
        wanted = W.TrialRequest(files=files, parts=parts)
        path = f"/v1/policies/{segment(owner)}/trial"
        return Record(self._gateway.post(path, wanted), self._gateway)

    def _own_tenant(self) -> str:
        return str(self._gateway.whoami().tenant)


def policy_files(source: Source) -> dict[str, str]:
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


def _proposed(bundle: Record) -> dict[str, Any]:
    if bundle.proposed is None:
        raise NotFound("no bundle waits for a second person")
    return dict(bundle.proposed)


def tenant_of(directory: Path) -> str:
    """Whose rules a directory holds: as pulled, else by its name."""
    return str(_pulled(directory).get("tenant") or directory.resolve().name)


def write_files(directory: Path, files: Mapping[str, str]) -> None:
    """Write files below a directory; InvalidInput for a path that leads out of it."""
    root = directory.resolve()
    for name, text in files.items():
        path = (root / name).resolve()
        if not path.is_relative_to(root):
            raise InvalidInput(f"`{name[:80]}` leads out of `{root}`")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


def _remember(directory: Path, bundle: Record) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    mark = {"tenant": bundle.tenant, "hash": bundle.hash}
    (directory / _PULLED).write_text(json.dumps(mark), "utf-8")


def _pulled(source: Source) -> dict[str, Any]:
    """What `pull` left; {} where nothing was pulled."""
    if isinstance(source, Mapping):
        return {}
    path = Path(source) / _PULLED
    if not path.is_file():
        return {}
    try:
        mark = json.loads(path.read_text("utf-8"))
        return {"tenant": str(mark["tenant"]), "hash": str(mark["hash"])}
    except (ValueError, KeyError, TypeError) as cause:
        raise InvalidInput(f"`{path}` is not what pull wrote", advice="pull again") from cause
