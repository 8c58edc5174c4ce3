"""Commands about datasets: register, list, show, classify, update, suspend, resume.

`preview` and `export` stand in copies.py, `erase` in erasure.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli import copies, erasure
from gateway.cli import flags as f
from gateway.cli.output import note, print_json, print_record, print_table, progress_bar, safe
from gateway.errors import InvalidInput

app = typer.Typer(name="dataset", help="Register and describe datasets.", no_args_is_help=True)
copies.add_to(app)
erasure.add_to(app)
CARD_TEMPLATE = """\
# What the dataset is about. Every line is optional and may be changed.
title = ""
description = ""
owner = ""              # a role or a team, not a person
contact = ""
licence = ""            # SPDX id where there is one
source = ""
collected_from = ""     # ISO 8601
collected_until = ""
legal_basis = ""
retention = ""
known_biases = ""
"""
_STATE = ("dataset", "suspended", "streams_stopped", "slowest_ms")
_PROPOSED = ("column", "type", "tag", "reason", "percent")
_LIST = ("dataset", "version", "rows", "columns", "tags", "suspended", "registered_at")
_SHOWN = ("dataset", "version", "rows", "bytes", "shards", "profile", "splits", "suspended",
          "owners", "contact", "versions", "registered_at", "registered_by",
          "manifest_digest")  # fmt: skip


@app.command(
    "register",
    epilog="Example: gateway dataset register clinic/icu icu.parquet --splits train=.8,test=.2",
)
def register(
    dataset: Annotated[str | None, typer.Argument()] = None,
    sources: Annotated[list[str] | None, typer.Argument(metavar="SOURCE...")] = None,
    query: f.Query = None,
    decrypt_with: f.DecryptWith = None,
    append: Annotated[bool, typer.Option("--append", help="keep the old rows")] = False,
    card: Annotated[Path | None, typer.Option("--card", help=".yaml, .toml or .json")] = None,
    card_template: Annotated[
        bool, typer.Option("--card-template", help="print an empty card and end")
    ] = False,
    profile: Annotated[
        str | None, typer.Option("--profile", help="train (fast to stream) or archive (small)")
    ] = None,
    person_column: Annotated[
        str | None, typer.Option("--person-column", help="says whom a row is about")
    ] = None,
    splits: Annotated[str | None, typer.Option("--splits", help="train=.8,test=.2")] = None,
    split_by: Annotated[
        str | None, typer.Option("--split-by", help="equal values stay in one split")
    ] = None,
    split_column: Annotated[
        str | None, typer.Option("--split-column", help="already names each row's split")
    ] = None,
    derived_from: Annotated[
        list[str] | None, typer.Option("--derived-from", help="DATASET@V or run:NAME; repeatable")
    ] = None,
    allow_schema_change: Annotated[
        bool, typer.Option("--allow-schema-change", help="columns may differ from the last version")
    ] = False,
    resume: Annotated[
        str | None, typer.Option("--resume", help="id of an interrupted registration")
    ] = None,
    wait: f.Wait = True,
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> None:
    """Upload files, a bucket's objects or a query's rows and seal them into the next version."""
    if card_template:
        print(CARD_TEMPLATE, end="")
        return
    if dataset is None:
        raise InvalidInput("no dataset is named", advice="gateway dataset register DATASET SOURCE")
    options: dict[str, Any] = {
        "profile": profile,
        "person_column": person_column,
        "splits": f.fractions(splits),
        "split_by": split_by,
        "split_column": split_column,
        "append": append,
        "allow_schema_change": allow_schema_change,
        "derived_from": derived_from,
        "query": query,
        "decrypt_with": decrypt_with,
        "opened": lambda made: note(f"if this is interrupted, add `--resume {made}`"),
    }
    with progress_bar(is_shown=not as_json) as progress:
        options |= {"card": card, "resume": resume, "progress": progress, "wait": wait}
        made = f.client(server, key_file).datasets.register(dataset, *(sources or ()), **options)
    _print_registered(made.to_dict(), as_json=as_json, wait=wait)


def _print_registered(made: dict[str, Any], *, as_json: bool, wait: bool) -> None:
    """The new version and what changed, or the Operation that makes it."""
    if as_json or not wait:
        print_record("dataset.register", made, as_json=as_json)
        return
    print_record("", _readable(made), as_json=False, only=_SHOWN)
    _print_columns(made["columns"])
    changes = made["changes"]
    if made["version"] > 1:
        _print_changes(changes)
        if changes["added"] or changes["retyped"]:
            note("added and retyped columns are new: restricted until `gateway dataset classify`")


def _proposals(columns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of the columns that have a proposal, a line each."""
    found = [(column, column.get("proposed")) for column in columns]
    return [{"column": c["name"], "type": c["type"], **has} for c, has in found if has]


