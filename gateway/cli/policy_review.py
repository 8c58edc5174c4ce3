"""Commands that look at rules before they count: lint, diff, replay."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli import flags as f
from gateway.cli.output import print_json, print_table, safe
from gateway.cli.policies import print_trial, problem_of
from gateway.cli.trials import diff_lines, finding_line, replay_lines
from gateway.client.policies import policy_files, tenant_of
from gateway.errors import GatewayError, InvalidInput
from gateway.wire import codec
from gateway.wire.spreadsheet import to_csv

Rules = Annotated[
    Path | None, typer.Argument(metavar="[DIR]", help="a directory; default: what is in force")
]

_REVIEWED = (
    "column", "subject", "actions", "access", "condition", "unless", "rule", "owner", "ticket",
    "expires_at", "last_used", "looked_back_to",
)  # fmt: skip


def add_commands(app: typer.Typer) -> None:
    """Put them beside the other verbs of `policy`."""
    app.command("lint", epilog="Example: gateway policy lint rules/")(lint)
    app.command("diff", epilog="Example: gateway policy diff rules/")(diff)
    app.command("who", epilog="Example: gateway policy who clinic/icu --column age")(who)
    app.command("replay", epilog="Example: gateway policy replay rules/")(replay)


def lint(
    directory: Rules = None,
    tenant: f.Tenant = None,
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> int:
    """Say what in rules was probably not meant; a directory needs no server."""
    if directory is None:
        found = f.client(server, key_file).policies.lint(tenant=tenant).to_dict()
        trial = {name: found[name] for name in ("problems", "findings")}
    else:
        trial = _lint_here(directory, tenant or tenant_of(directory))
    ok = not (trial["problems"] or trial["findings"])
    if as_json:
        print_json("policy.lint", {"ok": ok, **trial})
    else:
        lines = [safe(problem["message"]) for problem in trial["problems"]]
        lines += map(finding_line, trial["findings"])
        print("\n".join(lines) or "nothing found")
    return 0 if ok else GatewayError.exit_code


def _lint_here(directory: Path, tenant: str) -> dict[str, Any]:
    from gateway.policy import lint as rules
    from gateway.policy.bundle import PolicyBundle

    try:
        bundle = PolicyBundle.read(policy_files(directory), tenant)
    except InvalidInput as refused:
        return {"problems": [problem_of(refused)], "findings": []}
    found = rules.lint(bundle, now=time.time())
    return {"problems": [], "findings": [finding.to_dict() for finding in found]}


def who(
    dataset: str,
    column: Annotated[str | None, typer.Option("--column", help="one column")] = None,
    as_of: Annotated[
        str | None, typer.Option("--as-of", help="a time, `30d` back, or a catalogue index")
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="print CSV")] = False,
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> None:
    """Say who could get a dataset's columns (`lineage ask who-read` says who did)."""
    found = f.client(server, key_file).policies.who(dataset, column=column, as_of=as_of)
    rows = [row.to_dict() for row in found]
    if csv:
        sys.stdout.write(to_csv(_REVIEWED, [[_cell(r[n]) for n in _REVIEWED] for r in rows]))
        return
    print_table("policy.who", rows, _REVIEWED, as_json=as_json)


def _cell(value: Any) -> Any:
    return ", ".join(value) if isinstance(value, list) else value


def diff(
    one: Annotated[Path, typer.Argument(metavar="A")],
    other: Annotated[
        Path | None, typer.Argument(metavar="[B]", help="default: A against what is in force")
    ] = None,
    tenant: f.Tenant = None,
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> int:
    """Compare rules: A with B, or what is in force with A; who newly may, who no longer."""
    if other is None:
        trial = f.client(server, key_file).policies.diff(one, tenant=tenant).to_dict()
    else:
        trial = _diff_here(one, other, tenant or tenant_of(one))
    if trial["problems"]:
        return print_trial("policy.diff", trial, as_json=as_json)
    if as_json:
        print_json("policy.diff", trial["diff"])
    else:
        print("\n".join(diff_lines(trial["diff"])))
    return 0


def _diff_here(one: Path, other: Path, tenant: str) -> dict[str, Any]:
    from gateway.policy.bundle import PolicyBundle
    from gateway.policy.diff import diff as compare

    try:
        before, after = (PolicyBundle.read(policy_files(d), tenant) for d in (one, other))
    except InvalidInput as refused:
        return {"ok": False, "problems": [problem_of(refused)]}
    found = compare(before, after, now=time.time(), clock=time.monotonic)
    return {"problems": [], "diff": codec.encode(found)}


def replay(
    directory: Annotated[Path, typer.Argument(metavar="DIR")],
    tenant: f.Tenant = None,
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> int:
    """Judge recorded requests by the rules in a directory: what would have come out otherwise."""
    trial = f.client(server, key_file).policies.replay(directory, tenant=tenant).to_dict()
    if trial["problems"]:
        return print_trial("policy.replay", trial, as_json=as_json)
    if as_json:
        print_json("policy.replay", trial["replay"])
    else:
        print("\n".join(replay_lines(trial["replay"])))
    return 0
