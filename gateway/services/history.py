"""The part of the facade about what happened: consent, lineage, evidence."""

from __future__ import annotations

import gateway.wire as W
from gateway.services import audit, claims, consents, evidence, graph, proofs, reports, shapes
from gateway.services.house import House
from gateway.services.request_access import Caller


class History:
    """Mixed into the facade, whose House it works on."""

    __slots__ = ()
    house: House

    async def consents(self, caller: Caller) -> list[W.ConsentView]:
        """The newest word of each person."""
        return await consents.list_(self.house, caller)

    async def record_consents(self, caller: Caller, wanted: W.ConsentRequest) -> W.ConsentReceipt:
        """Record what persons gave and withdrew."""
        return await consents.record(self.house, caller, wanted)

    async def questions(self, caller: Caller) -> list[W.Question]:
        """The named questions."""
        return await audit.questions(self.house, caller)

    async def ask(self, caller: Caller, name: str, asked: W.AskRequest) -> W.Answer:
        """Ask one of them; the question is recorded first."""
        return await audit.ask(self.house, caller, name, asked)

    async def query(self, caller: Caller, asked: W.QueryRequest) -> W.Answer:
        """Run an auditor's SQL in the sandbox; recorded first."""
        return await audit.query(self.house, caller, asked)

    async def query_arrow(self, caller: Caller, asked: W.QueryRequest) -> W.ArrowAnswer:
        """The same, as an Arrow IPC stream."""
        return await audit.query_arrow(self.house, caller, asked)

    async def trace(self, caller: Caller, ref: str, depth: int) -> W.Trace:
        """Where something came from and went to."""
        return await graph.trace(self.house, caller, ref, depth)

    async def column_trace(
        self, caller: Caller, ref: str, depth: int, *, downstream: bool
    ) -> W.Trace:
        """What a column was made from and who received it."""
        return await graph.columns(self.house, caller, ref, depth, downstream=downstream)

    async def claim(self, caller: Caller, raw: bytes) -> W.ClaimReceipt:
        """Record what an OpenLineage event says."""
        return await claims.take(self.house, caller, raw)

    async def report(self, caller: Caller, name: str, wanted: W.ReportRequest) -> W.Report:
        """Several questions in one document; recorded first."""
        return await reports.make(self.house, caller, name, wanted)

    async def checkpoint(self, caller: Caller, since: int | None) -> W.CheckpointView:
        """The newest signed LogCheckpoint; with `since`, the proof that it continues that one."""
        return await proofs.checkpoint(self.house, caller, since)

    async def chain(self, caller: Caller, tenant: str | None, since: int | None) -> W.ChainProof:
        """How many events concern a tenant, with the proof of it."""
        return await proofs.chain(self.house, caller, tenant, since)

    async def inclusion(self, caller: Caller, index: int, size: int | None) -> W.Proof:
        """Proof that an event stands in the log."""
        return await proofs.inclusion(self.house, caller, index, size)

    async def consistency(self, caller: Caller, first: int, second: int | None) -> W.Proof:
        """Proof that the log only grew."""
        return await proofs.consistency(self.house, caller, first, second)

    async def evidence(self, caller: Caller, wanted: W.EvidenceRequest) -> W.Operation:
        """Make an EvidencePack; an Operation."""
        return shapes.operation_view(await evidence.export(self.house, caller, wanted))

    async def evidence_part(self, caller: Caller, pack: str, start: int) -> bytes:
        """Bytes of one that is made."""
        return await evidence.part(self.house, caller, pack, start)

    async def verify(self, caller: Caller, since: int | None) -> W.Operation:
        """Verify the whole log on the server; an Operation."""
        return shapes.operation_view(await audit.verify(self.house, caller, since))
