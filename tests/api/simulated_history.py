"""The simulator's part about lineage: one answer to everything."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

import gateway.wire as W
from gateway.crypto.notes import sign_note, verifier_key
from gateway.crypto.signing import Signer
from gateway.errors import (
    InvalidInput,
    NotFound,
)
from gateway.wire import codec, openlineage

_LOG, _SIGNER = "dataset-gateway/simulated", Signer(b"s" * 32, "log")


class SimulatedHistory:
    """Fixed words, so that doors have something to translate."""

    durable: int

    def _id(self, prefix: str) -> str:
        raise NotImplementedError

    async def questions(self, caller: Any) -> Sequence[W.Question]:
        dataset = W.QuestionParameter(name="dataset", type="text", required=True)
        return (
            W.Question(
                name="who-read",
                text="who read a dataset",
                parameters=(dataset,),
                columns=("subject", "rows"),
            ),
        )

    async def ask(self, caller: Any, name: str, asked: W.AskRequest) -> W.Answer:
        if name != "who-read":
            raise NotFound("no such question")
        return W.Answer(
            columns=("subject", "rows"), rows=(("startup/ml", 100),), as_of_index=self.durable
        )

    async def query(self, caller: Any, asked: W.QueryRequest) -> W.Answer:
        if not asked.sql.lower().startswith("select"):
            raise InvalidInput("only one SELECT is run")
        return W.Answer(columns=("n", "x"), rows=((1, None), (2, 2.5)), as_of_index=self.durable)

    async def query_arrow(self, caller: Any, asked: W.QueryRequest) -> W.ArrowAnswer:
        answer = await self.query(caller, asked)
        rows = {name: [row[i] for row in answer.rows] for i, name in enumerate(answer.columns)}
        sink, table = io.BytesIO(), pa.table(rows)
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        facts = W.AnswerFacts(as_of_index=answer.as_of_index)
        return W.ArrowAnswer(stream=sink.getvalue(), facts=facts)

    async def trace(self, caller: Any, ref: str, depth: int) -> W.Trace:
        return W.Trace(
            nodes=(
                W.TraceNode(id=ref, kind="version", name=ref),
                W.TraceNode(id="run:1", kind="run", name="run:1"),
            ),
            edges=(W.TraceEdge(source=ref, target="run:1", kind="read"),),
        )

    async def column_trace(self, caller: Any, ref: str, depth: int, *, downstream: bool) -> W.Trace:
        down = (W.TraceEdge(source=ref, target="run:1", kind="masked"),) if downstream else ()
        inputs = [{"dataset": "a", "field": "b"}]
        node = W.TraceNode(id=ref, kind="column", name="age", facts={"inputFields": inputs})
        return W.Trace(nodes=(node,), edges=down, truncated=True)

    async def claim(self, caller: Any, raw: bytes) -> W.ClaimReceipt:
        openlineage.read(codec.loads(raw), "testserver")
        self.durable += 1
        return W.ClaimReceipt(index=self.durable, again=False)

    async def report(self, caller: Any, name: str, wanted: W.ReportRequest) -> W.Report:
        if name != "art30":
            raise NotFound("no such report")
        text = f"{wanted.format} of {sorted(wanted.parameters)}\n"
        return W.Report(name=name, format=wanted.format, text=text, as_of_index=1, truncated=False)

    async def checkpoint(self, caller: Any, since: int | None) -> W.CheckpointView:
        """Of a log of one event, really signed."""
        root = b64encode(bytes(32)).decode()
        return W.CheckpointView(
            note=sign_note(_SIGNER, _LOG, f"{_LOG}\n1\n{root}\n"), size=1, root="00" * 32,
            witnessed="none", log_key=verifier_key(_LOG, _SIGNER.public_key),
            since=1 if since == 1 else None,
        )  # fmt: skip

    async def chain(self, caller: Any, tenant: str | None, since: int | None) -> W.ChainProof:
        return W.ChainProof(
            tenant=tenant or caller.subject.tenant, tag="ab", events=1, leaf="00" * 32,
            place=0, chains=1, path=(), index=0, heads="{}", hashes=(),
            first="{}", first_hashes=(),
            checkpoint=await self.checkpoint(caller, since),
        )  # fmt: skip

    async def inclusion(self, caller: Any, index: int, size: int | None) -> W.Proof:
        size = size or 1
        if index >= size:
            raise InvalidInput("the index is not below the size")
        return W.Proof(kind="inclusion", first=index, second=size, hashes=())

    async def consistency(self, caller: Any, first: int, second: int | None) -> W.Proof:
        return W.Proof(kind="consistency", first=first, second=second or 1, hashes=())

    async def verify(self, caller: Any, since: int | None) -> W.Operation:
        made = W.Operation(id=self._id("op_"), kind="verify", state="done", progress=1.0)
        self.acts[made.id] = made
        return made
