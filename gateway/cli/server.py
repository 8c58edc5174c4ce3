"""Commands that run on the gateway's own machine: demo, init, serve, doctor."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli import flags as f
from gateway.cli.output import note, print_json, print_record, safe
from gateway.config import Settings
from gateway.errors import GatewayError, InvalidInput

_KEY = "identity.json"


def add_commands(app: typer.Typer, panel: str) -> None:
    """Add the commands to the root."""
    for name, command, example in (
        ("demo", demo, "gateway demo --keep"),
        ("init", init, "gateway init"),
        ("serve", serve, "gateway serve --bind 0.0.0.0 --tls-auto"),
        ("doctor", doctor, "gateway doctor --json"),
    ):
        app.command(name, rich_help_panel=panel, epilog=f"Example: {example}")(command)


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="leave the server running")] = False,
    purge: Annotated[bool, typer.Option("--purge", help="remove everything it made")] = False,
    as_json: f.Json = False,
) -> int:
    """Play the main job on real data: share, deny, mask, train, revoke, tamper, audit."""
    # The demo lives upstairs and acts through this very command line: bound late, by name.
    play = import_module("gateway.demo.main")
    return int(play.main(keep=keep, purge=purge, as_json=as_json))


def init(
    server: Annotated[
        str | None, typer.Option("--server", help="be a client of this gateway; start none here")
    ] = None,
    identity: Annotated[
        str | None, typer.Option("--identity", help="with --server: who you are, tenant/name")
    ] = None,
    as_json: f.Json = False,
) -> None:
    """Make the keys and the state directory; with --server, only your own key."""
    settings = f.settings_of()
    made = _init_server(settings) if server is None else _init_client(settings, server, identity)
    print_record("init", made, as_json=as_json)
    if not as_json:
        note("start it with `gateway serve`" if server is None else "hand your public key over")


def _init_server(settings: Settings) -> dict[str, Any]:
    from gateway import bootstrap  # the server's libraries: a client has none of them

    return dict(bootstrap.init(settings))


def _init_client(settings: Settings, server: str, identity: str | None) -> dict[str, Any]:
    from gateway.client.credentials import check_url
    from gateway.crypto.identity_keys import IdentityKey

    if identity is None:
        raise InvalidInput("say who you are", advice="add --identity TENANT/NAME")
    url = check_url(server)
    key = IdentityKey.create(settings.config_dir / _KEY, identity)
    path = settings.config_dir / "gateway.toml"
    if not path.exists():
        path.write_text(f'server = "{url}"\n', "utf-8")
    return {
        "server": url,
        "identity": key.identity,
        "public_key": key.public_text,
        "key_file": str(settings.config_dir / _KEY),
    }


def serve(
    bind: Annotated[str | None, typer.Option("--bind", help="address (default: loopback)")] = None,
    port: Annotated[int | None, typer.Option("--port", min=0, max=65535)] = None,
    tls_auto: Annotated[
        bool | None, typer.Option("--tls-auto", help="make a certificate, print its fingerprint")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option("--tls-cert")] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key")] = None,
    policies: Annotated[
        Path | None, typer.Option("--policies", metavar="DIR", help="rules to watch and publish")
    ] = None,
    accept_local_keys: Annotated[
        bool | None, typer.Option("--accept-local-keys", help="root keys in files, though public")
    ] = None,
    data_workers: Annotated[int | None, typer.Option("--data-workers", min=1, max=256)] = None,
    as_json: f.Json = False,
) -> int:
    """Run the gateway until Ctrl-C."""
    from gateway.services import start

    settings = f.settings_of(
        bind=bind,
        port=port,
        tls_auto=tls_auto,
        tls_cert=tls_cert,
        tls_key=tls_key,
        policies=policies,
        accept_local_keys=accept_local_keys,
        data_workers=data_workers,
    )

    def announce(facts: dict[str, Any]) -> None:
        if as_json:
            print_json("serve", facts)
            sys.stdout.flush()
        elif "url" in facts:
            note(f"serving {facts['url']} (metrics: {facts['admin_url']}/metrics); Ctrl-C ends it")
        else:
            note(", ".join(f"{name}: {value}" for name, value in facts.items()))

    return start.serve(settings, announce)


def doctor(
    repair: Annotated[bool, typer.Option("--repair", help="repair what can be repaired")] = False,
    as_json: f.Json = False,
) -> int:
    """Check keys, state, processes and this machine; each finding with its fix."""
    from gateway import bootstrap

    checks = [dict(check) for check in bootstrap.diagnose(f.settings_of(), repair=repair)]
    is_well = all(check["ok"] for check in checks)
    if as_json:
        print_json("doctor", {"ok": is_well, "checks": checks})
    else:
        for check in checks:
            mark = "ok  " if check["ok"] else "FAIL"
            print(f"{mark} {safe(check['name'])}: {safe(check['detail'])}")
            if not check["ok"] and check.get("fix"):
                print(f"     do: {safe(check['fix'])}")
    return 0 if is_well else GatewayError.exit_code
