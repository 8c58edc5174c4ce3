"""Journey 4: auditors ask; the question is recorded first, the answer carries its place in the log.

An owner or auditor sees its tenant's side of history; an operator sees none of it. Lineage
knows people as tags only; control, which has the identities, puts the names back for those
the caller may see.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

import gateway.wire as W
from gateway.domain.access import Resource
from gateway.domain.dataset import DatasetRef, parse_name
from gateway.errors import InvalidInput, NotFound, Unavailable, UnknownName
from gateway.journal import verification
from gateway.lineage import questions as named
from gateway.lineage.link import Answer, Side
from gateway.lineage.parameters import require_known
from gateway.lineage.question import NEAREST_MAX
from gateway.services import persons, proofs
from gateway.services.house import House
from gateway.services.noted import noted
from gateway.services.operations import Operation, Report
from gateway.services.request_access import Caller, authorize, may
from gateway.services.terms import terms_of

SQL_CHARS_MAX = 20_000
_SUBJECT_CHARS_MAX = 200
_TAG = re.compile(r"[0-9a-f]{32}\Z")
_SHOWN = {
    "subject_tag": "subject",
    "subject_tags": "subjects",
    "actor_tag": "actor",
    "answered_by_tag": "answered_by",
}  # once the names are back
_TAG_COLUMNS = ("subject", "subjects", "actor", "answered_by", *_SHOWN)


async def questions(house: House, caller: Caller) -> list[W.Question]:
    """The list; asking to see it needs no right and tells nothing about data."""
    del house, caller
    return [
        W.Question(
            name=question.name,
            text=question.text,
            parameters=tuple(
                W.QuestionParameter(name=p.name, type=p.type, required=p.required, text=p.text)
                for p in question.parameters
            ),
        )
        for question in named.QUESTIONS.values()
    ]


async def ask(house: House, caller: Caller, name: str, asked: W.AskRequest) -> W.Answer:
    """Ask a named question over the caller's side of history."""
    question, parameters = named.question(name), asked.parameters
    require_known(question.parameters, parameters)  # before anything of it is written down
    if question.is_about_person:
        tenant = persons.side_of(caller, parameters)
        about = await persons.admitted(house, caller, tenant, (name, parameters))
        answer = await answered(house, tenant, name, about.told, about)
    else:
        tenant = side_of(house, caller, parameters.get("tenant"), parameters.get("dataset"))
        await recorded(house, caller, tenant, (name, dict(parameters)))
        answer = await answered(house, tenant, name, parameters)
    return replace(answer, checkpoint=await proofs.newest(house, asked.pinned))


async def answered(
    house: House,
    tenant: str,
    name: str,
    parameters: Mapping[str, Any],
    about: persons.About | None = None,
) -> W.Answer:
    """The answer to a question that was allowed and recorded, on that tenant's side."""
    question = named.question(name)
    wanted = {key: value for key, value in parameters.items() if key != "tenant"}
    more: dict[str, Any] = {}
    if question.uses_terms:
        more["terms"] = terms_of(house, tenant)
    if question.uses_held and about is not None:
        more["held"] = await persons.held(house, tenant, wanted.get("dataset"), about)
    subject = wanted.get("subject")
    people = [] if subject is None else list(names(house, tenant).values())
    if subject in people:
        more["vouched"] = ("subject",)
    try:
        answer = await house.lineage.ask(
            name, _with_tags(house, wanted), side(house, tenant), **more
        )
    except UnknownName as unknown:
        if unknown.facts.get("parameter") != "subject":
            raise
        raise _nobody(str(subject), tenant, people) from unknown
    return _answer(house, tenant, answer)


def _nobody(subject: str, tenant: str, people: Iterable[str]) -> UnknownName:
    """Lineage has tags alone: the names near it are those that answers put back."""
    nearest = get_close_matches(subject[:_SUBJECT_CHARS_MAX], sorted(people), NEAREST_MAX)
    return UnknownName.near(
        f"there is no subject `{subject[:80]}` in the history of `{tenant}`",
        nearest,
        parameter="subject",
    )


async def query(house: House, caller: Caller, asked: W.QueryRequest) -> W.Answer:
    """Run the caller's SQL in the sandbox, over his tenant's rows only."""
    tenant = await _queried(house, caller, asked.sql)
    answer = _answer(house, tenant, await house.lineage.query(asked.sql, side(house, tenant)))
    return replace(answer, checkpoint=await proofs.newest(house, asked.pinned))


async def query_arrow(house: House, caller: Caller, asked: W.QueryRequest) -> W.ArrowAnswer:
    """The same as Arrow IPC: what a confined child made is passed on and never opened here.

    So the names go to the child, which puts them in when the SQL has run.
    """
    tenant = await _queried(house, caller, asked.sql)
    answer = await house.lineage.query(
        asked.sql,
        side(house, tenant),
        form="arrow",
        shown={
            "columns": {name: _SHOWN.get(name, name) for name in _TAG_COLUMNS},
            "names": names(house, tenant),
        },
    )
    require_expired(house, answer.as_of_index)
    facts = W.AnswerFacts(
        as_of_index=answer.as_of_index,
        truncated=answer.truncated,
        expired=answer.expired,
        checkpoint=await proofs.newest(house, asked.pinned),
    )
    return W.ArrowAnswer(stream=answer.arrow, facts=facts)


