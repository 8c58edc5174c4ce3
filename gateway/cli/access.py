"""Commands about access: check, grants, stream."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli import flags as f
from gateway.cli.output import print_record, print_table, safe
from gateway.cli.wanted import Wanted, asks
from gateway.errors import AccessDenied, InvalidInput
from gateway.wire.leases import LeaseManifest

access_app = typer.Typer(
    name="access",
    help="Ask whether something would be allowed, and ask people.",
    no_args_is_help=True,
)
grant_app = typer.Typer(
    name="grant", help="See and revoke recorded permissions.", no_args_is_help=True
)
STREAM_BATCH_ROWS = 8192
GRANT_COLUMNS = ("id", "dataset", "subject", "purpose", "columns", "expires_at", "revoked")


@access_app.command(
    "check",
    epilog="Example: gateway access check clinic/icu --purpose health-research --columns age,hr",
)
@asks
def check(
    dataset: str,
    *,
    wanted: Wanted,
    action: f.Action = "stream",
    at: Annotated[str | None, typer.Option("--at", help="ask for a later time")] = None,
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> int:
    """Would it be allowed? Makes no Grant; exit code 3 when denied."""
    decision = f.client(server, key_file).access.check(
        dataset,
        at=at,
        action=action,
        **wanted,
    )
    print_decision("access.check", decision.to_dict(), as_json=as_json)
    return 0 if decision.is_allowed else AccessDenied.exit_code


def print_decision(schema: str, decision: Mapping[str, Any], *, as_json: bool) -> None:
    """A Decision: effect, reasons, the plan or what would have to change."""
    shown = dict(decision)
    if not as_json:
        shown["reasons"] = "; ".join(reason["text"] for reason in decision["reasons"])
        shown |= {f"plan {k}": v for k, v in (decision.get("plan") or {}).items() if v}
        shown.pop("plan", None)
        shown.pop("bundle", None)
    print_record(schema, shown, as_json=as_json)


@grant_app.command("list", epilog="Example: gateway grant list --dataset clinic/icu")
def list_grants(
    dataset: f.DatasetFlag = None,
    subject: f.Subject = None,
    run: f.Run = None,
    tenant: f.Tenant = None,
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> None:
    """List the grants that you gave or hold."""
    grants = f.client(server, key_file).grants.list(
        dataset=dataset, subject=subject, run=run, tenant=tenant
    )
    rows = [grant.to_dict() for grant in grants]
    print_table("grant.list", rows, GRANT_COLUMNS, as_json=as_json)


@grant_app.command("show", epilog="Example: gateway grant show grant_k3… --json")
def show_grant(
    grant: str, server: f.Server = None, key_file: f.KeyFile = None, as_json: f.Json = False
) -> None:
    """Show one grant."""
    found = f.client(server, key_file).grants.show(grant)
    print_record("grant.show", found.to_dict(), as_json=as_json)


@grant_app.command(
    "revoke",
    epilog="Example: gateway grant revoke --dataset clinic/icu --subject startup/ml --reason over",
)
def revoke(
    grant: Annotated[str | None, typer.Argument()] = None,
    dataset: f.DatasetFlag = None,
    subject: f.Subject = None,
    run: f.Run = None,
    tenant: f.Tenant = None,
    reason: f.Reason = None,
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> None:
    """End a grant, or all that fit every selector, and stop their streams."""
    if not any((grant, dataset, subject, run, tenant)):
        raise InvalidInput(
            "nothing selects the grants to revoke",
            advice="name a grant, or use --dataset, --subject, --run or --tenant",
        )
    done = f.client(server, key_file).grants.revoke(
        grant, dataset=dataset, subject=subject, run=run, tenant=tenant, reason=reason
    )
    if as_json:
        print_record("grant.revoke", done.to_dict(), as_json=True)
        return
    streams = f"{done.streams_stopped} {_many(done.streams_stopped, 'stream')} stopped"
    within = f" in {done.slowest_ms} ms" if done.streams_stopped else ""
    print(f"{done.grants} {_many(done.grants, 'grant')}, {streams}{within}")
    if done.keys_released:
        print(
            f"{done.keys_released} data {_many(done.keys_released, 'key')} left under these grants:"
            " what they open cannot be taken back"
        )
    for one in done.grant_ids:
        print(safe(one))


def _many(count: int, word: str) -> str:
    return word if count == 1 else word + "s"


def add_stream(app: typer.Typer, panel: str) -> None:
    """Add `gateway stream`."""
    app.command(
        "stream",
        rich_help_panel=panel,
        epilog="Example: gateway stream clinic/icu --purpose health-research > icu.arrows",
    )(stream)


@asks
def stream(
    dataset: Annotated[str | None, typer.Argument()] = None,
    grant: Annotated[str | None, typer.Option("--grant", help="a Grant that stands")] = None,
    *,
    wanted: Wanted,
    out: Annotated[
        Path | None, typer.Option("--out", help="file to write (default: stdout)")
    ] = None,
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> None:
    """Write the rows you may see, in stored order, as an Arrow IPC stream.

    With --json a summary goes to stderr when the stream is complete.
    """
    wanted["run"] = f.run_of(wanted["run"], grant)
    if out is None and sys.stdout is None:
        raise InvalidInput("there is no standard output", advice="use --out FILE, or a pipe")
    if out is None and sys.stdout.isatty():
        raise InvalidInput("Arrow bytes are not for a terminal", advice="use --out FILE, or a pipe")
    from gateway.client.preemption import hand_back_when_stopped

    gateway = f.client(server, key_file)
    with gateway.stream(
        dataset, grant=grant, output="arrow", batch_size=STREAM_BATCH_ROWS, uneven="pad", **wanted
    ) as rows:
        hand_back_when_stopped(rows)
        count = _write_arrow(rows, out, rows.manifest)
    if as_json:
        line = {"schema": "stream/v0", "dataset": rows.manifest.dataset, "rows": count}
        sys.stderr.write(json.dumps(line) + "\n")


def _write_arrow(batches: Iterable[Any], out: Path | None, manifest: LeaseManifest) -> int:
    import pyarrow as pa

    from gateway.client.batches import arrow_schema

    count = 0
    with ExitStack() as stack:
        sink = sys.stdout.buffer if out is None else stack.enter_context(out.open("wb"))
        writer = None
        for batch in batches:
            if writer is None:
                writer = stack.enter_context(pa.ipc.new_stream(sink, batch.schema))
            writer.write_batch(batch)
            count += batch.num_rows
        if writer is None:  # no rows: the columns still have types
            stack.enter_context(pa.ipc.new_stream(sink, arrow_schema(manifest)))
    return count
