"""The tree of commands, grouped by who uses them, and the one place where errors are shown."""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer.core import TyperGroup

from gateway.cli import (
    access,
    admin,
    asking,
    consents,
    datasets,
    keys,
    lineage,
    login,
    obligations,
    policies,
    policy_review,
    runs,
    server,
    tenants,
    tokens,
)
from gateway.cli.output import print_error
from gateway.errors import ConfigError, GatewayError, InvalidInput

PANELS = OWNER, TRAINER, AUDITOR, OPERATOR = "Data owner", "Trainer", "Auditor", "Operator"
INTERRUPTED = 130


class ByUser(TyperGroup):
    """The root command: `--help` shows owners' commands first, operators' last."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of the panels."""

        def rank(name: str) -> int:
            panel = getattr(self.get_command(ctx, name), "rich_help_panel", None)
            return PANELS.index(panel) if panel in PANELS else len(PANELS)

        return sorted(super().list_commands(ctx), key=rank)


app = typer.Typer(
    name="gateway",
    cls=ByUser,
    help="Share sensitive training data: encrypted at rest, decided by rules, streamed, recorded.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
policy_review.add_commands(policies.app)
for group, panel in (
    (datasets.app, OWNER),
    (policies.app, OWNER),
    (access.grant_app, OWNER),
    (consents.app, OWNER),
    (keys.app, OWNER),
    (access.access_app, TRAINER),
    (tokens.app, TRAINER),
    (runs.app, TRAINER),
    (obligations.app, TRAINER),
    (lineage.app, AUDITOR),
    (tenants.app, OPERATOR),
    (admin.identity_app, OPERATOR),
    (admin.config_app, OPERATOR),
    (admin.operation_app, OPERATOR),
):
    app.add_typer(group, rich_help_panel=panel)
asking.add_commands(access.access_app)
access.add_stream(app, TRAINER)
admin.add_whoami(app, TRAINER)
login.add_commands(app, TRAINER)
server.add_commands(app, OPERATOR)


def invoke(arguments: list[str]) -> int:
    """Run one command; every GatewayError becomes one line on stderr and its exit code."""
    as_json = "--json" in arguments
    try:
        result = app(arguments, prog_name="gateway", standalone_mode=False)
    except (GatewayError, ImportError, OSError) as failed:
        error = _error_of(failed)
        print_error(error, as_json=as_json)
        return error.exit_code
    except typer.Exit as stop:
        if stop.exit_code == INTERRUPTED:
            sys.stderr.write("gateway: interrupted\n")
        return stop.exit_code
    except typer.TyperException as wrong:
        return _mistyped(wrong, as_json=as_json)
    except (KeyboardInterrupt, typer.Abort):
        sys.stderr.write("gateway: interrupted\n")
        return INTERRUPTED
    return result if isinstance(result, int) else 0


def _error_of(failed: GatewayError | ImportError | OSError) -> GatewayError:
    """What to say of it; BrokenPipeError is raised again: nobody is left to say it to."""
    if isinstance(failed, GatewayError):
        return failed
    if isinstance(failed, ImportError):
        name = (failed.name or "a library").partition(".")[0]
        advice = "pip install 'dataset-gateway[server]'"
        return ConfigError(f"`{name}` is missing", advice=advice)
    if isinstance(failed, BrokenPipeError):
        raise failed
    where = f"`{failed.filename}`" if failed.filename else "a file or the output"
    return GatewayError(
        f"{where}: {failed.strerror or type(failed).__name__}",
        advice="check the path, its permissions and the space there",
    )


def _mistyped(wrong: typer.TyperException, *, as_json: bool) -> int:
    context: Any = getattr(wrong, "ctx", None)
    path = context.command_path if context is not None else "gateway"
    if "\n" in wrong.format_message() or not wrong.format_message():
        return wrong.exit_code  # a noun without a verb: its help was shown
    message = wrong.format_message().rstrip(".")
    error = InvalidInput(message[:1].lower() + message[1:], advice=f"see `{path} --help`")
    print_error(error, as_json=as_json)
    return wrong.exit_code
