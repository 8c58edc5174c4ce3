"""A lineage graph for eyes: as a tree in a terminal, as an SVG picture. Pure, no library.

Names come from tenants who do not trust each other: control characters never reach the
terminal, and nothing in a name becomes markup of the picture. What was claimed, and not seen by
the gateway, is marked in the tree and dashed in the picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from gateway.wire.shown import shown

Node = Mapping[str, Any]
Edge = Mapping[str, Any]
CLAIMED = "claimed"

_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _MARGIN = 240, 46, 90, 18, 12
_LABEL_CHARS_MAX = 34
_FILLS = {
    "dataset": "#dbeafe",
    "version": "#dbeafe",
    "column": "#dbeafe",
    "grant": "#ffedd5",
    "run": "#dcfce7",
    "model": "#fef9c3",
}


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
    notes = _notes(node)
    text = f"{shown(node.get('kind') or '')} {shown(node.get('name', ''))}".strip()
    return f"{text} ({', '.join(notes)})" if notes else text


def _notes(node: Node) -> list[str]:
    facts = node.get("facts") or {}
    notes = [shown(facts[key]) for key in ("purpose", "actor_tenant") if facts.get(key)]
    if facts.get("rows") is not None:
        notes.append(f"{shown(facts['rows'])} rows")
    if facts.get("revoked_at"):
        notes.append("revoked")
    return notes


def svg(nodes: Sequence[Node], edges: Sequence[Edge]) -> str:
    """A standalone document in layers from left to right: no script, link or style from afar."""
    layer = _layers([node["id"] for node in nodes], edges)
    places: dict[str, tuple[int, int]] = {}
    used: dict[int, int] = {}
    for node in nodes:
        column = layer[node["id"]]
        row = used.get(column, 0)
        used[column] = row + 1
        x = _MARGIN + column * (_WIDTH + _GAP_X)
        places[node["id"]] = (x, _MARGIN + row * (_HEIGHT + _GAP_Y))
    width = 2 * _MARGIN + (max(used, default=0) + 1) * (_WIDTH + _GAP_X) - _GAP_X
    height = 2 * _MARGIN + max(used.values(), default=1) * (_HEIGHT + _GAP_Y) - _GAP_Y
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
    parts = [
        head + 'font-family="sans-serif" font-size="12">',
        *(_arrow(edge, places) for edge in edges if _known(edge, places)),
        *(_box(node, places[node["id"]]) for node in nodes),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _known(edge: Edge, places: Mapping[str, Any]) -> bool:
    return edge["source"] in places and edge["target"] in places


def _layers(ids: Sequence[str], edges: Sequence[Edge]) -> dict[str, int]:
    """The longest way from a source; a cycle stops growing after as many rounds as nodes."""
    layer = dict.fromkeys(ids, 0)
    for _ in ids:
        grown = False
        for edge in edges:
            if not _known(edge, layer) or edge["source"] == edge["target"]:
                continue
            wanted = min(layer[edge["source"]] + 1, len(ids) - 1)
            if layer[edge["target"]] < wanted:
                layer[edge["target"]] = wanted
                grown = True
        if not grown:
            break
    return layer


def _box(node: Node, place: tuple[int, int]) -> str:
    x, y = place
    kind, name = str(node.get("kind") or ""), node.get("name", "")
    fill = _FILLS.get(kind, "#f3f4f6")
    label = " · ".join((shown(kind), *_notes(node)))
    return (
        f"<g><title>{escape(shown(kind))}: {escape(shown(name))}</title>"
        f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="6" fill="{fill}" '
        f'stroke="#6b7280"/><text x="{x + 10}" y="{y + 19}">'
        f"{escape(shown(name, _LABEL_CHARS_MAX))}</text>"
        f'<text x="{x + 10}" y="{y + 36}" fill="#6b7280">'
        f"{escape(shown(label, _LABEL_CHARS_MAX))}</text></g>"
    )


def _arrow(edge: Edge, places: Mapping[str, tuple[int, int]]) -> str:
    start, end = places[edge["source"]], places[edge["target"]]
    dashes = ' stroke-dasharray="5 4"' if edge.get("kind") == CLAIMED else ""
    x1, y1 = start[0] + _WIDTH, start[1] + _HEIGHT // 2
    x2, y2 = end[0], end[1] + _HEIGHT // 2
    bend = (x1 + x2) // 2
    return (
        f'<path d="M{x1} {y1} C{bend} {y1} {bend} {y2} {x2} {y2}" fill="none" stroke="#6b7280"'
        f"{dashes}/>"
        f'<path d="M{x2 - 7} {y2 - 4} L{x2} {y2} L{x2 - 7} {y2 + 4}" fill="none" stroke="#6b7280"/>'
    )
