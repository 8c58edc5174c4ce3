"""Commands about the consent of persons: import, list."""

from __future__ import annotations

import sys

import typer

from gateway.cli import flags as f
from gateway.cli.output import print_record, print_table

app = typer.Typer(
    name="consent", help="Record what persons consented to, and withdrew.", no_args_is_help=True
)
COLUMNS = ("person_tag", "purpose", "dataset", "state", "since")


@app.command("import", epilog="Example: gateway consent import consents.csv")
def import_consents(
    file: str, server: f.Server = None, key_file: f.KeyFile = None, as_json: f.Json = False
) -> None:
    """Bring in a CSV file with the columns person, purpose, state, and at, dataset if known.

    `state` is `given` or `withdrawn`; `at` a time (default: now); without a dataset it is about
    all of yours. FILE is `-` for stdin. The ids of persons become keyed tags and are kept nowhere.
    """
    done = f.client(server, key_file).consents.import_(sys.stdin if file == "-" else file)
    print_record("consent.import", done.to_dict(), as_json=as_json)


@app.command("list", epilog="Example: gateway consent list --json")
def list_consents(
    server: f.Server = None, key_file: f.KeyFile = None, as_json: f.Json = False
) -> None:
    """List the newest word of each person, as a keyed tag, on each purpose; it is recorded."""
    found = f.client(server, key_file).consents.list()
    print_table("consent.list", [one.to_dict() for one in found], COLUMNS, as_json=as_json)
