"""Consent that persons gave and withdrew: brought in from a CSV file, and listed."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import gateway.wire as W
from gateway.client.records import Record, Table
from gateway.errors import InvalidInput

if TYPE_CHECKING:
    from gateway.client.client import GatewayClient

_COLUMNS = ("person", "purpose", "state", "at", "dataset")
_NEEDED = frozenset(_COLUMNS[:3])


class Consents:
    """`gw.consents`."""

    def __init__(self, gateway: GatewayClient) -> None:
        """Belong to a client."""
        self._gateway = gateway

    def import_(self, source: str | Path | Iterable[str]) -> Record:
        """Bring in a CSV file (or its lines): person, purpose, state, and at, dataset if known.

        Persons' ids are sent, tagged and forgotten. Bringing in the same file twice changes
        nothing. A file that is refused part of the way may have been recorded up to there.
        """
        if isinstance(source, str | Path):
            with Path(source).open(encoding="utf-8-sig", newline="") as lines:
                return self._import(list(_entries(lines)))
        return self._import(list(_entries(source)))

    def _import(self, entries: list[W.ConsentEntry]) -> Record:
        total = {"given": 0, "withdrawn": 0}
        for start in range(0, len(entries), W.CONSENTS_MAX):
            part = tuple(entries[start : start + W.CONSENTS_MAX])
            try:
                done = self._gateway.post("/v1/consents", W.ConsentRequest(entries=part))
            except InvalidInput as refused:
                raise _in_the_file(refused, start) from refused
            total = {name: total[name] + done[name] for name in total}
        return Record(total, self._gateway)

    def list(self) -> Table:
        """The newest word of each person, as a keyed tag, on each purpose."""
        return self._gateway.all_of("/v1/consents")


def _in_the_file(refused: InvalidInput, start: int) -> InvalidInput:
    """The number of an entry, which the gateway counts in its part, as it is in the whole file."""
    number = refused.facts.get("entry")
    if not isinstance(number, int) or not start:
        return refused
    message = refused.message.replace(f"entry {number}:", f"entry {start + number}:", 1)
    return InvalidInput(
        f"{message} (the first {start} are recorded)", advice=refused.advice, entry=start + number
    )


def _entries(lines: Iterable[str]) -> Iterator[W.ConsentEntry]:
    """Rows of the file; refused by their line, since an id must not stand in a message."""
    try:
        rows = csv.DictReader(lines, strict=True)
        found = set(rows.fieldnames or ())
        if not _NEEDED <= found <= set(_COLUMNS):
            raise InvalidInput(
                "the first line does not name the columns",
                advice="write `person,purpose,state`, and `at` and `dataset` if you like",
            )
        for row in rows:
            if None in row or None in row.values():
                raise InvalidInput(f"line {rows.line_num} has not one value per column")
            if not all(row[name] for name in _NEEDED):
                raise InvalidInput(
                    f"line {rows.line_num} lacks a person, a purpose or a state",
                    advice="only `at` and `dataset` may be empty",
                )
            yield W.ConsentEntry(**{name: row[name] for name in found if row[name]})
    except (csv.Error, UnicodeDecodeError, TypeError) as cause:
        raise InvalidInput(
            "the file is not a CSV file in UTF-8", advice="save it as CSV with UTF-8"
        ) from cause
