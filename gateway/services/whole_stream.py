"""The address at which a lease is read whole as one Arrow IPC stream: used once, within a minute.

`curl -L` follows it to the data port, where no token and no proof are needed: the ticket in
it is the secret. The worker knows its SHA-256 only.
"""

from __future__ import annotations

import hashlib
import secrets

from gateway.errors import LeaseExpired
from gateway.services import stream
from gateway.services.house import House
from gateway.services.request_access import Caller

SECONDS = 60.0


async def address(house: House, caller: Caller, lease_id: str) -> str:
    """The URL of the whole stream of one of the caller's leases.

    Raises:
        NotFound: no lease of the caller's.
        LeaseExpired: it is closed.
    """
    lease = stream.owned(house, caller, lease_id)
    if lease.closed is not None:
        raise LeaseExpired(f"the lease is closed: {lease.closed}")
    ticket = secrets.token_urlsafe(32)
    digest = hashlib.sha256(ticket.encode()).hexdigest()
    await house.workers.ticket(lease, digest, house.now() + SECONDS)
    data_url = house.workers.door_of(lease.worker)["data_url"]
    return f"{data_url}/v1/leases/{lease.id}/stream?ticket={ticket}"
