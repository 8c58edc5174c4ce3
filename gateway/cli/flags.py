"""Flags that mean the same in every command (DESIGN §11), and how their values are read."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.client.client import GatewayClient
from gateway.config import Settings, load
from gateway.errors import InvalidInput

STDIN_CHARS_MAX = 64 << 10
Json = Annotated[bool, typer.Option("--json", help="print JSON with a versioned schema")]
Csv = Annotated[bool, typer.Option("--csv", help="print CSV for a spreadsheet")]
Server = Annotated[str | None, typer.Option("--server", help="URL of the gateway")]
KeyFile = Annotated[
    Path | None, typer.Option("--key-file", help="identity key (default: the config directory's)")
]
Purpose = Annotated[str | None, typer.Option("--purpose", help="why: a purpose or a DUO code")]
Columns = Annotated[
    str | None, typer.Option("--columns", help="names separated by commas (default: all allowed)")
]
Column = Annotated[
    list[str] | None, typer.Option("--column", help="one column name, as it is; repeatable")
]
Split = Annotated[str | None, typer.Option("--split", help="one split of the version")]
Shards = Annotated[str | None, typer.Option("--shards", help="shard numbers: `0,2,5`")]
MaxRows = Annotated[int | None, typer.Option("--max-rows", min=1, help="at most so many rows")]
MaxBytes = Annotated[int | None, typer.Option("--max-bytes", min=1, help="at most so many bytes")]
MaxEpochs = Annotated[
    int | None, typer.Option("--max-epochs", min=1, help="at most so many passes over the data")
]
Run = Annotated[str | None, typer.Option("--run", help="the training run it is for")]
Action = Annotated[str, typer.Option("--action", help="what is to be done with the rows")]
DatasetFlag = Annotated[str | None, typer.Option("--dataset", help="tenant/name")]
Subject = Annotated[str | None, typer.Option("--subject", help="tenant/name of a person or job")]
Person = Annotated[
    str | None, typer.Option("--person", help="`-`: a person's id, read from stdin", metavar="-")
]
Tenant = Annotated[str | None, typer.Option("--tenant", help="a tenant")]
Reason = Annotated[str | None, typer.Option("--reason", help="why; recorded")]
Since = Annotated[str | None, typer.Option("--since", help="ISO 8601, or `30d` back from now")]
Until = Annotated[str | None, typer.Option("--until", help="ISO 8601, or `30d` back from now")]
AsOf = Annotated[str | None, typer.Option("--as-of", help="as things stood then")]
Query = Annotated[
    str | None, typer.Option("--query", help="SQL whose rows are registered, of a database")
]
DecryptWith = Annotated[
    Path | None, typer.Option("--decrypt-with", help="key file of encrypted Parquet files")
]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="wait until it is done")]


def client(server: str | None, key_file: Path | None) -> GatewayClient:
    """The client that a command works through."""
    return GatewayClient(server, key_file, settings_of(server=server, key_file=key_file))


def settings_of(**flags: Any) -> Settings:
    """The settings with these flags on top (None = not given)."""
    return load(flags)


def names(columns: str | None, column: Sequence[str] | None) -> tuple[str, ...] | None:
    """The columns asked for by `--columns a,b` and `--column`; None when neither is given."""
    listed = [name.strip() for name in columns.split(",")] if columns is not None else []
    found = (*(name for name in listed if name), *(column or ()))
    if columns is None and not column:
        return None
    if not found:
        raise InvalidInput("`--columns` names no column")
    return tuple(dict.fromkeys(found))


def numbers(text: str | None) -> tuple[int, ...] | None:
    """`0,2,5` as numbers."""
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as cause:
        raise InvalidInput(f"`{text[:80]}` is not a list of shard numbers") from cause


def pairs(given: Sequence[str] | None, what: str) -> dict[str, str]:
    """`NAME=VALUE …`; the last `=` cuts, since a column's name may hold any character."""
    found: dict[str, str] = {}
    for text in given or ():
        name, cut, value = text.rpartition("=")
        if not cut or not name or not value:
            raise InvalidInput(f"`{text[:80]}` is not {what}", advice=f"write {what}")
        if name in found:
            raise InvalidInput(f"`{name[:80]}` is given twice")
        found[name] = value
    return found


def person_of(flag: str | None) -> str | None:
    """The id of a person on stdin; on the command line it is refused, whatever it is."""
    if flag is None:
        return None
    if flag != "-":
        raise InvalidInput(
            "an id of a person is no argument: everybody on this machine can read those",
            advice="write `--person -` and give the id on stdin",
        )
    lines = (line.rstrip("\r") for line in sys.stdin.read(STDIN_CHARS_MAX).split("\n"))
    ids = [line for line in lines if line]
    if len(ids) != 1:
        raise InvalidInput(f"there are {len(ids)} ids of persons on stdin; a question is about one")
    return ids[0]


def fractions(text: str | None) -> dict[str, float] | None:
    """`train=.8,test=.2` as fractions."""
    if text is None:
        return None
    try:
        return {name: float(v) for name, v in pairs(text.split(","), "NAME=FRACTION").items()}
    except ValueError as cause:
        raise InvalidInput(f"`{text[:80]}` holds no fractions", advice="write train=.8") from cause


def run_of(given: str | None, grant: object = None) -> str | None:
    """The run of a request: what was said, else what the launcher set (as in the loaders).

    A Grant that stands has its run already.
    """
    from gateway.client.launcher import environment_of_training, require_run

    if given or grant:
        return given
    found = environment_of_training()
    require_run(found)
    return found.get("run")
