"""`gateway dataset erase`: the one verb that destroys, a dry run unless `--yes` is given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli import flags as f
from gateway.cli.output import note, print_record, progress_bar
from gateway.errors import InvalidInput

_PLAN = ("dataset", "versions", "columns", "is_whole", "keys", "shards", "shards_kept", "grants",
         "recipients", "streams", "runs", "models", "keys_left", "views", "derived")  # fmt: skip
_DONE = ("dataset", "erased_at", "effective_on", "deks", "shards", "shards_kept", "keks", "roots",
         "keys_left", "streams_stopped", "slowest_ms", "certificate_digest",
         "public_key")  # fmt: skip


def add_to(app: typer.Typer) -> None:
    """Add the command to `gateway dataset`."""
    app.command("erase", epilog="Example: gateway dataset erase clinic/icu@1 --yes")(erase)


def erase(
    dataset: str,
    column: f.Column = None,
    yes: Annotated[bool, typer.Option("--yes", help="do it; there is no way back")] = False,
    certificate: Annotated[
        Path | None, typer.Option("--certificate", help="write the signed certificate here")
    ] = None,
    reason: f.Reason = None,
    wait: f.Wait = True,
    server: f.Server = None,
    key_file: f.KeyFile = None,
    as_json: f.Json = False,
) -> None:
    """Say what erasing a dataset, a version or columns takes; with --yes destroy it for ever."""
    with progress_bar(is_shown=yes and not as_json) as progress:
        found: dict[str, Any] = f.client(server, key_file).datasets.erase(
            dataset,
            columns=tuple(column or ()),
            yes=yes,
            reason=reason,
            wait=wait,
            progress=progress,
        ).to_dict()  # fmt: skip
    signed = found.get("certificate")
    if certificate is not None:
        if signed is None:
            raise InvalidInput("there is no certificate of what is not erased yet")
        certificate.write_text(json.dumps(signed, sort_keys=True, separators=(",", ":")))
    if wait and not as_json:
        found["keys_left"] = [_left(line) for line in _releases(found)]
    only = None if not wait else _DONE if signed is not None else _PLAN
    print_record("dataset.erase", found, as_json=as_json, only=only)
    if wait and signed is None and not as_json:
        note("nothing was erased; --yes does it, and nothing brings it back")


def _releases(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Of a dry run, or of a certificate (those of version 1 list none)."""
    listed: list[dict[str, Any]] = found.get("keys_released") or found.get("released", {}).get(
        "keys", []
    )
    return listed


def _left(release: dict[str, Any]) -> str:
    return "{keys} keys of version {version} to {tenant} ({grant})".format_map(release)
