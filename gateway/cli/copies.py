"""Commands about what leaves as a whole: dataset preview, dataset export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli import flags as f
from gateway.cli.output import note, print_json, print_record, print_table, progress_bar
from gateway.errors import InvalidInput
from gateway.wire.exports import PREVIEW_ROWS_DEFAULT, PREVIEW_ROWS_MAX

_SHOWN = ("dataset", "kind", "rows", "columns", "row_filter", "split", "purpose", "decision",
          "grant", "out", "keys_to", "keys")  # fmt: skip


def preview(
    dataset: str,
    purpose: f.Purpose = None,
    rows: Annotated[
        int, typer.Option("--rows", min=1, max=PREVIEW_ROWS_MAX, help="at most so many")
    ] = PREVIEW_ROWS_DEFAULT,
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


def export(
    dataset: str,
    purpose: f.Purpose = None,
    columns: f.Columns = None,
    column: f.Column = None,
    split: f.Split = None,
    max_rows: f.MaxRows = None,
    max_bytes: f.MaxBytes = None,
    run: f.Run = None,
    out: Annotated[Path | None, typer.Option("--out", help="a directory to make")] = None,
    encrypted: Annotated[
        bool, typer.Option("--encrypted", help="the sealed shards as they are stored")
    ] = False,
    keys_to: Annotated[
        Path | None, typer.Option("--keys-to", help="with --encrypted: the key file to write")
    ] = None,
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> None:
    """Take a dataset out: as plain Parquet, or sealed with a file of the keys to it."""
    if out is None:
        raise InvalidInput("the copy has no place", advice="use --out DIR")
    wanted: dict[str, Any] = {
        "purpose": purpose,
        "columns": f.names(columns, column),
        "split": split,
        "max_rows": max_rows,
        "max_bytes": max_bytes,
        "run": run,
    }
    with progress_bar(is_shown=not as_json) as progress:
        done = f.client(server, key_file).datasets.export(
            dataset, out=out, encrypted=encrypted, keys_to=keys_to, progress=progress, **wanted
        )
    print_record("dataset.export", done.to_dict(), as_json=as_json, only=_SHOWN)
    if encrypted and not as_json:
        note("keys that left cannot be taken back: not by revoking, rotating or erasing")


def add_to(app: typer.Typer) -> None:
    """Add the commands to `gateway dataset`."""
    app.command(
        "preview", epilog="Example: gateway dataset preview clinic/icu --purpose health-research"
    )(preview)
    app.command(
        "export",
        epilog="Example: gateway dataset export clinic/icu --purpose health-research --out icu",
    )(export)
