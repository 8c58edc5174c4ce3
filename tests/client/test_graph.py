"""How a graph is drawn: names are text, claims are marked, cycles end."""

from __future__ import annotations

import xml.etree.ElementTree as ET  # our own output

from gateway.client import graph

EVIL = "a\x1b[2J\r\n<script>alert(1)</script>&\u202e\x00" + "x" * 500
EVIL_NODES = [
    {"id": EVIL, "kind": "dataset", "name": EVIL, "facts": {"purpose": EVIL, "rows": EVIL}},
    {"id": "b", "kind": EVIL, "name": "", "facts": None},
]
EVIL_EDGES = [
    {"source": EVIL, "target": "b", "kind": EVIL},
    {"source": "b", "target": EVIL, "kind": "loop"},
    {"source": "gone", "target": "gone too", "kind": "x"},
]


def test_names_never_drive_the_terminal() -> None:
    text = graph.tree(EVIL_NODES, EVIL_EDGES)
    assert not any(ord(char) < 32 and char != "\n" for char in text)
    assert "\u202e" not in text
    assert max(map(len, text.splitlines())) < 700


def test_names_never_become_markup() -> None:
    picture = graph.svg(EVIL_NODES, EVIL_EDGES)
    root = ET.fromstring(picture)  # noqa: S314
    assert not [e for e in root.iter() if e.tag.endswith(("script", "a", "image", "style"))]
    assert "<script" not in picture


def test_an_empty_graph_is_drawn_too() -> None:
    assert graph.tree([], []) == ""
    ET.fromstring(graph.svg([], []))  # noqa: S314


def test_what_was_claimed_is_marked_and_dashed() -> None:
    nodes = [{"id": name, "kind": "dataset", "name": name} for name in "abc"]
    edges = [
        {"source": "a", "target": "b", "kind": "claimed"},
        {"source": "b", "target": "c", "kind": "derived"},
    ]
    assert graph.tree(nodes, edges).splitlines() == [
        "dataset a", "└─ claimed dataset b", "   └─ derived dataset c",
    ]  # fmt: skip
    assert graph.svg(nodes, edges).count("stroke-dasharray") == 1
