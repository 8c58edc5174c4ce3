"""A report as HTML, Markdown or CSV. Pure.

Every name in it comes from tenants who do not trust each other: nothing of one becomes markup,
a link, a formula, or a control character. The page has no script and loads nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from gateway.wire.shown import shown
from gateway.wire.spreadsheet import to_csv

_CELL_CHARS_MAX = 2000
# What means something within a line, and what makes a link of bare text.
_MARKS = re.compile(r"([\\`*_{}\[\]()!|<>&~@]|(?<=:)/|(?<=www)\.)", re.IGNORECASE)
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:90rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;margin:1rem 0}"
    "th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #ccc;vertical-align:top}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One section: its heading, which question it answers, and the answer."""

    heading: str
    question: str  # with version: `who-read/1`
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    is_truncated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What a report says."""

    title: str
    about: Sequence[tuple[str, str]]  # tenant, parameters, time, place in the log
    parts: Sequence[Part]


def text_of(page: Page, form: str) -> str:
    """The page as `html`, `markdown` or `csv`."""
    return {"html": _html, "markdown": _markdown, "csv": _csv}[form](page)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return ", ".join(_cell(item) for item in value)
    return shown(value, _CELL_CHARS_MAX)


def _html(page: Page) -> str:
    about = "".join(f"<dt>{escape(k)}</dt><dd>{escape(_cell(v))}</dd>" for k, v in page.about)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'\">"
        f"<title>{escape(page.title)}</title><style>{_STYLE}</style>"
        f"<h1>{escape(page.title)}</h1><dl>{about}</dl>"
        f"{''.join(map(_html_part, page.parts))}</html>\n"
    )


def _html_part(part: Part) -> str:
    def line(cells: Sequence[Any], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(_cell(c))}</{tag}>" for c in cells) + "</tr>"

    body = "".join(line(row, "td") for row in part.rows)
    table = f"<table>{line(part.columns, 'th')}{body}</table>" if body else "<p>Nothing.</p>"
    return (
        f"<h2>{escape(part.heading)}</h2><p>Question <code>{escape(part.question)}</code>"
        f"{_cut(part)}</p>{table}"
    )


def _cut(part: Part) -> str:
    return "; there is more than is shown" if part.is_truncated else ""


def _markdown(page: Page) -> str:
    return "\n".join(_markdown_lines(page)) + "\n"


def _markdown_lines(page: Page) -> Iterator[str]:
    yield f"# {page.title}"
    yield ""
    yield from (f"- {name}: {_marked(value)}" for name, value in page.about)
    for part in page.parts:
        yield from ("", f"## {part.heading}", "", f"Question `{part.question}`{_cut(part)}", "")
        if not part.rows:
            yield "Nothing."
            continue
        yield _line(part.columns)
        yield "|" + " --- |" * len(part.columns)
        yield from map(_line, part.rows)


def _line(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(map(_marked, cells)) + " |"


def _marked(value: Any) -> str:
    """Text that no Markdown reader takes for anything else."""
    return _MARKS.sub(r"\\\1", _cell(value))


def _csv(page: Page) -> str:
    """One table after the other, an empty line between; the first says what it is about."""
    tables = [to_csv(("report", page.title), page.about)]
    tables += [to_csv((p.heading, p.question), []) + to_csv(p.columns, p.rows) for p in page.parts]
    return "\r\n".join(tables)
