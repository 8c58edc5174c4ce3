"""Commands about what leaves as a whole: dataset preview."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.cli import flags as f
from gateway.cli.output import print_json, print_table


def preview(
    dataset: str,
    purpose: f.Purpose = None,
    rows: Annotated[int, typer.Option("--rows", min=1, max=100, help="at most so many")] = 10,
    columns: f.Columns = None,
    column: f.Column = None,
    split: f.Split = None,
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> None:
    """Look at the first rows, as the rules let you: filtered, masked, recorded."""
    found = f.client(server, key_file).datasets.preview(
        dataset, purpose=purpose, rows=rows, columns=f.names(columns, column), split=split
    )
    if as_json:
        print_json("dataset.preview", found.to_dict())
        return
    rows_shown: list[dict[str, Any]] = found.items
    print_table("", rows_shown, found.table.schema.names, as_json=False)


def add_to(app: typer.Typer) -> None:
    """Add the commands to `gateway dataset`."""
    app.command(
        "preview", epilog="Example: gateway dataset preview clinic/icu --purpose health-research"
    )(preview)
