"""A report says what its questions answer; no name in it becomes anything but text."""

from __future__ import annotations

import csv
import io
from html.parser import HTMLParser
from pathlib import Path

import pytest

from gateway.errors import InvalidInput, UnknownName
from gateway.lineage.questions import QUESTIONS
from gateway.lineage.report_text import Page, Part, text_of
from gateway.lineage.reports import REPORTS, report

HOSTILE = (
    "<script>alert(1)</script>", "</td><img src=x onerror=a()>", '=HYPERLINK("//x")', "@SUM(1)",
    "[click](javascript:a())", "a | b\n| c", "![x](https://e.example/p.png)", "\u202eevil",
    "\x1b[2J", "&lt;b&gt;", "`code`", "https://e.example", "-1+1", "\tx",
)  # fmt: skip
PAGE = Page(
    title="Usage",
    about=[("tenant", "clinic"), ("dataset", HOSTILE[0])],
    parts=[
        Part(heading="A", question="usage/1", columns=("run", "names"), is_truncated=False,
             rows=[(name, [name, None]) for name in HOSTILE]),
        Part(heading="B", question="denials/1", columns=("x",), rows=[], is_truncated=True),
    ],
)  # fmt: skip


def test_an_unknown_report_is_not_found() -> None:
    with pytest.raises(UnknownName, match="no report is called `art99`"):
        report("art99")


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("usage", {"colour": "red"}, "no|not a parameter"),
        ("art10", {}, "needs `model`"),
        ("access-review", {"since": "30d"}, "needs `dataset`"),
        ("token", {"id": "grant_1"}, "not a parameter"),
        ("token", {}, "needs `grant`"),
    ],
)
def test_parameters_are_those_of_its_questions(name: str, given: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        report(name).check(given)


@pytest.mark.parametrize("name", REPORTS)
def test_every_section_gets_what_it_needs(name: str) -> None:
    everything = dict.fromkeys(("dataset", "model", "grant", "tenant", "person", "purpose"), "x")
    for section in REPORTS[name].sections:
        needed = {p.name for p in QUESTIONS[section.question].parameters if p.required}
        assert needed <= set(section.given(everything))


@pytest.mark.parametrize("name", REPORTS)
def test_every_report_stands_in_the_reference(name: str) -> None:
    page = (Path(__file__).parents[2] / "docs/reference/questions.md").read_text("utf-8")
    (line,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
    assert line.split("|")[2].split("`")[1::2] == [s.question for s in REPORTS[name].sections]


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.said: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, attrs))

    def handle_data(self, data: str) -> None:
        self.said.append(data)


def test_no_name_becomes_markup_of_the_page() -> None:
    parsed = Tags()
    parsed.feed(text_of(PAGE, "html"))
    assert not {tag for tag, _ in parsed.tags} & {"script", "img", "b", "a"}
    assert {name for tag, attrs in parsed.tags for name, _ in attrs if tag != "meta"} == {"lang"}
    assert "<script>alert(1)</script>" in parsed.said
    assert "; there is more than is shown" in "".join(parsed.said)


def test_no_name_becomes_markup_of_markdown() -> None:
    lines = text_of(PAGE, "markdown").splitlines()
    table = [line for line in lines if line.startswith("| ") and "---" not in line]
    assert len(table) == 1 + len(HOSTILE)
    for line in table[1:]:
        bare = line.replace("\\\\", "")
        assert sum(1 for i, c in enumerate(bare) if c == "|" and bare[i - 1] != "\\") == 3
        assert not [
            m for m in "<>[]`&" for i, c in enumerate(bare) if c == m and bare[i - 1] != "\\"
        ]


@pytest.mark.parametrize("form", ["html", "markdown"])
def test_no_control_character_reaches_a_reader(form: str) -> None:
    text = text_of(PAGE, form)
    assert not {"\x1b", "\u202e", "\t"} & set(text)


def test_no_cell_is_a_formula() -> None:
    rows = list(csv.reader(io.StringIO(text_of(PAGE, "csv"))))
    assert rows[0] == ["report", "Usage"]
    assert [row for row in rows if len(row) == 2 and row[0].startswith("'=HYPERLINK")]
    assert not [cell for row in rows for cell in row if cell[:1] in tuple("=+-@\t")]
