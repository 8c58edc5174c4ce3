"""A lineage graph as SVG: layers from left to right, no library, no script, no styles from afar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _MARGIN = 220, 34, 90, 18, 12
_CHARS = 30
_FILLS = {"version": "#dbeafe", "dataset": "#dbeafe", "run": "#dcfce7", "model": "#fef9c3"}


def svg(nodes: Sequence[Mapping[str, Any]], edges: Sequence[Mapping[str, Any]]) -> str:
    """Draw nodes (`id`, `kind`, `name`) and edges (`source`, `target`)."""
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
        *(_arrow(e, places) for e in edges if _known(e, places)),
        *(_box(node, places[node["id"]]) for node in nodes),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _known(edge: Mapping[str, Any], places: Mapping[str, Any]) -> bool:
    return edge["source"] in places and edge["target"] in places


def _layers(ids: Sequence[str], edges: Sequence[Mapping[str, Any]]) -> dict[str, int]:
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


def _box(node: Mapping[str, Any], place: tuple[int, int]) -> str:
    x, y = place
    name = str(node["name"])
    shown = name if len(name) <= _CHARS else name[: _CHARS - 1] + "…"
    fill = _FILLS.get(str(node["kind"]), "#f3f4f6")
    return (
        f"<g><title>{escape(str(node['kind']))}: {escape(name)}</title>"
        f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="6" fill="{fill}" '
        f'stroke="#6b7280"/><text x="{x + 10}" y="{y + 21}">{escape(shown)}</text></g>'
    )


def _arrow(edge: Mapping[str, Any], places: Mapping[str, tuple[int, int]]) -> str:
    start, end = places[edge["source"]], places[edge["target"]]
    dashes = ' stroke-dasharray="5 4"' if edge.get("kind") == "claimed" else ""
    x1, y1 = start[0] + _WIDTH, start[1] + _HEIGHT // 2
    x2, y2 = end[0], end[1] + _HEIGHT // 2
    bend = (x1 + x2) // 2
    return (
        f'<path d="M{x1} {y1} C{bend} {y1} {bend} {y2} {x2} {y2}" fill="none" stroke="#6b7280"'
        f"{dashes}/>"
        f'<path d="M{x2 - 7} {y2 - 4} L{x2} {y2} L{x2 - 7} {y2 + 4}" fill="none" stroke="#6b7280"/>'
    )
