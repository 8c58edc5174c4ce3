"""Who reads, as the catalogue has him now: never as a token or a Grant remembers him."""

from __future__ import annotations

from gateway.domain.access import Subject
from gateway.errors import LeaseRevoked, TenantSuspended
from gateway.services.house import House


def subject_of(house: House, identity_id: str) -> Subject:
    """The Subject behind an identity as it stands in the catalogue; denied when it has ended."""
    identity = house.catalog.identity(identity_id)
    if identity.disabled:
        raise LeaseRevoked("the identity of this stream was disabled")
    if house.catalog.tenant(identity.tenant).suspended:
        raise TenantSuspended("the tenant of this stream is suspended")
    return Subject(
        id=identity.id, tenant=identity.tenant, type=identity.type, roles=tuple(identity.roles)
    )
