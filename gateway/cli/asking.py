"""Commands about asking people: request, list, show, approve, reject."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from gateway.cli import flags as f
from gateway.cli.output import note, print_record, print_table
from gateway.cli.wanted import Wanted, asks

Valid = Annotated[str | None, typer.Option("--valid", help="for how long: `14d`, `8h`")]
LIST_COLUMNS = ("id", "state", "dataset", "subject", "purpose", "asked_at", "reason")


def add_commands(app: typer.Typer) -> None:
    """Add the verbs to the noun `access`."""
    example = "Example: gateway access"
    app.command("request", epilog=f"{example} request clinic/icu --purpose health-research")(
        request
    )
    app.command("list", epilog=f"{example} list --pending")(list_requests)
    app.command("show", epilog=f"{example} show req_k3…")(show)
    app.command("approve", epilog=f"{example} approve req_k3… --valid 14d --reason 'IRB 17'")(
        approve
    )
    app.command("reject", epilog=f"{example} reject req_k3… --reason 'no consent'")(reject)


@asks
def request(
    dataset: str,
    *,
    wanted: Wanted,
    action: f.Action = "stream",
    valid: Valid = None,
    reason: f.Reason = None,
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> None:
    """Ask the owner's people for what the rules allow only if one of them approves."""
    asked = f.client(server, key_file).access.request(
        dataset,
        action=action,
        **wanted,
        valid=valid,
        reason=reason,
    )
    _print("access.request", asked.to_dict(), as_json=as_json)
    if not as_json:
        note(f"see the answer with `gateway access show {asked.id}`")


def list_requests(
    pending: Annotated[
        bool, typer.Option("--pending", help="only what waits for an answer")
    ] = False,
    dataset: f.DatasetFlag = None,
    subject: f.Subject = None,
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> None:
    """List what you asked people for, and what you are asked for."""
    found = f.client(server, key_file).access.list(
        pending=pending, dataset=dataset, subject=subject
    )
    rows = [asked.to_dict() for asked in found]
    print_table("access.list", rows, LIST_COLUMNS, as_json=as_json)


def show(
    request: str, server: f.Server = None, key_file: f.KeyFile = None, as_json: f.Json = False
) -> None:
    """Show one request, the plan that a yes would release, and the answer."""
    asked = f.client(server, key_file).access.show(request)
    _print("access.show", asked.to_dict(), as_json=as_json)


def approve(
    request: str,
    narrow_columns: Annotated[
        str | None, typer.Option("--narrow-columns", help="only these columns: `age,hr`")
    ] = None,
    valid: Valid = None,
    reason: f.Reason = None,
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> None:
    """Say yes to a request, or to a part of it; it becomes the asker's grant."""
    answered = f.client(server, key_file).access.approve(
        request, narrow_columns=f.names(narrow_columns, None), valid=valid, reason=reason
    )
    _print("access.approve", answered.to_dict(), as_json=as_json)


def reject(
    request: str,
    reason: Annotated[str, typer.Option("--reason", help="why not; the asker reads it")],
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> None:
    """Say no to a request."""
    answered = f.client(server, key_file).access.reject(request, reason=reason)
    _print("access.reject", answered.to_dict(), as_json=as_json)


def _print(schema: str, asked: Mapping[str, Any], *, as_json: bool) -> None:
    shown = dict(asked)
    if not as_json:
        shown |= {f"plan {name}": value for name, value in (asked["plan"] or {}).items() if value}
        shown.pop("plan")
    print_record(schema, shown, as_json=as_json)
