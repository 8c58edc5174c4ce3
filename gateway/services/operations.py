"""Long acts with progress: registration, view building, verification.

An Operation lives in memory: after a restart a running one is gone, and what it had begun is
swept (sweep.py); what it had finished stands in the journal.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from gateway.errors import GatewayError, NotFound

KEPT_MAX = 1_000
Report = Callable[[float, str], None]

_log = logging.getLogger("gateway.operations")


@dataclass(slots=True, kw_only=True)
class Operation:
    """One long act of one tenant."""

    id: str
    kind: str
    tenant: str
    state: str = "running"  # running | done | failed | cancelled
    progress: float = 0.0  # 0..1
    detail: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    error: GatewayError | None = None
    started_at: float = 0.0  # Unix seconds
    task: asyncio.Task[None] | None = None

    def report(self, progress: float, detail: str) -> None:
        """Say how far it is (called from any thread)."""
        self.progress, self.detail = max(self.progress, min(progress, 1.0)), detail


@dataclass(slots=True)
class Operations:
    """The register of Operations, newest last."""

    _all: dict[str, Operation] = field(default_factory=dict)

    def start(
        self, operation: Operation, act: Callable[[Report], Awaitable[dict[str, Any]]]
    ) -> Operation:
        """Run `act` as a task; its returned dict becomes the result."""
        self._all[operation.id] = operation
        while len(self._all) > KEPT_MAX:
            oldest = next(o for o in self._all.values() if o.state != "running")
            del self._all[oldest.id]
        operation.task = asyncio.get_running_loop().create_task(self._run(operation, act))
        return operation

    def done(self, operation: Operation, result: dict[str, Any]) -> Operation:
        """Keep an act that was over before anybody asked."""

        async def act(_report: Report) -> dict[str, Any]:
            return result

        operation.result, operation.progress, operation.state = result, 1.0, "done"
        return self.start(operation, act)

    async def _run(
        self, operation: Operation, act: Callable[[Report], Awaitable[dict[str, Any]]]
    ) -> None:
        try:
            operation.result = await act(operation.report)
            operation.progress, operation.state = 1.0, "done"
        except asyncio.CancelledError:
            operation.state = "cancelled"
            raise
        except GatewayError as error:
            operation.error, operation.state = error, "failed"
        except Exception:  # noqa: BLE001 - the rim of a task: nothing may end it in silence
            _log.exception("operation failed", extra={"operation": operation.id})
            operation.error = GatewayError("the operation failed inside the gateway")
            operation.state = "failed"

    def get(self, operation_id: str, tenant: str) -> Operation:
        """The tenant's Operation; NotFound for anybody else's."""
        found = self._all.get(operation_id)
        if found is None or found.tenant != tenant:
            raise NotFound(f"no operation `{operation_id[:80]}`")
        return found

    def of(self, tenant: str) -> list[Operation]:
        """The tenant's Operations, newest first."""
        return [o for o in reversed(self._all.values()) if o.tenant == tenant]

    def cancel(self, operation_id: str, tenant: str) -> Operation:
        """Stop it; what it had begun is undone by its own clean-up."""
        operation = self.get(operation_id, tenant)
        if operation.task is not None and operation.state == "running":
            operation.task.cancel()
        return operation
