"""A CSV file of consents: refused by its line, never with a person's id."""

from __future__ import annotations

import pytest

import gateway.wire as W
from gateway.client.consents import _entries
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
