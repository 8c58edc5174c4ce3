"""What a suite of tests speaks about: subjects, datasets and rows that its author made up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.domain.access import Resource, Scalar, Subject
from gateway.domain.dataset import Column, DatasetRef, parse_name, parse_tag
from gateway.policy.documents import Fields, Node, parsed, plain_value
from gateway.policy.documents import Mapping as Names
from gateway.policy.documents import Scalar as Text

Row = Mapping[str, str]  # column -> value as text; what is left out is NULL


def subject(node: Node) -> Subject:
    """Somebody who asks."""
    own = Fields(node, "a subject")
    name = own.required("id")
    tenant, slash, _ = name.text.partition("/")
    if not slash:
        raise name.place.refuse("a subject is `tenant/name`")
    found = Subject(
        id=name.text,
        tenant=tenant,
        type=own.one_of("type", ("person", "job"), "job"),
        roles=tuple(item.text for item in own.scalars("roles")),
        attributes=values(own, "attributes"),
    )
    own.finish()
    return found


def resource(own: Fields) -> Resource:
    """A dataset, without its rows."""
    name = own.required("ref")
    ref = parsed(name, DatasetRef.parse)
    columns = tuple(
        _column(number, name, column)
        for number, (name, _, column) in enumerate(own.pairs("columns"), 1)
    )
    return Resource(
        tenant=ref.tenant,
        dataset=DatasetRef(ref.tenant, ref.name, ref.version or 1),
        columns=columns,
        splits=tuple(
            parsed(item, lambda text: parse_name(text, what="split"))
            for item in own.scalars("splits")
        ),
        suspended=own.one_of("suspended", ("true", "false"), "false") == "true",
        attributes=values(own, "attributes"),
    )


def row(node: Node, known: Iterable[str] | None) -> Row:
    """One row; `known` are the columns that it may have, None = any."""
    if not isinstance(node, Names):
        raise node.place.refuse("a row is a mapping of columns to values")
    for name, place in node.keys.items():
        if known is not None and name not in known:
            raise place.refuse(f"`{name[:80]}` is no column of this dataset")
    found = {name: value for name, value in node.entries.items() if isinstance(value, Text)}
    for name, value in node.entries.items():
        if name not in found or (found[name].plain and not found[name].text):
            raise value.place.refuse("a value in a row is text", "leave a column out that is NULL")
    return {name: value.text for name, value in found.items()}


def _column(number: int, name: str, node: Node) -> Column:
    own = Fields(node, "a column")
    kind = own.required("type").text
    tags = tuple(sorted(parsed(item, parse_tag) for item in own.scalars("tags")))
    own.finish()
    return Column(field_id=number, name=name, type=kind, tags=tags)


def values(own: Fields, name: str) -> dict[str, Scalar]:
    """Attributes: unquoted numbers and booleans are such, all else is text."""
    return {key: plain_value(node) for key, _, node in own.pairs(name)}


def rows(own: Fields) -> tuple[Row, ...] | None:
    """The rows that an expectation names; None = it says nothing of rows."""
    if own.node("rows") is None:
        return None
    return tuple(row(node, None) for node in own.items("rows"))
