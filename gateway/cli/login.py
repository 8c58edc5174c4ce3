"""`gateway login` and `gateway logout`: be somebody whom an OpenID provider knows."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli import flags as f
from gateway.cli.output import note, print_record, safe
from gateway.client.credentials import check_url, find_authority, find_server, login_file
from gateway.config import Settings, variable
from gateway.errors import InvalidInput, NotAuthenticated


def add_commands(app: typer.Typer, panel: str) -> None:
    """Add the commands to the root."""
    app.command(
        "login", rich_help_panel=panel, epilog="Example: gateway login https://gateway.example"
    )(login)
    app.command("logout", rich_help_panel=panel, epilog="Example: gateway logout")(logout)


def login(
    url: Annotated[str | None, typer.Argument(help="the gateway (default: as --server)")] = None,
    issuer: Annotated[
        str | None, typer.Option("--issuer", help="which provider, if the gateway names several")
    ] = None,
    server: f.Server = None,
    as_json: f.Json = False,
) -> None:
    """Log in at the gateway's OpenID provider, in a browser; later commands renew it silently."""
    from gateway.client import login as flow
    from gateway.client.provider import Provider

    settings, server = _found(url, server)
    authority = find_authority(settings, server)
    where = flow.chosen(flow.providers_of(server, authority), issuer)
    provider = Provider.discover(where.issuer, settings.tls_ca)
    record = flow.log_in(server, where, provider, _show)
    path = login_file(settings, server)
    record.write(path)
    known = _whoami(settings, server, path, authority)
    print_record("login", {**known, "issuer": where.issuer, "server": server}, as_json=as_json)
    for name, value in (
        ("GATEWAY_KEY_FILE", settings.key_file),
        ("GATEWAY_WORKLOAD_TOKEN_FILE", settings.workload_token_file),
    ):
        if value is not None:
            note(f"`{value}` is used all the same, since `{name}` or its setting names it")


def logout(server: f.Server = None, as_json: f.Json = False) -> None:
    """Forget the login and have the provider end it."""
    from gateway.client.logins import forget

    settings, server = _found(None, server)
    removed, revoked = forget(login_file(settings, server), settings.tls_ca)
    facts = {"server": server, "removed": removed, "revoked": revoked}
    print_record("logout", facts, as_json=as_json)
    if removed and not revoked and not as_json:
        note("the provider did not end the login: it ends by itself, or at its own page")


def _found(url: str | None, server: str | None) -> tuple[Settings, str]:
    if url is not None and server is not None and check_url(url) != check_url(server):
        raise InvalidInput("the URL and `--server` name two gateways")
    settings = f.settings_of(server=url or server)
    return settings, find_server(settings)


def _show(url: str) -> None:
    """Always said, since a browser may be elsewhere; opened where there is one."""
    note("open this in a browser to log in:")
    sys.stderr.write(f"{safe(url)}\n")  # a line of its own, to be copied
    sys.stderr.flush()
    if variable("DISPLAY") or variable("WAYLAND_DISPLAY") or sys.platform in ("darwin", "win32"):
        import webbrowser

        webbrowser.open(url)


def _whoami(settings: Settings, server: str, path: Path, authority: Path | None) -> dict[str, Any]:
    """Whom the gateway takes him for; NotAuthenticated says what its operator must know."""
    from gateway.client.jwt_claims import claims_of
    from gateway.client.logins import KeptLogin, forget
    from gateway.client.transport import Transport

    kept = KeptLogin(path, settings.tls_ca)
    transport = Transport(server, path, authority=authority, foreign_token=kept)
    try:
        found = transport.request("GET", "/v1/whoami").json()
    except NotAuthenticated as refused:
        said = claims_of(kept.current())
        forget(path, settings.tls_ca)  # it would only stand before a key file that is known
        raise NotAuthenticated(
            f"`{said.get('iss')}` knows you as `{said.get('sub')}`, the gateway does not",
            advice="send that to the operator: it stands in `claims` of the table of issuers",
        ) from refused
    return {name: found[name] for name in ("subject", "tenant", "type", "roles")}
