"""Commands about keys: list and renew. Destroying is `dataset erase`, nowhere else."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from gateway.cli import flags as f
from gateway.cli.output import print_record, print_table

app = typer.Typer(name="key", help="List and renew keys.", no_args_is_help=True)
_KEY = ("kind", "name", "group", "generation", "state", "since", "detail")


class Kind(StrEnum):
    """What can be renewed."""

    root = "root"
    kek = "kek"
    token = "token"  # noqa: S105 - the kind of a key


@app.command("list", epilog="Example: gateway key list --json")
def list_keys(server: f.Server = None, key_file: f.KeyFile = None, as_json: f.Json = False) -> None:
    """List your tenant's keys by generation: roots, KEKs, key sheets, signing keys."""
    rows = [key.to_dict() for key in f.client(server, key_file).keys.list()]
    print_table("key.list", rows, _KEY, as_json=as_json)


@app.command("rotate", epilog="Example: gateway key rotate --kind kek")
def rotate(
    kind: Annotated[
        Kind, typer.Option("--kind", help="root (destroys the old one), kek, or token")
    ] = Kind.root,
    wait: f.Wait = True,
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> None:
    """Renew keys while streams run; no byte of data is written. Older backups of keys die.

    `token` is the operator's: the key that signs tokens. What the old one signed stays good.
    """
    done = f.client(server, key_file).keys.rotate(kind=kind.value, wait=wait).to_dict()
    only = tuple(done["result"]) if wait and not as_json else None
    print_record("key.rotate", done["result"] if only else done, as_json=as_json, only=only)
