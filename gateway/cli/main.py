"""The entry point `gateway`: builds the commands, and turns every error into one line.

Exit codes: 0 ok, 1 error, 2 usage, 3 denied, 4 not found, 5 conflict, 69 unavailable,
78 config (docs/reference/cli.md).
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line and exit."""
    code = 1
    try:
        code = run(sys.argv[1:])
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as lost:  # whoever read us has gone, or there is no space
        if code == 0 and not isinstance(lost, BrokenPipeError):
            sys.stderr.write(f"gateway: the output cannot be written: {lost.strerror}\n")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = code or 1
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command; return its exit code."""
    try:
        from gateway.cli.app import invoke
    except ImportError as missing:
        name = (missing.name or "a library").partition(".")[0]
        if name in ("gateway", "connectors"):
            raise
        sys.stderr.write(
            f"gateway: `{name}` is missing; pip install 'dataset-gateway[cli]'"
            " (or [server] to run a gateway)\n"
        )
        return 78
    return invoke(arguments)


if __name__ == "__main__":
    main()
