"""Consent: owners bring in what persons gave and withdrew, so that history can be held to it.

A person's id becomes a keyed tag before anything is recorded; the id itself is kept nowhere.
No decision rests on consent yet: questions to lineage do (`reads-after-withdrawal`). Every
import raises the PolicyEpoch, as whatever may come to narrow a Plan does.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import gateway.wire as W
from gateway.domain.dataset import DatasetRef
from gateway.domain.events import EventDraft, EventKind
from gateway.domain.person import ID_CHARS_MAX, text_id
from gateway.domain.purpose import parse_purpose
from gateway.errors import InvalidInput, LimitExceeded, NotFound
from gateway.services import audit
from gateway.services.house import House
from gateway.services.request_access import Caller, authorize
from gateway.wire.times import moment

_QUESTION = "consents"
_AHEAD_SECONDS_MAX = 5  # clocks differ; a consent of tomorrow is none yet
_KINDS = {"given": EventKind.ConsentGiven, "withdrawn": EventKind.ConsentWithdrawn}
_Group = tuple[str, str, str | None]  # state, purpose, dataset


async def record(house: House, caller: Caller, wanted: W.ConsentRequest) -> W.ConsentReceipt:
    """Record what persons gave and withdrew; one event per state, purpose and dataset.

    Raises:
        InvalidInput: an entry is none; then nothing is recorded.
        NotFound: it names a dataset that the caller's tenant does not have.
    """
    await authorize(house, caller, "update", caller.subject.tenant)
    if not 0 < len(wanted.entries) <= W.CONSENTS_MAX:
        raise InvalidInput(f"one request has 1 to {W.CONSENTS_MAX} entries, of one person each")
    groups: defaultdict[_Group, list[dict[str, Any]]] = defaultdict(list)
    for number, entry in enumerate(wanted.entries, 1):
        try:
            group, person = _checked(house, caller, entry)
        except InvalidInput as refused:  # by its number: its person must not stand in a message
            raise InvalidInput(
                f"entry {number}: {refused.message}",
                advice=refused.advice, field="entries", entry=number,
            ) from refused  # fmt: skip
        groups[group].append(person)
    index = 0
    for group, persons in groups.items():
        index = house.record(_draft(caller, group, persons))
    await house.journal.durable(index)
    given = sum(len(persons) for (state, *_), persons in groups.items() if state == "given")
    return W.ConsentReceipt(given=given, withdrawn=len(wanted.entries) - given, index=index)


def tag_of(house: House, tenant: str, person: str) -> str:
    """The tag under which the journal knows a person of the owner `tenant`."""
    return house.journal.tags.person(tenant, text_id(person))


def _draft(caller: Caller, group: _Group, persons: list[dict[str, Any]]) -> EventDraft:
    state, purpose, dataset = group
    return EventDraft(
        kind=_KINDS[state],
        owner_tenant=caller.subject.tenant,
        actor_tenant=caller.subject.tenant,
        actor=caller.subject.id,
        facts={"purpose": purpose, "dataset": dataset, "persons": persons},
    )


def _checked(house: House, caller: Caller, entry: W.ConsentEntry) -> tuple[_Group, dict[str, Any]]:
    person, tenant = entry.person, caller.subject.tenant
    if not 0 < len(person) <= ID_CHARS_MAX or not person.isprintable():
        raise InvalidInput("`person` is no id of a person")
    if entry.state not in _KINDS:
        raise InvalidInput("`state` is `given` or `withdrawn`")
    now = house.now()
    at = now if entry.at is None else moment(entry.at, now=now)
    if not 0 <= at <= now + _AHEAD_SECONDS_MAX:
        raise InvalidInput("`at` is no time of the past")
    group = (entry.state, parse_purpose(entry.purpose), _dataset(house, tenant, entry.dataset))
    return group, {"person": tag_of(house, tenant, person), "at": int(at)}


def _dataset(house: House, tenant: str, name: str | None) -> str | None:
    if name is None:
        return None
    ref = DatasetRef.parse(name)
    if ref.tenant != tenant:
        raise NotFound(f"no dataset `{ref.unversioned}` of yours")
    house.catalog.dataset(ref.tenant, ref.name)
    return str(ref.unversioned)


async def list_(house: House, caller: Caller) -> list[W.ConsentView]:
    """The newest word of each person on each purpose; asking is recorded, as any question is."""
    answer = await audit.ask(house, caller, _QUESTION, W.AskRequest())
    if answer.truncated:
        raise LimitExceeded(
            "there are more consents than one answer holds",
            advice="`gateway lineage ask consents` takes a purpose and a dataset",
        )
    return [W.ConsentView(**dict(zip(answer.columns, row, strict=True))) for row in answer.rows]
