"""A lineage graph for eyes: as a tree in a terminal, as an SVG picture. Pure, no library.

Names come from tenants who do not trust each other: control characters never reach the
terminal, and nothing in a name becomes markup of the picture.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

Node = Mapping[str, Any]
Edge = Mapping[str, Any]

_NAME_CHARS_MAX = 120
_KINDS = ("dataset", "version", "grant", "run", "model")
_COLOURS = {
    "dataset": "#1f4e79",
    "version": "#2e75b6",
    "grant": "#bf8f00",
    "run": "#548235",
    "model": "#7030a0",
}
_BOX_WIDTH, _BOX_HEIGHT, _GAP_X, _GAP_Y, _MARGIN = 300, 46, 70, 18, 20
_LABEL_CHARS_MAX = 40


def shown(text: object, chars_max: int = _NAME_CHARS_MAX) -> str:
    """`text` without anything a terminal or a reader could be fooled by, and not too long."""
    clean = "".join(
        char if unicodedata.category(char)[0] not in "CZ" or char == " " else "\ufffd"
        for char in str(text)
    )
    return clean if len(clean) <= chars_max else f"{clean[: chars_max - 1]}…"


def tree(nodes: Sequence[Node], edges: Sequence[Edge]) -> str:
    """The graph as lines of text; what is reached twice is written out once.

    Args:
        nodes: mappings with `id`, `kind`, `name`, `facts`.
        edges: mappings with `source`, `target`, `kind`.
    """
    known = {node["id"]: node for node in nodes}
    below: dict[str, list[Edge]] = {}
    targets = set()
    for edge in edges:
        below.setdefault(edge["source"], []).append(edge)
        targets.add(edge["target"])
    roots = [name for name in known if name not in targets] or list(known)[:1]
    lines: list[str] = []
    written: set[str] = set()
    stack: list[tuple[str, str, str, str]] = [(root, "", "", "") for root in reversed(roots)]
    while stack:
        name, lead, branch, verb = stack.pop()
        again = name in written
        written.add(name)
        text = _line(known.get(name, {"id": name, "kind": "", "name": name}))
        lines.append(
            f"{lead}{branch}{verb}{text}{' (see above)' if again and name in below else ''}"
        )
        if again:
            continue
        deeper = lead + {"": "", "├─ ": "│  ", "└─ ": "   "}[branch]
        children = below.get(name, [])
        for place, edge in reversed(list(enumerate(children))):
            mark = "└─ " if place == len(children) - 1 else "├─ "
            stack.append((edge["target"], deeper, mark, f"{shown(edge['kind'])} "))
    return "\n".join(lines) + "\n" if lines else ""


def _line(node: Node) -> str:
    facts = node.get("facts") or {}
    notes = [shown(facts[key]) for key in ("purpose", "actor_tenant") if facts.get(key)]
    if facts.get("rows") is not None:
        notes.append(f"{shown(facts['rows'])} rows")
    if facts.get("revoked_at"):
        notes.append("revoked")
    kind = shown(node.get("kind") or "")
    return f"{kind} {shown(node.get('name', ''))}".strip() + (
        f" ({', '.join(notes)})" if notes else ""
    )


def svg(nodes: Sequence[Node], edges: Sequence[Edge]) -> str:
    """The graph as a standalone SVG document without scripts, links or fonts of its own."""
    places = _places(nodes)
    width = 2 * _MARGIN + len(_KINDS) * (_BOX_WIDTH + _GAP_X) - _GAP_X
    height = max((y for _, y in places.values()), default=0) + _BOX_HEIGHT + _MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">',
        '<g font-family="sans-serif" font-size="12">',
        "<title>lineage</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    parts += [
        _curve(places[edge["source"]], places[edge["target"]])
        for edge in edges
        if edge["source"] in places and edge["target"] in places
    ]
    parts += [_box(node, places[node["id"]]) for node in nodes if node["id"] in places]
    return "\n".join([*parts, "</g></svg>\n"])


def _places(nodes: Sequence[Node]) -> dict[str, tuple[int, int]]:
    heights: dict[int, int] = {}
    places = {}
    for node in nodes:
        kind = node.get("kind")
        column = _KINDS.index(kind) if kind in _KINDS else len(_KINDS) - 1
        row = heights.get(column, 0)
        heights[column] = row + 1
        places[node["id"]] = (
            _MARGIN + column * (_BOX_WIDTH + _GAP_X),
            _MARGIN + row * (_BOX_HEIGHT + _GAP_Y),
        )
    return places


def _curve(source: tuple[int, int], target: tuple[int, int]) -> str:
    x1, y1 = source[0] + _BOX_WIDTH, source[1] + _BOX_HEIGHT // 2
    x2, y2 = target[0], target[1] + _BOX_HEIGHT // 2
    middle = (x1 + x2) // 2
    return (
        f'<path d="M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}"'
        ' fill="none" stroke="#999999" stroke-width="1.5"/>'
    )


def _box(node: Node, place: tuple[int, int]) -> str:
    x, y = place
    colour = _COLOURS.get(str(node.get("kind")), "#404040")
    facts = node.get("facts") or {}
    notes = " · ".join(shown(facts[key]) for key in ("purpose", "actor_tenant") if facts.get(key))
    if facts.get("rows") is not None:
        notes = " · ".join(filter(None, (notes, f"{shown(facts['rows'])} rows")))
    name = escape(shown(node.get("name", ""), _LABEL_CHARS_MAX))
    full = escape(shown(node.get("name", "")))
    label = escape(shown(f"{node.get('kind', '')}  {notes}", _LABEL_CHARS_MAX))
    return (
        f'<g><title>{full}</title><rect x="{x}" y="{y}" width="{_BOX_WIDTH}"'
        f' height="{_BOX_HEIGHT}" rx="6" fill="{colour}"/>'
        f'<text x="{x + 10}" y="{y + 18}" fill="#ffffff">{name}</text>'
        f'<text x="{x + 10}" y="{y + 36}" fill="#ffffff" fill-opacity="0.8">{label}</text></g>'
    )
