"""A home with sealed datasets, made once and copied for each attack on its keys."""

from __future__ import annotations

import asyncio
import base64
import shutil
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from connectors.kms.local_file import LocalFileKms
from gateway import bootstrap, failpoints
from gateway.config import Settings
from gateway.crypto.vault import KeyVault
from gateway.services.house import House
from tests.services.conftest import open_house
from tests.services.registrations import registered
from tests.services.simulator import add_rules, add_tenant, caller

__all__ = ["KeyVault", "LocalFileKms", "caller", "open_house"]
T = TypeVar("T")
OWNER = caller("clinic", "owner", "owner")
TRAINER = caller("startup", "ml", "trainer")
ICU = pa.table({"age": [17, 40, 71], "hr": [60.0, 70.0, 80.0], "name": ["Ada", "Bo", "Cy"]})
MORE = pa.table({"age": [33], "hr": [90.0], "name": ["Di"]})
OTHER = pa.table({"x": [1, 2]})
RULES = """
format: gateway-policy/v0
rules:
  - id: clinic.icu.research
    kind: allow
    principals: [startup/role:trainer]
    scope: dataset:clinic/icu
    actions: [stream, export, preview]
    purpose: [research]
    columns: [age, hr]
"""


def run(act: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(act)


def settings_in(place: Path) -> Settings:
    return Settings(
        state_dir=place / "state", config_dir=place / "config", runtime_dir=place / "run"
    )


def furnish(place: Path) -> Settings:
    """`clinic/icu@1`, `@2` that appends to it, and `clinic/other@1`; closed in order."""
    settings = settings_in(place)
    bootstrap.init(settings)
    house = open_house(settings)

    async def arrange() -> None:
        await add_tenant(house, "clinic", ("owner", "owner"))
        await add_tenant(house, "startup", ("ml", "trainer"))
        await add_rules(house, "clinic", RULES)
        await registered(house, OWNER, "clinic/icu", ICU)
        await registered(house, OWNER, "clinic/icu", MORE, append=True)
        await registered(house, OWNER, "clinic/other", OTHER)

    run(arrange())
    run(bootstrap.close(house))
    return settings


def copied(settings: Settings, place: Path) -> Settings:
    """The same home elsewhere: what its owner keeps as a backup."""
    copy = settings_in(place)
    for name in ("state_dir", "config_dir"):
        shutil.copytree(getattr(settings, name), getattr(copy, name), symlinks=True)
    return replace(settings, state_dir=copy.state_dir, config_dir=copy.config_dir)


@contextmanager
def opened(settings: Settings) -> Iterator[House]:
    """A House over the home, as control opens it; given up without its last words."""
    house = open_house(settings)
    try:
        run(bootstrap.finish(house))
        yield house
    finally:
        house.journal.close()


class Killed(BaseException):
    """What a SIGKILL is to a test in one process: nothing after it runs."""


def kill_at(step: str) -> None:
    """Make the process die (for the test: raise) when `step` is reached."""

    def die(name: str) -> None:
        if name == step:
            raise Killed

    failpoints.arm(die)


def b64(text: str) -> bytes:
    return base64.b64decode(text)
