"""Commands about tenants: an operator adds, bounds, suspends and resumes them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli import flags as f
from gateway.cli.admin import public_key
from gateway.cli.output import note, print_record, print_table
from gateway.domain.dataset import parse_name
from gateway.domain.retention import DAYS_MIN
from gateway.errors import Conflict, InvalidInput

app = typer.Typer(name="tenant", help="Add, bound and suspend tenants.", no_args_is_help=True)
_TENANT = ("tenant", "datasets", "identities", "suspended", "added_at")
_LIMITS = ("max_streams", "requests_per_minute", "max_bytes", "max_stored_bytes", "retention_days")
_SHOWN = (*_TENANT, *_LIMITS, "expired", "expires")
_STATE = ("tenant", "suspended", "streams_stopped", "slowest_ms")
_EXAMPLE = 'write [tenants.clinic], and below it owner_key = "…" or limits such as max_streams = 8'


@app.command("add", epilog="Example: gateway tenant add clinic --owner-key owner.pub")
def add(
    tenant: Annotated[str | None, typer.Argument()] = None,
    owner_key: Annotated[
        str | None, typer.Option("--owner-key", help="the owner's public key, or a file with it")
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--from", help="TOML: a table `tenants.NAME` for each")
    ] = None,
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> None:
    """Add a tenant, and with a public key its owner `tenant/owner`; say what he types next."""
    wanted: dict[str, dict[str, Any]] = {} if source is None else _tenants_of(source)
    if tenant is not None:
        wanted[tenant] = {"owner_key": public_key(owner_key) if owner_key else None}
    if not wanted:
        raise InvalidInput("no tenant is named", advice="name one, or use --from FILE")
    client = f.client(server, key_file)
    rows, refused = [], []
    for name, facts in wanted.items():
        try:
            rows.append(_add(client, name, dict(facts)))
        except Conflict as error:
            refused.append(error)
    print_table("tenant.add", rows, _TENANT, as_json=as_json)
    if not as_json:
        for row in rows:
            note(f"{row['tenant']}/owner types: {row['next']}")
    if refused:
        raise Conflict("; ".join(e.message for e in refused), advice=refused[0].advice)


def _add(client: Any, name: str, facts: dict[str, Any]) -> dict[str, Any]:
    key = facts.pop("owner_key", None)
    added = client.tenants.add(name, owner_key=key).to_dict()
    if facts:
        added = client.tenants.update(name, **facts).to_dict()
    url = client.transport.server
    first = f"gateway init --server {url} --identity {name}/owner"
    own = f"gateway dataset register {name}/NAME FILE.parquet --server {url}"
    return {**added, "next": own if key else first}


def _tenants_of(source: Path) -> dict[str, dict[str, Any]]:
    """What the file says of each; all of it is read before anything is sent."""
    try:
        table = tomllib.loads(source.read_text("utf-8"))["tenants"]
        return {parse_name(name, what="tenant"): _facts(facts) for name, facts in table.items()}
    except (OSError, ValueError, LookupError, AttributeError, TypeError) as cause:
        raise InvalidInput(f"`{source}` is no list of tenants", advice=_EXAMPLE) from cause


def _facts(given: Mapping[str, Any]) -> dict[str, Any]:
    facts = dict(given)
    if key := facts.pop("owner_key", None):
        key = public_key(key)
    for name, value in facts.items():
        if name not in _LIMITS or type(value) is not int:
            raise InvalidInput(f"`{name[:80]}` is no limit with a number", advice=_EXAMPLE)
        if value < (DAYS_MIN if name == "retention_days" else 0):
            raise InvalidInput(f"`{name}` is {value}, which is too small", advice=_EXAMPLE)
    return {"owner_key": key, **facts}


@app.command("list", epilog="Example: gateway tenant list --json")
def list_(server: f.Server = None, key_file: f.KeyFile = None, as_json: f.Json = False) -> None:
    """List the tenants that you may see."""
    rows = [t.to_dict() for t in f.client(server, key_file).tenants.list()]
    print_table("tenant.list", rows, _TENANT, as_json=as_json)


@app.command("show", epilog="Example: gateway tenant show clinic")
def show(
    tenant: str, server: f.Server = None, key_file: f.KeyFile = None, as_json: f.Json = False
) -> None:
    """Show a tenant, and what it may use."""
    found = f.client(server, key_file).tenants.show(tenant).to_dict()
    print_record("tenant.show", found, as_json=as_json)


@app.command("update", epilog="Example: gateway tenant update startup --max-streams 16")
def update(
    tenant: str,
    max_streams: Annotated[
        int | None, typer.Option("--max-streams", help="streams that it has open at once")
    ] = None,
    requests_per_minute: Annotated[
        int | None, typer.Option("--requests-per-minute", help="of all its persons and jobs")
    ] = None,
    max_bytes: Annotated[
        int | None, typer.Option("--max-bytes", help="delivered to it in one day (UTC)")
    ] = None,
    max_stored_bytes: Annotated[
        int | None, typer.Option("--max-stored-bytes", help="of its own datasets, sealed")
    ] = None,
    retention: Annotated[
        str | None,
        typer.Option("--retention", help="keep the details of its history so long: 200d"),
    ] = None,
    lift: Annotated[
        list[str] | None, typer.Option("--lift", help="a limit that holds no longer; repeatable")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="say which months of history would go")
    ] = False,
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> None:
    """Set limits of a tenant (operators); what is not named stays, 0 allows nothing."""
    found = f.client(server, key_file).tenants.update(
        tenant,
        lift=[_limit(name) for name in lift or ()],
        max_streams=max_streams,
        requests_per_minute=requests_per_minute,
        max_bytes=max_bytes,
        max_stored_bytes=max_stored_bytes,
        retention_days=None if retention is None else _days(retention),
        dry_run=dry_run,
    )
    print_record("tenant.update", found.to_dict(), as_json=as_json, only=_SHOWN)


def _limit(name: str) -> str:
    plain = name.removeprefix("--").replace("-", "_")
    return "retention_days" if plain == "retention" else plain


def _days(text: str) -> int:
    if not text.removesuffix("d").isdecimal():
        raise InvalidInput(f"`{text[:40]}` is no number of days", advice="write 200d")
    return int(text.removesuffix("d"))


@app.command("suspend", epilog='Example: gateway tenant suspend startup --reason "unpaid"')
def suspend(
    tenant: str,
    reason: f.Reason = None,
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> None:
    """Let in nobody of a tenant and release nothing of its data, until `tenant resume`."""
    found = f.client(server, key_file).tenants.suspend(tenant, reason=reason).to_dict()
    print_record("tenant.suspend", found, as_json=as_json, only=_STATE)


@app.command("resume", epilog="Example: gateway tenant resume startup")
def resume(
    tenant: str,
    reason: f.Reason = None,
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> None:
    """Undo a suspension: identities, grants and rules are as before."""
    found = f.client(server, key_file).tenants.resume(tenant, reason=reason).to_dict()
    print_record("tenant.resume", found, as_json=as_json, only=_STATE)
