"""The part of the facade about leases and the runs they belong to."""

from __future__ import annotations

import gateway.wire as W
from gateway.errors import LimitExceeded
from gateway.services import refusals, runs, stream, whole_stream
from gateway.services.house import House
from gateway.services.request_access import Caller
from gateway.wire.leases import LeaseRequest, LeaseView


class Streams:
    """Mixed into the facade, whose House it works on."""

    __slots__ = ()
    house: House

    async def open_lease(self, caller: Caller, wanted: LeaseRequest) -> LeaseView:
        """Open a stream under a dataset token."""
        try:
            return await stream.open_lease(self.house, caller, wanted)
        except LimitExceeded as error:
            await refusals.record(self.house, caller.subject, "POST /v1/leases", error.code)
            raise

    async def lease(self, caller: Caller, lease: str) -> LeaseView:
        """An open lease (without its key)."""
        return await stream.show(self.house, caller, lease)

    async def stream_address(self, caller: Caller, lease: str) -> str:
        """Where a lease is read whole, once, within a minute."""
        return await whole_stream.address(self.house, caller, lease)

    async def renew_lease(self, caller: Caller, lease: str) -> LeaseView:
        """Judge again and prolong."""
        return await stream.renew(self.house, caller, lease)

    async def close_lease(self, caller: Caller, lease: str) -> None:
        """Hand the lease back."""
        await stream.close(self.house, caller, lease)

    async def runs(self, caller: Caller) -> list[W.RunView]:
        """Training jobs that read from or for the tenant."""
        return await runs.list_(self.house, caller)

    async def run(self, caller: Caller, run: str) -> W.RunView:
        """One training job."""
        return await runs.show(self.house, caller, run)

    async def finish_run(self, caller: Caller, run: str, wanted: W.RunFinish) -> W.RunView:
        """Say that it is over, and which model it made."""
        return await runs.finish(self.house, caller, run, wanted)

    async def attestation(self, caller: Caller, run: str) -> W.Attestation:
        """What it was delivered, signed and bound to its model."""
        return await runs.attestation(self.house, caller, run)
