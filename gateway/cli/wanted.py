"""What a request asks for: the flags of one AccessRequest, the same in every command that asks."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from gateway.cli import flags as f

Wanted = dict[str, Any]
"""What the flags say, as the client's methods take it: None where nothing was said."""


def _read(
    purpose: f.Purpose = None,
    columns: f.Columns = None,
    column: f.Column = None,
    split: f.Split = None,
    shards: f.Shards = None,
    max_rows: f.MaxRows = None,
    max_bytes: f.MaxBytes = None,
    max_epochs: f.MaxEpochs = None,
    run: f.Run = None,
) -> Wanted:
    return {
        "purpose": purpose,
        "columns": f.names(columns, column),
        "split": split,
        "shards": f.numbers(shards),
        "max_rows": max_rows,
        "max_bytes": max_bytes,
        "max_epochs": max_epochs,
        "run": run,
    }


def asks(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command these flags in the place of its parameter `wanted`, which gets their values.

    Only the signature that the command line is made from changes; `--help` lists the flags where
    `wanted` stands.
    """
    own = inspect.signature(command, eval_str=True)
    flags = inspect.signature(_read, eval_str=True).parameters
    shown = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, mine in own.parameters.items()
        for parameter in (flags.values() if name == "wanted" else [mine])
    ]

    @functools.wraps(command)
    def asking(**given: Any) -> Any:
        said = {name: given.pop(name) for name in flags}
        return command(**given, wanted=_read(**said))

    asking.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    vars(asking)["__signature__"] = own.replace(parameters=shown)
    return asking
