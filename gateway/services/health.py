"""Is the gateway able to serve, and what are its numbers?"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import gateway.wire as W
from gateway.errors import GatewayError
from gateway.services.house import PLATFORM, House

_STATUS_SECONDS_MAX = 2.0


async def ready(house: House) -> W.Readiness:
    """Journal writable, KMS answering, at least one data worker; lineage is shown only."""
    checks = {
        "journal": _journal(house),
        "kms": await house.aside(_kms, house),
        "workers": W.CheckResult(
            ok=house.workers.count > 0, detail=f"{house.workers.count} data workers"
        ),
    }
    is_ready = all(check.ok for check in checks.values())
    # Lineage lag never makes the gateway unready: release does not depend on it.
    status = await _lineage_status(house)
    checks["lineage"] = _lineage(status)
    if house.settings.lineage_sinks:
        checks["lineage-sinks"] = _sinks(status)
    return W.Readiness(ready=is_ready, checks=checks)


async def _lineage_status(house: House) -> dict[str, Any] | None:
    """What the lineage process says of itself; None while it does not answer."""
    try:
        async with asyncio.timeout(_STATUS_SECONDS_MAX):
            return await house.lineage.status()
    except (GatewayError, TimeoutError):
        return None


def _lineage(status: Mapping[str, Any] | None) -> W.CheckResult:
    """How far behind it is; that its database was changed by somebody, and so built anew."""
    if status is None:
        return W.CheckResult(ok=False, detail="restarting")
    told = [f"{status['lag_events']} events behind"]
    if status["rebuilt_because"]:
        told.append(f"built anew since its start: {status['rebuilt_because']}")
    if status["fault"]:
        told.append("it does not go on; a question to it says why")
    return W.CheckResult(ok=not status["fault"], detail="; ".join(told))


def _sinks(status: Mapping[str, Any] | None) -> W.CheckResult:
    """Shown only: nothing waits for them. No URL's query, no event, no tenant's data."""
    if status is None:
        return W.CheckResult(ok=False, detail="lineage is restarting")
    found = status["sinks"]
    told = [
        f"{sink['sink']}: {sink['lag_events']} events behind"
        + (f", {sink['refused']} refused" if sink["refused"] else "")
        + (f" ({sink['error']})" if sink["error"] else "")
        for sink in found
    ]
    return W.CheckResult(ok=not any(sink["error"] for sink in found), detail="; ".join(told))


def _journal(house: House) -> W.CheckResult:
    lag = house.journal.size - house.journal.durable_size
    failure = house.journal.failure
    return W.CheckResult(ok=failure is None, detail=failure or f"{lag} events on their way")


def _kms(house: House) -> W.CheckResult:
    try:
        generations = house.kms.generations(PLATFORM)
    except GatewayError as error:
        return W.CheckResult(ok=False, detail=error.message)
    return W.CheckResult(ok=bool(generations), detail=house.kms.custody)


def gauges(house: House) -> dict[str, float]:
    """Numbers for Prometheus; no name, no person."""
    catalog = house.catalog
    return {
        "gateway_journal_events": float(house.journal.size),
        "gateway_journal_durable_events": float(house.journal.durable_size),
        "gateway_policy_epoch": float(catalog.policy_epoch),
        "gateway_datasets": float(sum(1 for _ in catalog.datasets())),
        "gateway_open_leases": float(sum(1 for _ in catalog.leases())),
        "gateway_data_workers": float(house.workers.count),
        "gateway_refusals_left_out": float(house.strangers.left_out),
        "gateway_lineage_attached": float(house.lineage.is_attached),
    }
