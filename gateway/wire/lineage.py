"""Questions to lineage, their answers, and proofs of the log."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

ARROW_STREAM = "application/vnd.apache.arrow.stream"  # what `Accept` names for it
ANSWER_HEADER = "Gateway-Answer"


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
class CheckpointView:
    """The newest durable LogCheckpoint, and that it continues the one which the caller pinned."""

    note: str  # signed C2SP note, as text
    size: int
    root: str  # hex
    witnessed: str  # `none` or `n of m up to size S`
    log_key: str  # verifier key (vkey), as the gateway says: who pins takes the first one seen
    cosigned: str | None = None  # the newest one that witnesses signed, with their signatures
    since: int | None = None  # size of the pinned one, when it is not larger than `size`
    consistency: tuple[str, ...] = ()  # hex hashes: the first `since` events are still the first


@dataclass(frozen=True, slots=True, kw_only=True)
class AskRequest:
    """Parameters of a named question."""

    parameters: dict[str, Any] = field(default_factory=dict)
    pinned: int | None = None  # size of the LogCheckpoint that the answer has to continue


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryRequest:
    """SQL for the sandbox."""

    sql: str
    pinned: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A table of JSON scalars."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    as_of_index: int  # journal index up to which it is complete
    truncated: bool = False
    expired: tuple[str, ...] = ()  # months asked for that are gone by retention: `2026-01`
    checkpoint: CheckpointView | None = None  # of a log that holds those events


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFacts:
    """What an Answer says beside its rows: beside an Arrow stream, the JSON of ANSWER_HEADER."""

    as_of_index: int
    truncated: bool = False
    expired: tuple[str, ...] = ()
    checkpoint: CheckpointView | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrowAnswer:
    """Rows as an Arrow IPC stream, whose bytes the gateway does not open."""

    stream: bytes
    facts: AnswerFacts


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
    truncated: bool = False  # there is more than is shown


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimReceipt:
    """POST /api/v1/lineage: where the claim stands in the journal."""

    index: int
    again: bool  # it stood there already


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """An RFC 6962 proof: inclusion of leaf `first` in `second`, or consistency of both sizes."""

    kind: str  # inclusion | consistency
    first: int  # index of the leaf, or the smaller size
    second: int  # tree size
    hashes: tuple[str, ...]  # hex
    leaf: str | None = None  # hex hash of the leaf, for inclusion


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainProof:
    """How many events concern a tenant, and that the log fixes it (event-v0 §5)."""

    tenant: str
    tag: str  # of its chain
    events: int  # so many; the counter of the newest is one less
    leaf: str  # hex hash of the newest
    place: int  # of its entry in the tree of heads
    chains: int  # entries of that tree
    path: tuple[str, ...]  # hex: from the entry to the root of that tree
    index: int  # of the TenantHeads event that holds the root
    heads: str  # canonical bytes of that event
    hashes: tuple[str, ...]  # hex: that it is in the log of `checkpoint`
    first: str  # canonical bytes of the chain's first event, whose owner is the tenant
    first_hashes: tuple[str, ...]  # hex: that it is in that log, too
    checkpoint: CheckpointView


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceRequest:
    """POST /v1/lineage/evidence: which part of history; without any, all of the tenant's."""

    since: str | None = None  # a time, or a span such as `30d`
    until: str | None = None
    dataset: str | None = None  # whose manifests and details are wanted
    tenant: str | None = None  # whose side of history, when not one's own


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationRequest:
    """Verify the whole log; with `since`, also that it continues this older LogCheckpoint."""

    since: int | None = None  # its size


_TYPES = {"column": "DATASET_FIELD"}  # Marquez' words
_KINDS = {of: kind for kind, of in _TYPES.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphEdge:
    """An edge in Marquez' shape, and what it is."""

    origin: str
    destination: str
    kind: str = "derived"  # `claimed`: the tenant said so; every other kind the gateway saw


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphNode:
    """A node in Marquez' shape."""

    id: str
    type: str
    data: dict[str, Any]
    inEdges: tuple[GraphEdge, ...] = ()  # noqa: N815 - Marquez' name
    outEdges: tuple[GraphEdge, ...] = ()  # noqa: N815 - Marquez' name


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A Trace in the shape that Marquez clients read."""

    graph: tuple[GraphNode, ...]
    truncated: bool = False  # there is more than is shown

    @classmethod
    def of(cls, trace: Trace) -> Graph:
        """Turn edges around into the nodes' lists."""
        into: defaultdict[str, list[GraphEdge]] = defaultdict(list)
        out: defaultdict[str, list[GraphEdge]] = defaultdict(list)
        for e in trace.edges:
            edge = GraphEdge(origin=e.source, destination=e.target, kind=e.kind)
            into[e.target].append(edge)
            out[e.source].append(edge)
        return cls(
            graph=tuple(
                GraphNode(
                    id=node.id,
                    type=_TYPES.get(node.kind, node.kind.upper()),
                    data={"name": node.name, **node.facts},
                    inEdges=tuple(into[node.id]),
                    outEdges=tuple(out[node.id]),
                )
                for node in trace.nodes
            ),
            truncated=trace.truncated,
        )

    def trace(self) -> Trace:
        """The Trace again."""
        return Trace(
            nodes=tuple(
                TraceNode(
                    id=node.id,
                    kind=_KINDS.get(node.type, node.type.lower()),
                    name=str(node.data.get("name", node.id)),
                    facts={key: fact for key, fact in node.data.items() if key != "name"},
                )
                for node in self.graph
            ),
            edges=tuple(
                TraceEdge(source=edge.origin, target=edge.destination, kind=edge.kind)
                for node in self.graph
                for edge in node.outEdges
            ),
            truncated=self.truncated,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRequest:
    """POST /v1/lineage/reports/{name}."""

    parameters: dict[str, Any] = field(default_factory=dict)  # of its questions, and `tenant`
    format: str = "html"  # html | markdown | csv
    pinned: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Named questions in one document."""

    name: str
    format: str
    text: str
    as_of_index: int  # complete for the journal events below this one
    truncated: bool
    expired: tuple[str, ...] = ()  # months of which it cannot tell any more
    checkpoint: CheckpointView | None = None
