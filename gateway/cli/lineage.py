"""Commands for auditors: ask, query, trace, verify."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli import flags as f
from gateway.cli.output import note, print_record, print_table, progress_bar
from gateway.client.arrow_answer import ArrowAnswer
from gateway.client.graph import tree
from gateway.client.records import Table
from gateway.wire.spreadsheet import to_csv

app = typer.Typer(name="lineage", help="Ask what happened, and verify it.", no_args_is_help=True)


@app.command("ask", epilog="Example: gateway lineage ask who-read --dataset clinic/icu --since 30d")
def ask(
    question: Annotated[str | None, typer.Argument()] = None,
    dataset: f.DatasetFlag = None,
    column: Annotated[str | None, typer.Option("--column", help="one column")] = None,
    subject: f.Subject = None,
    run: f.Run = None,
    tenant: f.Tenant = None,
    purpose: f.Purpose = None,
    since: f.Since = None,
    until: f.Until = None,
    as_of: f.AsOf = None,
    person: f.Person = None,
    param: Annotated[
        list[str] | None, typer.Option("--param", help="NAME=VALUE of another parameter")
    ] = None,
    csv: f.Csv = False,
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> None:
    """Ask a named question; without one, list them all."""
    others = f.pairs(param, "NAME=VALUE")
    if "person" in others:
        f.person_of("as an argument")
    lineage = f.client(server, key_file).lineage
    if question is None:
        rows = [q.to_dict() for q in lineage.questions()]
        for row in rows:
            row["parameters"] = row["parameters"] if as_json else _parameters(row["parameters"])
        columns = ("name", "text", "parameters")
        print_table("lineage.questions", rows, columns, as_json=as_json)
        return
    given: dict[str, Any] = {
        "dataset": dataset,
        "column": column,
        "subject": subject,
        "run": run,
        "tenant": tenant,
        "purpose": purpose,
        "since": since,
        "until": until,
        "as_of": as_of,
        "person": f.person_of(person),
        **others,
    }
    table = lineage.ask(question, **given)
    if csv and not as_json:
        _print_csv(table)
        return
    _print_answer("lineage.ask", table, as_json=as_json)


def _parameters(parameters: list[dict[str, Any]]) -> str:
    return " ".join(f"{p['name']}*" if p["required"] else str(p["name"]) for p in parameters)


def _print_csv(table: Table) -> None:
    """For a spreadsheet: nothing in it runs, and a cut answer says so on stderr."""
    rows = [row.to_dict() for row in table]
    sys.stdout.write(to_csv(table.columns, [[r[name] for name in table.columns] for r in rows]))
    _say_what_is_missing(table)


def _print_answer(schema: str, table: Table, *, as_json: bool) -> None:
    rows = [row.to_dict() for row in table]
    facts = {"columns": list(table.columns), **table.facts}
    print_table(schema, rows, table.columns, as_json=as_json, facts=facts)
    if not as_json:
        _say_what_is_missing(table)


def _say_what_is_missing(table: Table | ArrowAnswer) -> None:
    if table.facts.get("truncated"):
        note("there is more than is shown")
    if table.facts.get("expired"):
        note(f"expired by retention, and not in it: {', '.join(table.facts['expired'])}")


@app.command("query", epilog="Example: gateway lineage query 'SELECT sum(rows) FROM read'")
def query(
    sql: str,
    out: Annotated[
        Path | None, typer.Option("--out", help="write an Arrow IPC stream into this file")
    ] = None,
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> None:
    """Run one SELECT in a sandbox that holds only your tenants' rows.

    With --out the values keep their types, also whole numbers beyond ±(2^53 − 1).
    """
    lineage = f.client(server, key_file).lineage
    if out is None:
        _print_answer("lineage.query", lineage.query(sql), as_json=as_json)
        return
    answer = lineage.query(sql, as_arrow=True)
    answer.save(out)
    print_record("lineage.query", {**answer.to_dict(), "out": str(out)}, as_json=as_json)
    if not as_json:
        _say_what_is_missing(answer)


@app.command("report", epilog="Example: gateway lineage report art30 --since 365d --out art30.html")
def report(
    name: str,
    dataset: f.DatasetFlag = None,
    model: Annotated[str | None, typer.Option("--model", help="NAME or NAME@sha256:…")] = None,
    grant: Annotated[str | None, typer.Option("--grant", help="a grant's id")] = None,
    person: f.Person = None,
    tenant: f.Tenant = None,
    purpose: f.Purpose = None,
    since: f.Since = None,
    until: f.Until = None,
    as_of: f.AsOf = None,
    csv: f.Csv = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="this file; .html, .csv, else Markdown")
    ] = None,
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> None:
    """Make a report: art30, art10, art12, usage, access-review, person, token."""
    given = {
        "dataset": dataset, "model": model, "grant": grant, "tenant": tenant, "purpose": purpose,
        "since": since, "until": until, "as_of": as_of, "person": f.person_of(person),
    }  # fmt: skip
    made = f.client(server, key_file).lineage.report(
        name, format="csv" if csv else None, out=out, **given
    )
    if as_json:
        print_record("lineage.report", made.to_dict(), as_json=True)
    elif out is None:
        sys.stdout.write(made.text)
    if made.truncated and not as_json:
        note("there is more than is shown")


@app.command("trace", epilog="Example: gateway lineage trace clinic/icu@1 --svg icu.svg")
def trace(
    ref: str,
    depth: Annotated[int, typer.Option("--depth", min=1, max=20, help="how many steps")] = 5,
    column: Annotated[str | None, typer.Option("--column", help="one column of it")] = None,
    svg: Annotated[Path | None, typer.Option("--svg", help="draw it into this file")] = None,
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> None:
    """Show where something came from and what came of it.

    What your own tools claimed, and the gateway did not see, is marked (dashed in the picture).
    """
    graph = f.client(server, key_file).lineage.trace(ref, column=column, depth=depth)
    if svg is not None:
        graph.save(svg)
    found = graph.to_dict()
    if as_json:
        print_record("lineage.trace", found, as_json=True)
        return
    print(tree(found["nodes"], found["edges"]) or "nothing\n", end="")
    if found["truncated"]:
        note("there is more than is shown")


@app.command("key", epilog="Example: gateway lineage key --valid 90d")
def key(
    valid: Annotated[str, typer.Option("--valid", help="how long, such as `30d`")] = "90d",
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> None:
    """Print a key with which OpenLineage clients may claim lineage in your name.

    It is good for `POST /api/v1/lineage` alone. Keep it like a password; set it as
    OPENLINEAGE_API_KEY, with OPENLINEAGE_URL as the URL of the gateway.
    """
    made = f.client(server, key_file).lineage.key(valid=valid).to_dict()
    if as_json:
        print_record("lineage.key", made, as_json=True)
    else:
        print(made["key"])


@app.command(
    "export", epilog="Example: gateway lineage export --since 90d --dataset clinic/icu --out q3.zip"
)
def export(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="the zip file to write")],
    since: f.Since = None,
    until: f.Until = None,
    dataset: f.DatasetFlag = None,
    tenant: f.Tenant = None,
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> None:
    """Write an EvidencePack: your events in a range, with the proof that these are all.

    It holds the program that verifies it offline: `python verify.py FILE --log-key LOG.vkey`.
    """
    with progress_bar(is_shown=not as_json) as bar:
        made = f.client(server, key_file).lineage.export(
            out, since=since, until=until, dataset=dataset, tenant=tenant, progress=bar
        )
    print_record("lineage.export", made.to_dict(), as_json=as_json)


@app.command("rebuild", epilog="Example: gateway lineage rebuild")
def rebuild(*, as_json: f.Json = False) -> None:
    """Make the lineage database anew from the journal, on the gateway's own machine.

    No server may run. It also does this by itself when the database is missing or was changed.
    """
    from gateway import bootstrap

    with progress_bar(is_shown=not as_json) as bar:
        show = bar or (lambda _text, _share: None)
        done = bootstrap.rebuild_lineage(f.settings_of(), lambda share, text: show(text, share))
    print_record("lineage.rebuild", {"events": done}, as_json=as_json)


@app.command(
    "verify", epilog="Example: gateway lineage verify --log-key log.vkey --since last.note"
)
def verify(
    since: Annotated[
        Path | None, typer.Option("--since", help="an older LogCheckpoint that must be a prefix")
    ] = None,
    log_key: Annotated[
        str | None, typer.Option("--log-key", help="the log's verifier key, or a file with it")
    ] = None,
    witness_key: Annotated[
        str | None, typer.Option("--witness-key", help="a witness's verifier key, or a file")
    ] = None,
    event: Annotated[
        int | None, typer.Option("--event", min=0, help="this event must stand in the log")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="keep the newest LogCheckpoint in this file")
    ] = None,
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> None:
    """Verify the whole log; exit code 1 when anything does not hold."""
    lineage = f.client(server, key_file).lineage
    with progress_bar(is_shown=not as_json) as progress:
        found = lineage.verify(
            since=since, log_key=log_key, witness_key=witness_key, event=event, progress=progress
        ).to_dict()
    if out is not None:
        out.write_text(found["note"], "utf-8")
    shown = (
        "size", "tenant", "your_events", "root", "witnessed", "witnessed_to", "signed_by",
        "continues", "pinned", "event",
    )  # fmt: skip
    print_record("lineage.verify", found, as_json=as_json, only=shown)
    if found["pinned"] is None and not as_json:
        note("nothing could be pinned: the state directory cannot be written")
    if log_key is None and not as_json:
        note("consistent in itself; --log-key with a key from elsewhere shows who signed it")