def _print_columns(columns: list[dict[str, Any]]) -> None:
    """Every column with its tags or, where it has none, what its values or its name suggest."""
    lines = {line["column"]: line for line in _proposals(columns)}
    rows = [{**c, "proposed": lines.get(c["name"], {}).get("tag"),
             "reason": lines.get(c["name"], {}).get("reason")} for c in columns]  # fmt: skip
    print()
    print_table("", rows, ("name", "type", "tags", "proposed", "reason"), as_json=False)
    if lines:
        note("`gateway dataset classify DATASET --accept-proposed` takes what is proposed")


def _print_changes(changes: dict[str, list[str]]) -> None:
    """What is new since the version before; a first version has nothing to compare with."""
    for name, mark in (("added", "+"), ("removed", "-"), ("retyped", "~"), ("replaced", "~")):
        for column in changes.get(name, []):
            print(f"{mark} column {safe(column)}")


@app.command("list", epilog="Example: gateway dataset list --tag pii.email")
def list_datasets(
    tag: Annotated[str | None, typer.Option("--tag", help="with a column of this tag")] = None,
    text: Annotated[str | None, typer.Option("--text", help="whose name or card has it")] = None,
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> None:
    """List the datasets that you may see."""
    rows = [d.to_dict() for d in f.client(server, key_file).datasets.list(tag=tag, text=text)]
    print_table("dataset.list", rows, _LIST, as_json=as_json)


@app.command("show", epilog="Example: gateway dataset show clinic/icu@3")
def show(
    dataset: str, server: f.Server = None, key_file: f.KeyFile = None, as_json: f.Json = False
) -> None:
    """Show a dataset: its card, splits, columns and tags."""
    found = f.client(server, key_file).datasets.show(dataset).to_dict()
    _print_dataset("dataset.show", found, as_json=as_json)


def _print_dataset(schema: str, found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(schema, found)
        return
    print_record("", _readable(found), as_json=False, only=_SHOWN)
    card = {safe(key): value for key, value in found["card"].items() if value not in ("", None)}
    if card:
        print()
        print_record("", card, as_json=False)
    print()
    print_table("", found["columns"], ("name", "type", "nullable", "tags"), as_json=False)
    renewed = [safe(column["name"]) for column in found["columns"] if column["renewed"]]
    if renewed:
        note(f"rules that name {', '.join(renewed)} meant other data and wait for your `classify`")


def _readable(found: dict[str, Any]) -> dict[str, Any]:
    """With the rows of each split, where they may be told."""
    splits = [
        s["name"] if s["rows"] is None else f"{s['name']} ({s['rows']})" for s in found["splits"]
    ]
    return {**found, "splits": splits}


@app.command("diff", epilog="Example: gateway dataset diff clinic/icu@1 clinic/icu@2")
def diff(
    before: Annotated[str, typer.Argument(metavar="DATASET@A")],
    after: Annotated[str, typer.Argument(metavar="DATASET@B")],
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> None:
    """Show what differs between two versions: columns, tags, rows, splits, card, shards."""
    found = f.client(server, key_file).datasets.diff(before, after).to_dict()
    if as_json:
        print_record("dataset.diff", found, as_json=True)
        return
    _print_changes(found["columns"])
    for what in ("tags", "splits", "card"):
        for name, sides in found[what].items():
            print(f"~ {what} {safe(name)}: {_side(sides['before'])} -> {_side(sides['after'])}")
    if found["rows"]["before"] != found["rows"]["after"]:
        print(f"~ rows: {found['rows']['before']} -> {found['rows']['after']}")
    if found["shards"]:
        print(", ".join(f"{count} shards {how}" for how, count in found["shards"].items()))


def _side(value: Any) -> str:
    return safe(value) if value not in (None, "", []) else "-"


@app.command(
    "update",
    epilog="Example: gateway dataset update clinic/icu --card icu.toml --owner clinic/role:owner",
)
def update(
    dataset: str,
    card: Annotated[Path | None, typer.Option("--card", help=".yaml, .toml or .json")] = None,
    owner: Annotated[
        list[str] | None,
        typer.Option("--owner", help="tenant/name or tenant/role:NAME; repeatable, replaces all"),
    ] = None,
    contact: Annotated[
        str | None, typer.Option("--contact", help="whom to write to; empty removes it")
    ] = None,
    release: Annotated[
        str | None, typer.Option("--release", help="made from it: inherits its rules no longer")
    ] = None,
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> None:
    """Change card, owners or contact, or release a derived dataset; versions stay as they are."""
    datasets = f.client(server, key_file).datasets
    found = datasets.update(
        dataset, card=card, owners=owner or None, contact=contact, release=release
    )
    _print_dataset("dataset.update", found.to_dict(), as_json=as_json)


@app.command("suspend", epilog='Example: gateway dataset suspend clinic/icu --reason "audit"')
def suspend(
    dataset: str,
    reason: f.Reason = None,
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> None:
    """Deny everything of the dataset at once, until `dataset resume`; streams stop."""
    found = f.client(server, key_file).datasets.suspend(dataset, reason=reason)
    print_record("dataset.suspend", found.to_dict(), as_json=as_json, only=_STATE)


@app.command("resume", epilog="Example: gateway dataset resume clinic/icu")
def resume(
    dataset: str,
    reason: f.Reason = None,
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> None:
    """Undo a suspension: grants that stand work again."""
    found = f.client(server, key_file).datasets.resume(dataset, reason=reason)
    print_record("dataset.resume", found.to_dict(), as_json=as_json, only=_STATE)


@app.command(
    "classify",
    epilog="Example: gateway dataset classify clinic/icu age=pii.indirect diagnosis=health.special",
)
def classify(
    dataset: str,
    columns: Annotated[list[str] | None, typer.Argument(metavar="COLUMN=TAG...")] = None,
    accept_proposed: Annotated[
        bool, typer.Option("--accept-proposed", help="also take what values and names suggest")
    ] = False,
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> None:
    """Tag columns (several tags: COLUMN=a,b). Without COLUMN=TAG: show what is proposed."""
    datasets = f.client(server, key_file).datasets
    given = {name: tags.split(",") for name, tags in f.pairs(columns, "COLUMN=TAG").items()}
    if not given or accept_proposed:
        present = datasets.show(dataset).to_dict()["columns"]
        proposed = [line for line in _proposals(present) if line["column"] not in given]
        if not accept_proposed:
            print_table("dataset.proposals", proposed, _PROPOSED, as_json=as_json)
            note("nothing was changed; --accept-proposed takes these")
            return
        given |= {line["column"]: [line["tag"]] for line in proposed}
    if not given:
        raise InvalidInput("nothing is proposed", advice="write COLUMN=TAG")
    found = datasets.classify(dataset, given).to_dict()
    if as_json:
        print_record("dataset.classify", found, as_json=True)
        return
    print_table("", found["columns"], ("name", "type", "tags"), as_json=False)
