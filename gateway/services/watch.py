"""`gateway serve --policies DIR`: rules from a directory, published like any other bundle.

`DIR/<tenant>/…/*.yaml` is that tenant's whole bundle. A change is read, tested and put in
force within POLL_SECONDS; a wrong one is logged with its place, and the old rules stay.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from gateway.errors import GatewayError
from gateway.policy.bundle import bundle_digest
from gateway.services import bench, publish
from gateway.services.house import House

POLL_SECONDS = 1.0
_log = logging.getLogger("gateway.watch")


async def watch(house: House, directory: Path) -> None:
    """Publish what changes, until cancelled."""
    refused: dict[str, str] = {}  # tenant -> digest that was refused; said once
    while True:
        for tenant in house.catalog.tenants():
            await _look(house, directory / tenant.name, tenant.name, refused)
        await asyncio.sleep(POLL_SECONDS)


async def _look(house: House, folder: Path, tenant: str, refused: dict[str, str]) -> None:
    try:
        files = await asyncio.to_thread(_read, folder)
        digest = bundle_digest(tenant, files)
        if not files or digest in (house.catalog.bundle(tenant), refused.get(tenant)):
            return
        refused[tenant] = digest
        await bench.examined(house, tenant, files)
        await publish.store_and_record(house, None, tenant, files)
        del refused[tenant]
    except GatewayError as error:
        _log.error("rules refused", extra={"tenant": tenant, "why": error.message, **error.facts})
    except (OSError, UnicodeDecodeError) as error:
        _log.error("rules unreadable", extra={"tenant": tenant, "why": type(error).__name__})


def _read(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text("utf-8")
        for path in sorted(folder.rglob("*.yaml"))
    }
