"""Commands that look at rules before and after they count: lint."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli import flags as f
from gateway.cli.output import print_json, safe
from gateway.cli.policies import finding_line, problem_of
from gateway.client.policies import policy_files, tenant_of
from gateway.errors import GatewayError, InvalidInput

Rules = Annotated[
    Path | None, typer.Argument(metavar="[DIR]", help="a directory; default: what is in force")
]


def add_commands(app: typer.Typer) -> None:
    """Put them beside the other verbs of `policy`."""
    app.command("lint", epilog="Example: gateway policy lint rules/")(lint)


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
