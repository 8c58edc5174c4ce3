"""The page of an EvidencePack for people: what happened, in tables. Nothing on it is proven.

Every text on it comes from tenants who do not trust each other, or from a log that somebody may
want to look otherwise: all of it is escaped, there is no script, and the page loads nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from gateway.domain.events import MICROSECONDS
from gateway.wire.times import iso

ROWS_MAX = 1_000
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;width:100%;margin:1rem 0}"
    "th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #ccc;vertical-align:top}"
    "code{word-break:break-all}"
)


class Summary:
    """Gathers rows while the events go by."""

    def __init__(self, tenant: str, people: Mapping[Any, str]) -> None:
        """`people` maps a keyed tag to the identity behind it."""
        self.tenant = tenant
        self.people = {str(tag): name for tag, name in people.items()}
        self._kinds: Counter[str] = Counter()
        self._decisions: list[tuple[str, ...]] = []
        self._left_out = 0
        self._rows: Counter[str] = Counter()  # grant -> rows handed over
        self._grants: dict[str, str] = {}  # lease -> grant

    def take(self, event: Mapping[str, Any]) -> None:
        """One more event of the range."""
        kind, facts = event["kind"], event["facts"]
        self._kinds[kind] += 1
        if kind == "AccessDecided":
            self._decided(event, facts)
        elif kind == "LeaseOpened":
            self._grants[facts["lease"]] = facts["grant"]
        elif kind == "SegmentsConfirmed":
            self._rows[self._grants.get(facts["lease"], "")] += facts["rows"]

    def _decided(self, event: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        if len(self._decisions) == ROWS_MAX:
            self._left_out += 1
            return
        who = self.people.get(event["who"] or "", event["who"] or "")
        version = facts.get("version")
        self._decisions.append(
            (
                iso(event["time"] / MICROSECONDS),
                who if "/" in who else f"{event['actor'] or 'nobody'}: {who}",
                facts["action"],
                f"{facts.get('dataset') or ''}{'' if version is None else f'@{version}'}",
                facts.get("purpose") or "",
                facts["effect"],
                ", ".join(facts["rules"]) or ", ".join(facts["reasons"]),
                facts.get("grant") or "",
            )
        )

    def html(self, note: str, about: Mapping[str, Any], witnessed: str) -> str:
        """The page."""
        span = [
            "the beginning" if about["since"] is None else iso(about["since"] / MICROSECONDS),
            "now" if about["until"] is None else iso(about["until"] / MICROSECONDS),
        ]
        head = ("time", "who", "action", "dataset", "purpose", "answer", "rules or reasons", "rows")
        rows = [(*row[:-1], str(self._rows[row[-1]] or "")) for row in self._decisions]
        more = f"<p>{self._left_out} further decisions are in events.jsonl.</p>"
        return (
            '<!doctype html><html lang="en"><meta charset="utf-8">'
            '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
            "style-src 'unsafe-inline'\">"
            f"<title>Evidence of {escape(self.tenant)}</title><style>{_STYLE}</style>"
            f"<h1>What happened at {escape(self.tenant)}</h1>"
            f"<p>From {span[0]} to {span[1]}. This page is for reading; what is proven stands in "
            "events.jsonl, and verify.py checks it.</p>"
            f"{_expired(about['expired'])}"
            f"<h2>Decisions</h2>{_table(head, rows)}{more if self._left_out else ''}"
            f"<h2>Events</h2>{_table(('kind', 'number'), _counted(self._kinds))}"
            f"<h2>The log</h2><p>Witnessed: {escape(witnessed)}.</p>"
            f"<p>Signed LogCheckpoint:</p><pre><code>{escape(note)}</code></pre>"
        )


def _expired(months: Sequence[str]) -> str:
    listed = escape(", ".join(months))
    said = "what was said there in detail is gone for good; that and when things happened is not"
    return f"<p><b>Expired by retention: {listed}</b>: {said}.</p>" if months else ""


def _counted(kinds: Counter[str]) -> list[tuple[str, ...]]:
    return [(kind, str(count)) for kind, count in sorted(kinds.items())]


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    def line(cells: tuple[str, ...], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return f"<table>{line(head, 'th')}{''.join(line(row, 'td') for row in rows)}</table>"
