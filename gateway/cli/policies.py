"""Commands about rules: write one, test them, publish them, explain a decision."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import flags as f
from gateway.cli.access import print_decision
from gateway.cli.output import note, print_json, safe
from gateway.cli.trials import explanation_lines, trial_lines
from gateway.client.policies import policy_files, tenant_of, write_files
from gateway.domain.dataset import Column, DatasetRef
from gateway.errors import GatewayError, InvalidInput, NotFound

if TYPE_CHECKING:
    from gateway.policy.write import RuleWish, WrittenRule

app = typer.Typer(name="policy", help="Write, test and publish rules.", no_args_is_help=True)
Released = Annotated[
    str | None, typer.Option("--columns", help="what it releases, separated by commas")
]
Directory = Annotated[Path | None, typer.Option("--dir", help="directory of the tenant's rules")]


@app.command(
    "new",
    epilog="Example: gateway policy new clinic/icu --to startup/role:trainer "
    "--purpose health-research --columns age,hr --push",
)
def new(
    dataset: str,
    allow: Annotated[list[str] | None, typer.Option("--allow", help="action; repeatable")] = None,
    to: Annotated[
        list[str] | None, typer.Option("--to", help="tenant/role:NAME or tenant/user:NAME")
    ] = None,
    purpose: Annotated[list[str] | None, typer.Option("--purpose", help="repeatable")] = None,
    columns: Released = None,
    column: f.Column = None,
    mask: Annotated[list[str] | None, typer.Option("--mask", help="COLUMN=MASK")] = None,
    where: Annotated[str | None, typer.Option("--where", help="condition on rows")] = None,
    valid: Annotated[str | None, typer.Option("--valid", help="each grant ends after: 14d")] = None,
    directory: Directory = None,
    push: Annotated[bool, typer.Option("--push", help="publish it at once")] = False,
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> None:
    """Write a rule, its test, and say in one sentence what it means."""
    from gateway.policy.write import RuleWish

    ref = DatasetRef.parse(dataset).unversioned
    gateway = f.client(server, key_file)
    files = dict(gateway.policies.show(ref.tenant).files)
    if directory is not None and directory.is_dir():
        files = policy_files(directory)
    wish = RuleWish(
        dataset=ref,
        allow=tuple(allow or ("stream",)),
        to=tuple(to or ()),
        purpose=tuple(purpose or ()),
        columns=f.names(columns, column) or (),
        masks=f.pairs(mask, "COLUMN=MASK"),
        where=where,
        valid=valid,
    )
    seen = gateway.datasets.show(str(ref)).to_dict()["columns"]
    written = _written(wish, files, [_column(view) for view in seen])
    merged = {**files, **written.files}
    if directory is not None:
        write_files(directory, merged)
    published = gateway.policies.push(merged, tenant=ref.tenant).hash if push else None
    if as_json:
        print_json(
            "policy.new",
            {
                "rule": written.id,
                "sentence": written.sentence,
                "files": dict(written.files),
                "published": published,
            },
        )
        return
    print(safe(written.sentence))
    for name in written.files:
        print(safe(f"  {directory / name if directory else name}"))
    if published:
        print(f"published as {safe(published)[:16]}")
    else:
        note("nothing was published; --push does, or `gateway policy push DIR`")


def _written(wish: RuleWish, files: Mapping[str, str], columns: Sequence[Column]) -> WrittenRule:
    from gateway.policy.bundle import PolicyBundle
    from gateway.policy.write import write_rule

    taken = [rule.id for rule in PolicyBundle.read(files, wish.dataset.tenant).rules]
    return write_rule(wish, now=time.time(), columns=columns, taken=taken)


def _column(view: dict[str, Any]) -> Column:
    tags = tuple(tag for tag in view["tags"] if tag != "restricted")
    return Column(
        field_id=view["field_id"],
        name=view["name"],
        type=view["type"],
        nullable=view["nullable"],
        tags=tags,
    )


@app.command("pull", epilog="Example: gateway policy pull rules/")
def pull(
    directory: Annotated[Path, typer.Argument(metavar="DIR")],
    tenant: f.Tenant = None,
    yes: Annotated[bool, typer.Option("--yes", help="lose what else is in DIR")] = False,
    proposed: Annotated[
        bool, typer.Option("--proposed", help="the rules that wait for a second person")
    ] = False,
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> None:
    """Write the rules in force into a directory, to edit and push them."""
    policies = f.client(server, key_file).policies
    bundle = policies.pull(directory, tenant=tenant, overwrite=yes, proposed=proposed).to_dict()
    if as_json:
        print_json("policy.pull", bundle)
        return
    print(f"{bundle['rules']} rules of {safe(bundle['tenant'])} as {safe(bundle['hash'])}")
    note(f"edit {directory}, then `gateway policy push {directory}` replaces exactly this bundle")


@app.command("push", epilog="Example: gateway policy push rules/ --dry-run")
def push(
    directory: Annotated[Path, typer.Argument(metavar="DIR")],
    tenant: f.Tenant = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="lint, test, diff and replay; publish nothing")
    ] = False,
    if_match: Annotated[
        str | None,
        typer.Option("--if-match", help="hash of the bundle to replace (default: as pulled)"),
    ] = None,
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> int:
    """Publish a directory of rules; the old ones stay in force when it is refused."""
    policies = f.client(server, key_file).policies
    if dry_run:
        trial = policies.trial(directory, tenant=tenant).to_dict()
        return print_trial("policy.push", trial, as_json=as_json)
    bundle = policies.push(directory, tenant=tenant, if_match=if_match).to_dict()
    if as_json:
        print_json("policy.push", bundle)
        return 0
    print(f"{bundle['rules']} rules of {safe(bundle['tenant'])} in force as {bundle['hash']}")
    if bundle.get("proposed"):
        waiting = safe(bundle["proposed"]["hash"])
        note(f"yours wait for a second person, who runs `gateway policy approve {waiting}`")
    return 0


@app.command("approve", epilog="Example: gateway policy approve 3f9a…")
def approve(
    bundle: str,
    tenant: f.Tenant = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="lint, test, diff and replay it; approve nothing")
    ] = False,
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> int:
    """Put in force, as second person, the rules that somebody else pushed."""
    gateway = f.client(server, key_file)
    if dry_run:
        owner = tenant or gateway.whoami().tenant
        waiting = gateway.policies.show(owner).proposed
        if waiting is None or waiting["hash"] != bundle:
            raise NotFound(f"no bundle `{bundle[:80]}` waits for a second person")
        trial = gateway.policies.trial(waiting["files"], tenant=owner).to_dict()
        return print_trial("policy.approve", trial, as_json=as_json)
    found = gateway.policies.approve(bundle, tenant=tenant).to_dict()
    if as_json:
        print_json("policy.approve", found)
    else:
        print(f"{found['rules']} rules of {safe(found['tenant'])} in force as {found['hash']}")
    return 0


@app.command("test", epilog="Example: gateway policy test rules/ --tenant clinic")
def try_out(
    directory: Annotated[Path, typer.Argument(metavar="DIR")],
    tenant: Annotated[
        str | None, typer.Option("--tenant", help="whose rules (default: the directory's name)")
    ] = None,
    as_json: f.Json = False,
) -> int:
    """Test a directory of rules with its own suites; needs no server."""
    from gateway.policy.bundle import PolicyBundle
    from gateway.policy.coverage import coverage
    from gateway.policy.suite import run_suites
    from gateway.shards.fixture_rows import visible

    try:
        bundle = PolicyBundle.read(policy_files(directory), tenant or tenant_of(directory))
        results = run_suites(bundle, show=visible)
    except InvalidInput as refused:
        trial = {"ok": False, "problems": [problem_of(refused)]}
        return print_trial("policy.test", trial, as_json=as_json)
    trial = {
        "ok": all(r.ok for r in results),
        "cases": [r.to_dict() for r in results],
        "coverage": coverage(bundle, results).to_dict(),
    }
    return print_trial("policy.test", trial, as_json=as_json)


def problem_of(refused: GatewayError) -> dict[str, Any]:
    """What is wrong with a bundle, and where, as a trial says it."""
    place = {name: refused.facts.get(name) or 0 for name in ("line", "column")}
    return {"file": refused.facts.get("file", ""), **place, "message": refused.message}


def print_trial(schema: str, trial: dict[str, Any], *, as_json: bool) -> int:
    """What a trial found; the exit code."""
    if as_json:
        print_json(schema, trial)
    else:
        print("\n".join(trial_lines(trial)))
    return 0 if trial["ok"] else GatewayError.exit_code


@app.command("explain", epilog="Example: gateway policy explain dec_k3…")
def explain(
    decision: str, server: f.Server = None, key_file: f.KeyFile = None, as_json: f.Json = False
) -> None:
    """Explain a decision or an access request: which rules spoke, and what would have to change."""
    found = f.client(server, key_file).policies.explain(decision).to_dict()
    if as_json:
        print_json("policy.explain", found)
        return
    print_decision("policy.explain", found["decision"], as_json=False)
    print("\n".join(explanation_lines(found)))
