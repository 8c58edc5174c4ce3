"""A CSV of an answer runs nothing in a spreadsheet."""

from __future__ import annotations

import csv
import io

import pytest

from gateway.wire.spreadsheet import cell, to_csv


@pytest.mark.parametrize(
    "text",
    [
        "=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "\ufeff=1", "\u00a0@x",
        '=HYPERLINK("http://x","y")', "=cmd|' /C calc'!A0", "|x", "%0A=1", "\uff1d1", "\uff0b1",
    ],
)  # fmt: skip
def test_what_looks_like_a_formula_becomes_text(text: str) -> None:
    assert cell(text).startswith("'")


def test_a_formula_may_not_hide_in_a_column_name_or_a_list() -> None:
    lines = list(csv.reader(io.StringIO(to_csv(["=a"], [[["=1", 'b"c']]]))))
    assert lines == [["'=a"], ['["=1", "b\\"c"]']]


def test_quotes_and_line_ends_stay_inside_their_cell() -> None:
    rows = [['a"b', "x,y", "one\r\ntwo", None, True, -1.5, 3, b"\x01"]]
    assert list(csv.reader(io.StringIO(to_csv("abcdefgh", rows), newline="")))[1] == [
        'a"b', "x,y", "one\r\ntwo", "", "True", "-1.5", "3", "01",
    ]  # fmt: skip


def test_numbers_stay_numbers() -> None:
    assert cell(-5) == "-5"
    assert cell("-5") == "'-5"
    assert cell("") == ""
