"""Where the one secret of a key service comes from: never the URI itself, argv or a log.

`file:/path` (0600), `env:NAME` (a variable of the server's process) or `credential:NAME`
(systemd's `LoadCredential=`, a file of `$CREDENTIALS_DIRECTORY`). The value is used without
the line end that editors add.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

from gateway.crypto import private_files
from gateway.errors import ConfigError, KeyUnavailable, NotFound

Variables = Callable[[str], str | None]
SECRET_BYTES_MAX = 4096
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}\Z")
_ADVICE = "write `file:/path`, `env:NAME` or `credential:NAME`"


def no_variables(_: str) -> None:
    """The environment of somebody who has none."""


def read_secret(source: str, variables: Variables) -> str:
    """The secret behind `source`.

    Raises:
        ConfigError: `source` is malformed, or others can read the file.
        KeyUnavailable: there is no such file or variable, or it is empty.
    """
    kind, _, name = source.partition(":")
    match kind:
        case "file":
            secret = _file(Path(unquote(name)), source)
        case "env" if _NAME.match(name):
            secret = variables(name) or ""
        case "credential" if _NAME.match(name):
            directory = variables("CREDENTIALS_DIRECTORY")
            secret = _file(Path(directory) / name, source) if directory else ""
        case _:
            raise ConfigError("this does not say where the secret is", advice=_ADVICE)
    if not secret:
        raise KeyUnavailable(f"`{source}` holds no secret", advice="set it, then start again")
    return secret


def _file(path: Path, source: str) -> str:
    if not path.is_absolute():
        raise ConfigError(f"`{path}` is not an absolute path", advice=_ADVICE)
    try:
        data = private_files.read_private(path, bytes_max=SECRET_BYTES_MAX)
        return data.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except NotFound as cause:
        raise KeyUnavailable(f"`{source}` is not there", advice="make it, mode 0600") from cause
    except UnicodeDecodeError as cause:
        raise ConfigError(f"`{source}` is not text") from cause
