"""A CSV file of consents: refused by its line, never with a person's id."""

from __future__ import annotations

import pytest

import gateway.wire as W
from gateway.client.consents import Consents, _entries
from gateway.errors import InvalidInput

HEAD = "person,purpose,state\n"


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["person,purpose\n", "smith,research\n"],
        ["person,purpose,state,name\n", "smith,research,given,Mrs. Smith\n"],
        [HEAD, "smith,research\n"],
        [HEAD, "smith,research,given,\n"],
        [HEAD, "smith,,given\n"],
        [HEAD, ",research,given\n"],
        [HEAD, '"smith,research,given\n'],
        [HEAD, '"smith"x,research,given\n'],
    ],
)
def test_what_is_not_such_a_file_is_refused_without_its_persons(lines: list[str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        list(_entries(lines))
    assert "smith" not in str(caught.value).lower()


def test_columns_come_in_any_order_and_empty_ones_are_left_out() -> None:
    lines = ["state,at,person,purpose,dataset\n", 'withdrawn,,"Smith, A.",HMB,clinic/icu\n']
    assert list(_entries(lines)) == [
        W.ConsentEntry(person="Smith, A.", purpose="HMB", state="withdrawn", dataset="clinic/icu")
    ]


class Gateway:
    """A gateway that takes every part of a file but that which holds `bad`."""

    def __init__(self) -> None:
        self.taken = 0

    def post(self, path: str, request: W.ConsentRequest) -> dict[str, int]:
        for number, entry in enumerate(request.entries, 1):
            if entry.purpose == "bad":
                raise InvalidInput(f"entry {number}: no purpose", entry=number)
        self.taken += len(request.entries)
        return {"given": len(request.entries), "withdrawn": 0}


@pytest.mark.parametrize("bad", [7, W.CONSENTS_MAX, W.CONSENTS_MAX + 7])
def test_a_bad_entry_is_named_by_its_place_in_the_whole_file(bad: int) -> None:
    lines = [HEAD, *["p,research,given\n"] * (2 * W.CONSENTS_MAX)]
    lines[bad] = "p,bad,given\n"
    gateway = Gateway()
    with pytest.raises(InvalidInput, match=f"^entry {bad}: no purpose") as refused:
        Consents(gateway).import_(lines)  # type: ignore[arg-type]
    assert gateway.taken == (0 if bad <= W.CONSENTS_MAX else W.CONSENTS_MAX)
    assert ("recorded" in refused.value.message) == (gateway.taken > 0)
