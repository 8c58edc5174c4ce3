"""Commands about what recipients owe: list, fulfil."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli import flags as f
from gateway.cli.output import print_record, print_table

app = typer.Typer(
    name="obligation", help="Follow what is owed for data that was given.", no_args_is_help=True
)
COLUMNS = ("id", "name", "state", "due_at", "dataset", "subject", "owner")


@app.command("list", epilog="Example: gateway obligation list --overdue")
def list_obligations(
    *,
    overdue: Annotated[
        bool, typer.Option("--overdue", help="only what should have been done by now")
    ] = False,
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> None:
    """List what your tenant owes and is owed, the next deadline first."""
    found = f.client(server, key_file).obligations.list(overdue=overdue)
    print_table("obligation.list", [one.to_dict() for one in found], COLUMNS, as_json=as_json)


@app.command("fulfil", epilog="Example: gateway obligation fulfil obl_k3… --evidence deleted.txt")
def fulfil(
    obligation: str,
    evidence: Annotated[
        Path, typer.Option("--evidence", metavar="FILE", help="a file that shows it was done")
    ],
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> None:
    """Say that an obligation is fulfilled. The digest of FILE is recorded; keep the file.

    A text of at most 8,192 characters goes along, sealed in the journal, for the owner to read.
    """
    done = f.client(server, key_file).obligations.fulfil(obligation, evidence=evidence)
    print_record("obligation.fulfil", done.to_dict(), as_json=as_json)