async def _queried(house: House, caller: Caller, sql: str) -> str:
    """Whose side a statement asks for, when it may and its question is durable."""
    if len(sql) > SQL_CHARS_MAX:
        raise InvalidInput(f"the query is longer than {SQL_CHARS_MAX} characters")
    tenant = caller.subject.tenant
    await recorded(house, caller, tenant, ("query", {"sql": sql}))
    return tenant


def side_of(house: House, caller: Caller, tenant: Any, dataset: Any) -> str:
    """Whose side of history is asked for.

    A tenant that is named; else the owner of the dataset that is named, when its rules let
    the caller audit it; else the caller's own.
    """
    if tenant is not None:
        return parse_name(tenant, what="tenant")
    if isinstance(dataset, str):
        owner = DatasetRef.parse(dataset).tenant
        if owner != caller.subject.tenant and may(house, caller, "audit", Resource(tenant=owner)):
            return owner
    return caller.subject.tenant


def side(house: House, tenant: str) -> Side:
    """That tenant's side, with all that is durable now."""
    return Side(tenant=tenant, at_least=house.journal.durable_size)


async def recorded(
    house: House, caller: Caller, tenant: str, question: tuple[str, dict[str, Any]]
) -> None:
    """The right to audit that tenant, then the durable record, then the answer."""
    if tenant != caller.subject.tenant and not may(house, caller, "audit", Resource(tenant=tenant)):
        raise NotFound(f"no tenant `{tenant}` that you may audit")
    await authorize(house, caller, "audit", tenant)
    await noted(house, caller, tenant, question)


async def require_dataset(house: House, tenant: str, dataset: str) -> None:
    """Raise UnknownName unless the dataset or version is the tenant's or stands in its history."""
    ref = DatasetRef.parse(dataset)
    if ref.tenant == tenant:
        with contextlib.suppress(NotFound):
            if ref.version is None:
                house.catalog.dataset(ref.tenant, ref.name)
            else:
                house.catalog.version(ref)
            return
    await house.lineage.ask("versions-at", {"dataset": dataset, "limit": 1}, side(house, tenant))


def _with_tags(house: House, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Lineage knows a subject by its keyed tag; answers show that where a name is not to be had."""
    found = dict(parameters)
    subject = found.get("subject")
    if isinstance(subject, str) and not _TAG.match(subject):
        found["subject"] = _tag(house, subject)
    return found


def require_expired(house: House, as_of: int) -> None:
    """Refuse what lineage says before it has read that a month expired (it is built anew)."""
    if as_of <= house.catalog.state.newest_expiry:
        raise Unavailable(
            "lineage has not read yet that a month has expired", advice="try again in a moment"
        )


def _answer(house: House, tenant: str, answer: Answer) -> W.Answer:
    require_expired(house, answer.as_of_index)
    places = [i for i, name in enumerate(answer.columns) if name in _TAG_COLUMNS]
    known = names(house, tenant) if places else {}
    rows = tuple(
        tuple(_named(known, v) if i in places else v for i, v in enumerate(row))
        for row in answer.rows
    )
    titles = (_SHOWN.get(name, name) for name in answer.columns)
    return W.Answer(
        columns=tuple(
            name if title in answer.columns else title
            for name, title in zip(answer.columns, titles, strict=True)
        ),
        rows=rows,
        as_of_index=answer.as_of_index,
        truncated=answer.truncated,
        expired=answer.expired,
    )


def _named(names: Mapping[str, str], value: Any) -> Any:
    """Names for tags, alone or in a list; whatever an auditor's SQL made besides stays as it is."""
    if isinstance(value, list | tuple):
        return [_named_one(names, tag) for tag in value]
    return _named_one(names, value)


def _named_one(names: Mapping[str, str], value: Any) -> Any:
    return names.get(value, value) if isinstance(value, str) else value


def names(house: House, tenant: str) -> dict[str, str]:
    """Tag to identity: the tenant's own people, and those who asked for its data."""
    known = {identity.id for identity in house.catalog.identities(tenant)}
    known |= {grant.subject for grant in house.catalog.grants(owner=tenant)}
    known |= {d.actor for d in house.catalog.decisions(owner=tenant) if d.actor is not None}
    return {_tag(house, identity): identity for identity in known}


def _tag(house: House, identity: str) -> str:
    return house.journal.tags.actor(identity.partition("/")[0], identity)


async def verify(house: House, caller: Caller, since: int | None) -> Operation:
    """Read the whole journal again from disk: frames, chains, tree, signatures, anchor."""
    if since is not None and not 0 <= since <= house.journal.durable_size:
        raise InvalidInput(f"the log has {house.journal.durable_size} events, not {since}")
    await recorded(house, caller, caller.subject.tenant, ("verify", {"since": since}))
    operation = Operation(
        id=house.id("op_"),
        kind="verify",
        tenant=caller.subject.tenant,
        started_at=house.now(),
        detail="waiting",
    )

    async def act(report: Report) -> dict[str, Any]:
        state, config = house.settings.state_dir, house.settings.config_dir
        found = await asyncio.to_thread(
            verification.verify,
            state / "journal",
            house.signers.log.public_key,
            anchor=config / "anchor",
            progress=report,
        )
        return {"events": found.size, "root": found.root.hex(), "witnessed": house.witnesses.told}

    return house.operations.start(operation, act)
