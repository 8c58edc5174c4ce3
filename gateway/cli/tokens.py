"""Commands about tokens: request, show, revoke, and proofs for other programs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli import flags as f
from gateway.cli.output import print_json, print_record
from gateway.cli.wanted import Wanted, asks
from gateway.client.client import GatewayClient
from gateway.client.records import Token
from gateway.errors import InvalidInput, NotAuthenticated

app = typer.Typer(name="token", help="Get permission and a token.", no_args_is_help=True)
_UNSHOWN = ("access_token", "token_type", "issued_token_type")
_File = Annotated[Path, typer.Argument(metavar="FILE", help="that `token request --out` wrote")]


@app.command(
    "request", epilog="Example: gateway token request clinic/icu --purpose health-research"
)
@asks
def request(
    dataset: Annotated[str | None, typer.Argument()] = None,
    grant: Annotated[str | None, typer.Option("--grant", help="a Grant that stands")] = None,
    parent: Annotated[
        Path | None,
        typer.Option("--parent", metavar="FILE", help="cut a narrower Grant from this token's"),
    ] = None,
    *,
    wanted: Wanted,
    action: f.Action = "stream",
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="keep token and key here (0600)")
    ] = None,
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> None:
    """Get a Grant and prove it with a token; exit code 3 when denied.

    The token itself is bound to a key that ends with this command, unless --out keeps both for
    `token proof`. What stays is the Grant: jobs of the same identity get their own tokens for it
    until it expires. FILE of --parent is what `token request --json` printed or --out wrote for a
    wider one, or holds just its `grant_…` id.
    """
    wanted["run"] = f.run_of(wanted["run"], grant or parent)
    gateway = f.client(server, key_file)
    token = gateway.tokens.request(
        dataset, grant=grant, parent=_grant_in(parent) if parent else None, action=action, **wanted
    )
    if out is not None:
        _keep(gateway, token, out)
    shown = {k: v for k, v in token.to_dict().items() if k not in _UNSHOWN}
    if as_json:
        print_record("token.request", shown, as_json=True)
        return
    for detail in shown.pop("authorization_details"):
        shown |= {name: value for name, value in detail.items() if name not in ("type", "grant")}
    print_record("token.request", shown, as_json=False)


def _keep(gateway: GatewayClient, token: Token, out: Path) -> None:
    from gateway.client.token_file import TokenFile

    TokenFile(
        server=gateway.transport.server,
        grant=token.grant,
        access_token=token.access_token,
        key=gateway.transport.dpop_key(),
    ).write(out)


@app.command("show", epilog="Example: gateway token show token.json")
def show(
    file: _File, server: f.Server = None, key_file: f.KeyFile = None, as_json: f.Json = False
) -> int:
    """Show what a token is good for now; exit code 3 when it is good for nothing."""
    from gateway.client.token_file import TokenFile

    kept = TokenFile.read(file)
    found = f.client(server or kept.server, key_file).tokens.show(kept.access_token).to_dict()
    if not as_json:
        for detail in found.pop("authorization_details", ()):
            found |= {n: v for n, v in detail.items() if n not in ("type", "grant", "run")}
    print_record("token.show", found, as_json=as_json)
    return 0 if found["active"] else NotAuthenticated.exit_code


@app.command("revoke", epilog="Example: gateway token revoke token.json")
def revoke(
    file: _File, server: f.Server = None, key_file: f.KeyFile = None, as_json: f.Json = False
) -> None:
    """End a token, what was had for it and its streams; its Grant stays. Removes FILE."""
    from gateway.client.token_file import TokenFile

    kept = TokenFile.read(file)
    f.client(server or kept.server, key_file).tokens.revoke(kept.access_token)
    file.unlink(missing_ok=True)
    print_record("token.revoke", {"grant": kept.grant, "revoked": True}, as_json=as_json)


@app.command("proof", epilog="Example: gateway token proof GET https://gw.example:8787/v1/datasets")
def proof(
    method: str,
    url: Annotated[str, typer.Argument(metavar="URL", help="of the gateway, or a path there")],
    token: Annotated[
        Path | None,
        typer.Option("--token", metavar="FILE", help="a dataset token (default: your API token)"),
    ] = None,
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> None:
    """Print the headers of one request, for `curl --header @-`; good once, for a minute.

    They hold a token: pipe them, so that they stand in no list of processes and no history.
    """
    from gateway.client.token_file import TokenFile

    kept = TokenFile.read(token) if token is not None else None
    where = server or (kept.server if kept is not None else None)
    headers = f.client(where, key_file).tokens.proof(
        method,
        url,
        token=kept.access_token if kept is not None else None,
        key=kept.key if kept is not None else None,
    )
    if as_json:
        print_json("token.proof", {"headers": headers})
        return
    for name, value in headers.items():
        print(f"{name}: {value}")


def _grant_in(file: Path) -> str:
    """The id of the Grant that a file from `token request --json` is about."""
    try:
        found = re.search(r"\bgrant_[a-z2-7]{26}\b", file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as cause:
        raise InvalidInput(f"`{file}` cannot be read") from cause
    if found is None:
        raise InvalidInput(
            f"`{file}` names no grant", advice="write it with `gateway token request … --json`"
        )
    return str(found[0])
