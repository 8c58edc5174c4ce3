"""Questions to lineage, their answers, and proofs of the log."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionParameter:
    """One parameter of a named question."""

    name: str
    type: str
    required: bool = False
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A named question that lineage answers."""

    name: str
    text: str  # one line
    parameters: tuple[QuestionParameter, ...] = ()
    columns: tuple[str, ...] = ()  # of the answer


@dataclass(frozen=True, slots=True, kw_only=True)
class AskRequest:
    """Parameters of a named question."""

    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryRequest:
    """SQL for the sandbox."""

    sql: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A table of JSON scalars."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    as_of_index: int  # journal index up to which it is complete
    truncated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceNode:
    """A thing in the graph."""

    id: str
    kind: str  # dataset | version | run | model | decision | job
    name: str
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceEdge:
    """From what it came to what came of it."""

    source: str
    target: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A part of the lineage graph."""

    nodes: tuple[TraceNode, ...]
    edges: tuple[TraceEdge, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointView:
    """The newest durable LogCheckpoint."""

    note: str  # signed C2SP note, as text
    size: int
    root: str  # hex
    witnessed: str  # `none` or `n of m up to size S`


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """An RFC 6962 proof: inclusion of leaf `first` in `second`, or consistency of both sizes."""

    kind: str  # inclusion | consistency
    first: int  # index of the leaf, or the smaller size
    second: int  # tree size
    hashes: tuple[str, ...]  # hex
    leaf: str | None = None  # hex hash of the leaf, for inclusion
