"""Acts on lineage: named questions, sandboxed SQL, the graph, proofs of the log."""

from __future__ import annotations

import json

from starlette.responses import Response

import gateway.wire as W
from gateway.api import bodies
from gateway.api.acts import Act, Asked
from gateway.api.datasets import operation_location
from gateway.api.facade import Gateway
from gateway.domain.claim import CLAIM_BYTES_MAX
from gateway.errors import InvalidInput
from gateway.wire import codec
from gateway.wire.tokens import LINEAGE_PATH

_HERE = "/v1/lineage"
DEPTH_MAX, DEPTH_DEFAULT = 20, 5


async def _graph(gateway: Gateway, asked: Asked) -> W.Graph:
    return W.Graph.of(await gateway.trace(asked.caller, *_node_and_depth(asked)))


async def _column_graph(gateway: Gateway, asked: Asked) -> W.Graph:
    downstream = asked.query.get("withDownstream", "false")
    if downstream not in ("true", "false"):
        raise InvalidInput("`withDownstream` is `true` or `false`", field="withDownstream")
    found = await gateway.column_trace(
        asked.caller, *_node_and_depth(asked), downstream=downstream == "true"
    )
    return W.Graph.of(found)


def _node_and_depth(asked: Asked) -> tuple[str, int]:
    depth = asked.number("depth", DEPTH_DEFAULT)
    node = asked.query.get("nodeId")
    if not node or not 1 <= depth <= DEPTH_MAX:
        raise InvalidInput(f"give a `nodeId`, and a `depth` of 1 to {DEPTH_MAX}", field="nodeId")
    return node, depth


async def _claim(gateway: Gateway, asked: Asked) -> W.ClaimReceipt:
    raw = await bodies.read_maybe_gzip(asked.http, CLAIM_BYTES_MAX)
    return await gateway.claim(asked.caller, raw)


async def _query(gateway: Gateway, asked: Asked) -> W.Answer | Response:
    wanted = asked.value(W.QueryRequest)
    if not asked.wants_arrow:
        return await gateway.query(asked.caller, wanted)
    answer = await gateway.query_arrow(asked.caller, wanted)
    facts = json.dumps(codec.encode(answer.facts), separators=(",", ":"))  # ASCII, without CR or LF
    headers = {W.ANSWER_HEADER: facts, "Vary": "Accept"}
    return Response(answer.stream, 200, headers, media_type=W.ARROW_STREAM)


ACTS = (
    Act(
        method="GET",
        path=_HERE + "/questions",
        summary="List the named questions",
        call=lambda g, a: g.questions(a.caller),
        reply=W.Question,
        is_page=True,
    ),
    Act(
        method="POST",
        path=_HERE + "/questions/{name}",
        summary="Ask a named question; the question itself is recorded first",
        call=lambda g, a: g.ask(a.caller, a.path["name"], a.value(W.AskRequest)),
        body=W.AskRequest,
        reply=W.Answer,
    ),
    Act(
        method="POST",
        path=_HERE + "/query",
        summary="Run SQL in a sandbox that holds only your tenants' rows",
        call=_query,
        body=W.QueryRequest,
        reply=W.Answer,
        is_also_arrow=True,
        headers=lambda _: {"Vary": "Accept"},
    ),
    Act(
        method="POST",
        path=_HERE + "/reports/{name}",
        summary="Make a report of named questions; it is recorded first",
        call=lambda g, a: g.report(a.caller, a.path["name"], a.value(W.ReportRequest)),
        body=W.ReportRequest,
        reply=W.Report,
    ),
    Act(
        method="GET",
        path=_HERE + "/checkpoint",
        summary="The newest durable LogCheckpoint",
        call=lambda g, a: g.checkpoint(a.caller, a.optional("since")),
        query={"since": "size of one that was pinned: the proof that this one continues it"},
        reply=W.CheckpointView,
    ),
    Act(
        method="GET",
        path=_HERE + "/proofs/inclusion",
        summary="Prove that an event stands in the log",
        call=lambda g, a: g.inclusion(a.caller, a.number("index"), a.optional("size")),
        query={"index": "of the event", "size": "of the tree (default: the newest)"},
        reply=W.Proof,
    ),
    Act(
        method="GET",
        path=_HERE + "/proofs/chain",
        summary="Prove how many events concern a tenant",
        call=lambda g, a: g.chain(a.caller, a.query.get("tenant"), a.optional("since")),
        query={"tenant": "whose (default: one's own)", "since": "as of `checkpoint`"},
        reply=W.ChainProof,
    ),
    Act(
        method="GET",
        path=_HERE + "/proofs/consistency",
        summary="Prove that the log only grew between two sizes",
        call=lambda g, a: g.consistency(a.caller, a.number("first"), a.optional("second")),
        query={"first": "the smaller size", "second": "the larger size (default: the newest)"},
        reply=W.Proof,
    ),
    Act(
        method="POST",
        path=_HERE + "/verification",
        summary="Verify the whole log; answers with an Operation",
        call=lambda g, a: g.verify(a.caller, a.value(W.VerificationRequest).since),
        body=W.VerificationRequest,
        reply=W.Operation,
        status=202,
        headers=operation_location,
    ),
    Act(
        method="POST",
        path=_HERE + "/evidence",
        summary="Make an EvidencePack; answers with an Operation whose result names it",
        call=lambda g, a: g.evidence(a.caller, a.value(W.EvidenceRequest)),
        body=W.EvidenceRequest,
        reply=W.Operation,
        status=202,
        headers=operation_location,
    ),
    Act(
        method="GET",
        path=_HERE + "/evidence/{id}",
        summary="Bytes of a finished EvidencePack, from `start` on",
        call=lambda g, a: g.evidence_part(a.caller, a.path["id"], a.number("start", 0)),
        query={"start": "the first byte (default 0); at most 8 MiB come"},
        reply=bytes,
    ),
    Act(
        method="POST",
        path=LINEAGE_PATH,
        summary="Claim lineage: one OpenLineage event, with a lineage key or a token",
        call=_claim,
        reply=W.ClaimReceipt,
        status=201,
        is_binary=True,
    ),
    Act(
        method="GET",
        path=LINEAGE_PATH,
        summary="The lineage graph around a node, in Marquez' shape",
        call=_graph,
        query={"nodeId": "a reference: `clinic/icu@3`, `run:…`, `model:…`", "depth": "1 to 20"},
        reply=W.Graph,
    ),
    Act(
        method="GET",
        path="/api/v1/column-lineage",
        summary="What a column was made from, and who received it, in Marquez' shape",
        call=_column_graph,
        query={
            "nodeId": "`datasetField:NAMESPACE:NAME:FIELD`, or a dataset: all of its columns",
            "depth": "1 to 20",
            "withDownstream": "`true`: also what came of it",
        },
        reply=W.Graph,
    ),
)
