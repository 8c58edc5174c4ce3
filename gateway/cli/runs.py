"""Commands about training runs: list, show, finish."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli import flags as f
from gateway.cli.output import print_record, print_table

app = typer.Typer(
    name="run", help="Follow training jobs and bind them to models.", no_args_is_help=True
)
COLUMNS = ("run", "state", "subject", "datasets", "rows", "finished_at", "model")


@app.command("list", epilog="Example: gateway run list")
def list_runs(
    *, server: f.Server = None, key_file: f.KeyFile = None, as_json: f.Json = False
) -> None:
    """List your tenant's runs, and those that read its data, newest first.

    A run that ended without naming its model and the model's file is `unbound`.
    """
    found = f.client(server, key_file).runs.list()
    print_table("run.list", [one.to_dict() for one in found], COLUMNS, as_json=as_json)


@app.command("show", epilog="Example: gateway run show sepsis-17")
def show(
    run: str, server: f.Server = None, key_file: f.KeyFile = None, as_json: f.Json = False
) -> None:
    """Show what a run read, for which purposes, and what came of it."""
    found = f.client(server, key_file).runs.show(run)
    print_record("run.show", found.to_dict(), as_json=as_json)


@app.command(
    "finish", epilog="Example: gateway run finish sepsis-17 --model sepsis-v2 --artifact model.pt"
)
def finish(
    run: str,
    model: Annotated[
        str | None, typer.Option("--model", metavar="NAME", help="the model that it made")
    ] = None,
    artifact: Annotated[
        Path | None, typer.Option("--artifact", metavar="FILE", help="the model's file")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="the attestation; else beside the model"),
    ] = None,
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> None:
    """Say that a run is over: its streams end, and nothing is delivered to it any more.

    With a model and its file the run is bound to both, and the signed training-data
    attestation is written: an in-toto statement in a DSSE envelope that verifies offline.
    """
    done = f.client(server, key_file).runs.finish(run, model=model, artifact=artifact).to_dict()
    envelope = done.pop("envelope", None)
    if envelope is not None and artifact is not None:
        place = out or artifact.with_name(f"{artifact.name}.attestation.json")
        place.write_text(json.dumps(envelope, sort_keys=True, separators=(",", ":")))
        done["written"] = str(place)
    print_record("run.finish", done, as_json=as_json)
