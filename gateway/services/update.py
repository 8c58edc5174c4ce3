"""The owner changes what belongs to a dataset and to no version: card, owners, contact, suspension.

Suspending is reversible and total: (1) one durable event raises the PolicyEpoch, so that no
worker starts another chunk unasked; (2) every open lease of the dataset is closed with
DatasetSuspended; (3) from then on the judge denies every data action on it, and no Grant of
it gives a token. Grants stay, so a resumed dataset streams on from the old positions.
All this holds, too, for what was made from it and is not released (docs/adr/0003).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gateway.wire as W
from gateway.domain.access import digest_of
from gateway.domain.card import check_card
from gateway.domain.dataset import Dataset, DatasetRef, parse_name
from gateway.domain.events import EventDraft, EventKind
from gateway.domain.lease import Grant
from gateway.errors import DatasetSuspended, InvalidInput, NotFound
from gateway.services import derivation, describe
from gateway.services.describe import Seen
from gateway.services.house import House
from gateway.services.request_access import Caller, authorize
from gateway.services.stopping import Stopped, stop_streams

OWNERS_MAX = 32
CONTACT_CHARS_MAX = 320
REASON_CHARS_MAX = 1000


async def update(
    house: House, caller: Caller, ref: DatasetRef, wanted: W.DatasetChanges, if_match: str | None
) -> tuple[Seen, Stopped | None]:
    """Change what is given and differs; what is None stays. Sent again, it changes nothing.

    Returns:
        The dataset as it is now; and what stopped, when it was to be suspended.

    Raises:
        PreconditionFailed: `if_match` is given and not the ETag of the dataset as it is.
        InvalidInput: the card, an owner or the contact is not one, or nothing is given.
    """
    await authorize(house, caller, "update", ref.tenant, ref.unversioned)
    dataset = house.catalog.dataset(ref.tenant, ref.name)
    describe.require_match(house, caller, ref, if_match)
    reason = line(wanted.reason or "", REASON_CHARS_MAX, "reason")
    _update_metadata(house, caller, dataset, wanted)
    if wanted.release is not None:
        derivation.release(house, caller, dataset, wanted.release)
    if wanted.suspended is not None and wanted.suspended != dataset.suspended:
        kind = EventKind.DatasetSuspended if wanted.suspended else EventKind.DatasetResumed
        _record(house, caller, dataset, kind, {"reason": reason})
    await house.settled()
    stopped = await _stop_streams(house, ref.unversioned) if wanted.suspended else None
    return await describe.dataset(house, caller, ref.unversioned), stopped


def require_active(house: House, grant: Grant) -> None:
    """Raise DatasetSuspended when the Grant's dataset is, or what it was made from."""
    of = grant.plan.dataset
    if house.catalog.is_suspended(of):
        raise DatasetSuspended(
            f"`{of.unversioned}`, or one that it was made from, is suspended by its owner"
            " or an operator"
        )


def _update_metadata(
    house: House, caller: Caller, dataset: Dataset, wanted: W.DatasetChanges
) -> None:
    now = {"card": dataset.card, "owners": list(dataset.owners), "contact": dataset.contact}
    then = dict(now)
    if wanted.card is not None:
        then["card"] = check_card(wanted.card)
    if wanted.owners is not None:
        then["owners"] = _owners(house, dataset.tenant, wanted.owners)
    if wanted.contact is not None:
        then["contact"] = line(wanted.contact, CONTACT_CHARS_MAX, "contact")
    if wanted == W.DatasetChanges(reason=wanted.reason):
        raise InvalidInput(
            "nothing is to be changed", advice="give a card, owners, a contact or `suspended`"
        )
    changed = sorted(name for name in now if now[name] != then[name])
    if changed:
        card: Any = then["card"]
        _record(
            house,
            caller,
            dataset,
            EventKind.DatasetUpdated,
            then,
            changed=changed,
            card_digest=digest_of(card) if card else None,
            owners=len(then["owners"]),
        )


def _owners(house: House, tenant: str, given: tuple[str, ...]) -> list[str]:
    owners = sorted(set(given))
    if len(owners) > OWNERS_MAX:
        raise InvalidInput(f"a dataset has at most {OWNERS_MAX} owners")
    known = {identity.id for identity in house.catalog.identities(tenant)}
    for owner in owners:
        role = owner.removeprefix(f"{tenant}/role:")
        if role != owner:
            parse_name(role, what="role")
        elif owner not in known:
            raise InvalidInput(
                f"`{owner[:160]}` is not an identity of `{tenant}`",
                advice=f"name an identity of the tenant, or a role as `{tenant}/role:NAME`",
            )
    return owners


def line(text: str, chars_max: int, what: str) -> str:
    """The text as it is; InvalidInput when it is not one printable line."""
    if len(text) > chars_max or not text.isprintable():
        raise InvalidInput(f"the {what} is one line of at most {chars_max} characters")
    return text


def _record(
    house: House,
    caller: Caller,
    dataset: Dataset,
    kind: EventKind,
    details: Mapping[str, Any],
    **facts: Any,
) -> None:
    name = f"{dataset.tenant}/{dataset.name}"
    house.record(
        EventDraft(
            kind=kind,
            owner_tenant=dataset.tenant,
            actor_tenant=caller.subject.tenant,
            actor=caller.subject.id,
            facts={"dataset": name, "dataset_id": dataset.dataset_id, **facts},
            details=details,
        )
    )


async def _stop_streams(house: House, ref: DatasetRef) -> Stopped:
    hit = [lease.id for lease in house.catalog.leases() if _reaches(house, ref, lease.grant)]
    return await stop_streams(house, hit, "dataset-suspended")


def _reaches(house: House, origin: DatasetRef, grant: str) -> bool:
    """Whether the Grant is of the dataset, or of what inherits from it."""
    of = house.catalog.grant(grant).plan.dataset
    if of.unversioned == origin:
        return True
    try:
        ancestors = house.catalog.ancestors(of)
    except NotFound:  # erased since: its streams have ended
        return False
    return any(ancestor.dataset.unversioned == origin for ancestor in ancestors)
