"""From a draft to the event that is written, and back from the bytes that were read.

The only place that knows the keys of details and tags. Everything in clear is checked by the
domain; everything else is sealed under the owner tenant's key of the month, bound to
(node, boot, index), so that a sealed part moved to another event does not open.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Protocol

import orjson

from gateway.domain.events import (
    EVENT_BYTES_MAX,
    MICROSECONDS,
    NAMED_BY_LEASE,
    Event,
    EventDraft,
    EventKind,
)
from gateway.domain.spelled import spelled
from gateway.errors import IntegrityError, InvalidInput, NotFound, TooLarge
from gateway.journal.chains import Chains, Tags

Links = dict[str, dict[str, Any]]


class Details(Protocol):
    """What the journal needs of `crypto.details.DetailSealer`."""

    def seal(self, tenant: str, month: str, place: str, value: dict[str, Any]) -> dict[str, str]:
        """Seal `value`, bound to `place`."""
        ...

    def unseal(
        self, tenant: str, month: str, place: str, sealed: Mapping[str, str]
    ) -> dict[str, Any]:
        """Open it; IntegrityError when anything differs, NotFound when the key was destroyed."""
        ...


class Composer:
    """Makes and reads the events of one node."""

    def __init__(self, node: str, boot: str, details: Details, tags: Tags) -> None:
        """`boot` is the random id of this opening."""
        self._node = node
        self._boot = boot
        self._details = details
        self._tags = tags

    def compose(
        self, draft: EventDraft, index: int, now: float, chains: Chains
    ) -> tuple[Event, bytes]:
        """The event and its canonical bytes.

        Raises:
            InvalidInput: facts, details or tenants are not as the format says.
            TooLarge: over EVENT_BYTES_MAX.
            KeyUnavailable: the key of the details cannot be reached.
        """
        draft.check()
        time_us = int(now * MICROSECONDS)
        details, sealed = self._seal(draft, index, time_us)
        actor = draft.actor if sealed is not None else None
        tag = None
        if draft.actor is not None and draft.actor_tenant is not None:
            tag = self._tags.actor(draft.actor_tenant, draft.actor)
        chain_of = self._tags.chain
        tags = () if draft.kind is EventKind.TenantHeads else map(chain_of, draft.tenants)
        event = Event(
            node=self._node,
            index=index,
            boot=self._boot,
            time_us=time_us,
            kind=draft.kind,
            owner_tenant=draft.owner_tenant,
            actor_tenant=draft.actor_tenant,
            actor_tag=tag,
            facts=draft.facts,
            sealed=sealed,
            chains=chains.links(tags),
            actor=actor,
            details=details,
        )
        data = leaf_bytes(event)
        if len(data) > EVENT_BYTES_MAX:
            raise TooLarge(f"an event has {len(data)} bytes", advice="record less, by reference")
        return event, data

    def _seal(
        self, draft: EventDraft, index: int, time_us: int
    ) -> tuple[dict[str, Any], dict[str, str] | None]:
        is_named = draft.actor is None or draft.kind in NAMED_BY_LEASE
        if is_named and not draft.details:
            return {}, None
        try:  # as a reader will see them, and out of the caller's reach from now on
            details = orjson.loads(orjson.dumps(draft.details))
        except (TypeError, ValueError) as cause:
            raise InvalidInput("details are JSON values") from cause
        place = f"{self._node}/{self._boot}/{index}"
        value = {"actor": draft.actor, "details": details}
        return details, self._details.seal(draft.owner_tenant, month_of(time_us), place, value)

    def read(self, data: bytes, index: int) -> Event:
        """The event of these bytes with its details opened; IntegrityError when they differ."""
        return open_details(read_event(data, index, self._node), self._details)


def leaf_bytes(event: Event) -> bytes:
    """`canonical(event.envelope())` of a checked event, put together in a third of the time.

    Names, tags and hashes need no escaping; the order of the members is that of their names.
    """
    links = ",".join(
        [
            f'"{tag}":{{"prev":"{link["prev"]}","seq":{link["seq"]}}}'
            for tag, link in sorted(event.chains.items())
        ]
    )
    actor = f'"{event.actor_tenant}"' if event.actor_tenant is not None else "null"
    who = f'"{event.actor_tag}"' if event.actor_tag is not None else "null"
    begin = f'{{"actor":{actor},"boot":"{event.boot}","chains":{{{links}}},"details":'
    end = (
        f',"index":{event.index},"kind":"{event.kind.value}","node":"{event.node}",'
        f'"owner":"{event.owner_tenant}","time":{event.time_us},"v":0,"who":{who}}}'
    )
    sealed = b"null" if event.sealed is None else canonical(event.sealed)
    return b"".join((begin.encode(), sealed, b',"facts":', canonical(event.facts), end.encode()))


def canonical(value: Any) -> bytes:
    """The same bytes as `domain.events.canonical`, faster (equality is a property test)."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError as cause:
        raise InvalidInput("a value has no canonical bytes") from cause


def read_event(data: bytes, index: int, node: str) -> Event:
    """Read one leaf without keys; IntegrityError unless it is event `index` of `node`."""
    if spelled(data, index, node.encode("ascii")) is not None:
        return Event.of_checked(orjson.loads(data))
    try:
        value = orjson.loads(data)
        event = Event.of_envelope(value)
    except (InvalidInput, orjson.JSONDecodeError) as cause:
        raise IntegrityError(f"event {index} cannot be read: {cause}", index=index) from cause
    if canonical(value) != data:
        raise IntegrityError(f"event {index} is not in canonical form", index=index)
    if event.index != index or event.node != node:
        raise IntegrityError(f"event {index} says that it is another one", index=index)
    return event


def open_details(event: Event, details: Details) -> Event:
    """The event with its details opened; as it is when their month has expired."""
    if event.sealed is None:
        return with_details(event, None, {})
    place = f"{event.node}/{event.boot}/{event.index}"
    try:
        value = details.unseal(event.owner_tenant, month_of(event.time_us), place, event.sealed)
    except NotFound:  # the key was destroyed
        return event
    return with_details(event, value["actor"], value["details"])


def with_details(event: Event, actor: str | None, details: Mapping[str, Any]) -> Event:
    """The event with what its sealed part says."""
    return Event(
        node=event.node,
        index=event.index,
        boot=event.boot,
        time_us=event.time_us,
        kind=event.kind,
        owner_tenant=event.owner_tenant,
        actor_tenant=event.actor_tenant,
        actor_tag=event.actor_tag,
        facts=event.facts,
        sealed=event.sealed,
        chains=event.chains,
        actor=actor,
        details=details,
    )


def month_of(time_us: int) -> str:
    """`2026-11`, UTC: the month whose detail key is used."""
    return time.strftime("%Y-%m", time.gmtime(time_us // MICROSECONDS))
