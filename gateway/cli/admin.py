"""Commands about identities, the configuration, long acts, and oneself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli import flags as f
from gateway.cli.output import note, print_json, print_record, print_table
from gateway.errors import AccessDenied, Conflict, GatewayError, InvalidInput, NotFound

identity_app = typer.Typer(
    name="identity", help="Add and list persons and jobs.", no_args_is_help=True
)
config_app = typer.Typer(name="config", help="Show the configuration.", no_args_is_help=True)
operation_app = typer.Typer(name="operation", help="Follow long acts.", no_args_is_help=True)
_ROTATED = ("identity", "disabled", "thumbprint")
_IDENTITY = ("identity", "type", "roles", "disabled", "thumbprint")
_OPERATION = ("id", "kind", "state", "progress", "detail", "started_at")


def public_key(given: str) -> str:
    """A public key as text, or the public half in a key file; a private half is never sent."""
    from gateway.crypto.identity_keys import IdentityKey, public_key_of

    path = Path(given)
    if not path.is_file():
        public_key_of(given)
        return given
    text = path.read_text("utf-8").strip()
    if text.startswith("{"):
        return IdentityKey.load(path).public_text
    public_key_of(text)
    return text


@identity_app.command(
    "add",
    epilog="Example: gateway identity add startup/ml --role trainer --type job --new-key ml.json",
)
def add_identity(
    identity: str,
    tenant: f.Tenant = None,
    role: Annotated[list[str] | None, typer.Option("--role", help="repeatable")] = None,
    kind: Annotated[str, typer.Option("--type", help="person or job")] = "person",
    key: Annotated[
        str | None, typer.Option("--public-key", help="its public key, or a file with it")
    ] = None,
    new_key: Annotated[
        Path | None, typer.Option("--new-key", help="make a key file (0600) here for it")
    ] = None,
    no_key: Annotated[
        bool, typer.Option("--no-key", help="only a trusted issuer vouches for it")
    ] = False,
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> None:
    """Add a person or a job by its public key."""
    if (key is not None) + (new_key is not None) + no_key != 1:
        raise InvalidInput("give one of --public-key, --new-key and --no-key")
    name = _qualified(identity, tenant)
    with _key_of(name, key, new_key) as text:
        made = f.client(server, key_file).identities.add(
            name, public_key=text, roles=tuple(role or ()), type=kind
        )
    print_record("identity.add", made.to_dict(), as_json=as_json)


@identity_app.command(
    "rotate", epilog="Example: gateway identity rotate startup/ml --new-key ml-2.json"
)
def rotate_identity(
    identity: str,
    tenant: f.Tenant = None,
    key: Annotated[
        str | None, typer.Option("--public-key", help="its new public key, or a file with it")
    ] = None,
    new_key: Annotated[
        Path | None, typer.Option("--new-key", help="make its new key file (0600) here")
    ] = None,
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> None:
    """Give a person or a job another key; the one before and its tokens are refused at once."""
    if (key is None) == (new_key is None):
        raise InvalidInput("give either --public-key or --new-key")
    name = _qualified(identity, tenant)
    with _key_of(name, key, new_key) as text:
        changed = f.client(server, key_file).identities.rotate(name, public_key=text or "")
    shown = {name: value for name, value in changed.to_dict().items() if name in _ROTATED}
    print_record("identity.rotate", shown, as_json=as_json)


def _qualified(identity: str, tenant: str | None) -> str:
    return identity if "/" in identity else f"{tenant or ''}/{identity}"


@contextmanager
def _key_of(name: str, key: str | None, new_key: Path | None) -> Iterator[str | None]:
    """The public key to register; a file that was made for it goes when it surely was not."""
    from gateway.crypto.identity_keys import IdentityKey

    if new_key is None:
        yield public_key(key) if key is not None else None
        return
    text = IdentityKey.create(new_key, name).public_text
    try:
        yield text
    except (AccessDenied, Conflict, InvalidInput, NotFound):
        new_key.unlink(missing_ok=True)
        raise


@identity_app.command("list", epilog="Example: gateway identity list --tenant startup")
def list_identities(
    tenant: f.Tenant = None,
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> None:
    """List a tenant's persons and jobs (default: your own tenant's)."""
    rows = [i.to_dict() for i in f.client(server, key_file).identities.list(tenant=tenant)]
    print_table("identity.list", rows, _IDENTITY, as_json=as_json)


@identity_app.command("disable", epilog="Example: gateway identity disable startup/ml")
def disable_identity(
    identity: str,
    tenant: f.Tenant = None,
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> None:
    """End a person or a job for good: its keys, tokens and streams."""
    name = _qualified(identity, tenant)
    ended = f.client(server, key_file).identities.disable(name)
    print_record("identity.disable", ended.to_dict(), as_json=as_json)


@config_app.command("show", epilog="Example: gateway config show --origin")
def show_config(
    origin: Annotated[
        bool, typer.Option("--origin", help="also where each value comes from")
    ] = False,
    server: f.Server = None,
    as_json: f.Json = False,
) -> None:
    """Show every setting."""
    from gateway.config import load_with_origins

    rows: list[dict[str, Any]] = [
        {
            "name": found.name,
            "value": str(found.value) if isinstance(found.value, Path) else found.value,
            "origin": found.origin,
        }
        for found in load_with_origins({"server": server})
    ]
    columns = ("name", "value", "origin") if origin else ("name", "value")
    print_table("config.show", rows, columns, as_json=as_json)
    if not as_json and (custody := _custody()):
        note(f"root keys: {custody}")


def _custody() -> str | None:
    """Where the root keys are, on a machine that holds a gateway's state."""
    settings = f.settings_of()
    if not settings.state_dir.exists():
        return None
    from gateway.services import plugs  # the server's libraries: a client has none of them

    try:
        return plugs.kms_of(settings).custody
    except GatewayError as error:
        return error.message


@operation_app.command("list", epilog="Example: gateway operation list")
def list_operations(
    server: f.Server = None, key_file: f.KeyFile = None, as_json: f.Json = False
) -> None:
    """List your long acts, the newest first."""
    rows = [o.to_dict() for o in f.client(server, key_file).operations.list()]
    print_table("operation.list", rows, _OPERATION, as_json=as_json)


@operation_app.command("show", epilog="Example: gateway operation show op_k3…")
def show_operation(
    operation: str, server: f.Server = None, key_file: f.KeyFile = None, as_json: f.Json = False
) -> None:
    """Show how far a long act is."""
    found = f.client(server, key_file).operations.show(operation).to_dict()
    print_record("operation.show", found, as_json=as_json)


def add_whoami(app: typer.Typer, panel: str) -> None:
    """Add `gateway whoami`."""

    @app.command("whoami", rich_help_panel=panel, epilog="Example: gateway whoami")
    def whoami(
        server: f.Server = None, key_file: f.KeyFile = None, as_json: f.Json = False
    ) -> None:
        """Show who the gateway takes you for, and by which key."""
        client = f.client(server, key_file)
        found = client.whoami().to_dict()
        if as_json:
            print_json("whoami", {**found, "server": client.transport.server})
            return
        print_record("whoami", {**found, "server": client.transport.server}, as_json=False)
