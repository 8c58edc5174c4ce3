"""Lineage: named questions, SQL, the graph, and verification that trusts nobody's word.

`verify` asks the gateway to verify its whole log, then checks itself what a client can: the
signature on the newest LogCheckpoint under a key that came from elsewhere, and by an RFC 6962
proof that the log only grew since an older LogCheckpoint that the caller kept. Every answer
comes with a LogCheckpoint too, which has to continue the largest one seen (see pins.py).
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import gateway.wire as W
from gateway.client.pins import Checkpoint, LogKey, Pin, Pins, named_key, opened, witnessed
from gateway.client.proofs import check_chain, check_event
from gateway.client.records import Record, Table, Trace
from gateway.client.targets import segment
from gateway.errors import IntegrityError, InvalidInput, LogForked
from gateway.wire import codec
from gateway.wire.tokens import LINEAGE_PATH

if TYPE_CHECKING:
    from gateway.client.arrow_answer import ArrowAnswer
    from gateway.client.client import GatewayClient, Progress

_PROOFS = "/v1/lineage/proofs"


class Lineage:
    """`gw.lineage`."""

    def __init__(self, gateway: GatewayClient) -> None:
        """Belong to a client."""
        self._gateway = gateway
        self._pins = Pins(gateway.settings.state_dir, gateway.transport.server)

    def questions(self) -> Table:
        """The named questions with their parameters."""
        return self._gateway.all_of("/v1/lineage/questions")

    def ask(self, question: str, /, **parameters: Any) -> Table:
        """Ask a named question; asking is recorded."""
        given = {name: value for name, value in parameters.items() if value is not None}
        path = f"/v1/lineage/questions/{segment(question)}"
        before = self._pins.read()
        request = W.AskRequest(parameters=given, pinned=_size(before))
        return self._answer(self._gateway.post(path, request), before)

    @overload
    def query(self, sql: str) -> Table: ...
    @overload
    def query(self, sql: str, *, as_arrow: Literal[True]) -> ArrowAnswer: ...
    def query(self, sql: str, *, as_arrow: bool = False) -> Table | ArrowAnswer:
        """Run one SELECT in a sandbox that holds our tenants' rows; asking is recorded.

        With `as_arrow` the values keep their types, and whole numbers beyond ±(2^53 − 1), which
        a JSON answer refuses, come as they are.
        """
        path, before = "/v1/lineage/query", self._pins.read()
        request = W.QueryRequest(sql=sql, pinned=_size(before))
        if not as_arrow:
            return self._answer(self._gateway.post(path, request), before)
        from gateway.client.arrow_answer import ArrowAnswer

        accept = {"Accept": W.ARROW_STREAM}
        reply = self._gateway.transport.request("POST", path, json=request, headers=accept)
        if reply.headers.get("content-type") != W.ARROW_STREAM:
            raise IntegrityError("this gateway does not answer as Arrow", advice="leave it out")
        told = codec.loads(reply.headers.get(W.ANSWER_HEADER.lower(), ""))
        facts = codec.decode_reply(W.AnswerFacts, told)
        self._check_pin(facts.checkpoint, before)
        return ArrowAnswer(reply.body, _facts_of(facts))

    def report(
        self,
        name: str,
        *,
        format: str | None = None,  # noqa: A002 - the word of the API
        out: str | Path | None = None,
        **parameters: Any,
    ) -> Record:
        """Make a report: several questions in one document; recorded.

        Args:
            name: `art30`, `art10`, `art12`, `usage`, `access-review`, `person` or `token`.
            format: `html`, `markdown` or `csv`; default: as `out` ends, else `markdown`.
            out: write it into this file.
            parameters: of its questions; `tenant`: whose side of history.
        """
        given = {key: value for key, value in parameters.items() if value is not None}
        before = self._pins.read()
        request = W.ReportRequest(
            parameters=given, format=format or _format_of(out), pinned=_size(before)
        )
        path = f"/v1/lineage/reports/{segment(name)}"
        made = codec.decode_reply(W.Report, self._gateway.post(path, request))
        self._check_pin(made.checkpoint, before)
        if out is not None:
            Path(out).write_text(made.text, "utf-8", newline="")
        return Record(codec.encode(made), self._gateway)

    def trace(self, ref: str, *, column: str | None = None, depth: int = 5) -> Trace:
        """The graph around `clinic/icu@3`, `run:…` or `model:…`, or around one column of a dataset.

        Edges of kind `claimed` are what our own tools said (OpenLineage); the others the gateway
        saw.
        """
        self._look()  # Marquez' shape has no place for a LogCheckpoint
        if column is None:
            graph = self._gateway.get("/api/v1/lineage", nodeId=ref, depth=depth)
        else:
            dataset = ref.removeprefix("dataset:").removeprefix("version:")
            if "/" in dataset and ":" not in dataset:
                dataset = dataset.partition("@")[0]
            node = f"column:{dataset}:{column}"
            graph = self._gateway.get(
                "/api/v1/column-lineage", nodeId=node, depth=depth, withDownstream="true"
            )
        return Trace.of(codec.decode_reply(W.Graph, graph).trace(), self._gateway)

    def key(self, *, valid: str = "90d") -> Record:
        """A key with which an unmodified OpenLineage client posts events in our name.

        It opens that route alone, ends after `valid`, and is made here with the identity key:
        no server keeps it. Whoever has it can claim lineage of our tenant until then; revoke it
        with `gateway.transport.revoke(key)`.
        """
        from gateway.wire.times import iso, seconds_of

        seconds, transport = seconds_of(valid), self._gateway.transport
        return Record(
            {
                "key": transport.lineage_key(seconds),
                "url": transport.server,
                "endpoint": LINEAGE_PATH.removeprefix("/"),
                "expires_at": iso(time.time() + seconds),
            }
        )

    def export(
        self,
        out: str | Path,
        *,
        since: str | None = None,
        until: str | None = None,
        dataset: str | None = None,
        tenant: str | None = None,
        progress: Progress | None = None,
    ) -> Record:
        """Write an EvidencePack: our events in the range with the proof that these are all.

        Args:
            out: the zip file; it holds the program that verifies it.
            since: first moment; a time, or a span such as `30d`.
            until: first moment that is not wanted.
            dataset: only its manifests and details; the events are all of ours all the same,
                because one that is left out could not be told from one that is hidden.
            tenant: whose side of history, when not ours.
            progress: called with what is being done.

        Raises:
            IntegrityError: what arrived is not what was made.
        """
        request = W.EvidenceRequest(since=since, until=until, dataset=dataset, tenant=tenant)
        done = self._gateway.finished(self._gateway.post("/v1/lineage/evidence", request), progress)
        made = dict(done.result or {})
        digest, size = hashlib.sha256(), 0
        path = f"/v1/lineage/evidence/{segment(made['pack'])}"
        with Path(out).open("wb") as file:
            while size < made["bytes"]:
                reply = self._gateway.transport.request("GET", path, query={"start": size})
                if not reply.body:
                    break
                file.write(reply.body)
                digest.update(reply.body)
                size += len(reply.body)
        if digest.hexdigest() != made["sha256"]:
            raise IntegrityError("the pack did not arrive whole", advice="export it again")
        self._look()
        return Record({**made, "out": str(out)}, self._gateway)

    def verify(
        self,
        *,
        since: str | Path | None = None,
        log_key: str | Path | None = None,
        witness_key: str | Path | None = None,
        event: int | None = None,
        progress: Progress | None = None,
    ) -> Record:
        """Verify the log; raises, never returns False.

        Args:
            since: an older LogCheckpoint (the note, or a file with it) that must be a prefix.
            log_key: the log's verifier key (the `vkey` line, or a file with it), from
                somewhere you trust; without it only consistency is shown, not authorship.
            witness_key: verifier key of a witness, likewise: it must have signed a beginning
                of this log; `witnessed_to` of the answer is how many events of it.
            event: index of one event (a receipt names it) that must stand in the log.
            progress: called with what is being verified.

        Returns: among others `your_events`, how many events of the log concern `tenant`, which
            the log itself fixes.

        Raises:
            IntegrityError: something does not hold; LogForked: it is not the log seen before.
        """
        key = None if log_key is None else _verifier(_text(log_key))
        older = None if since is None else self._kept(_text(since), key)
        request = W.VerificationRequest(since=None if older is None else older.size)
        done = self._gateway.finished(
            self._gateway.post("/v1/lineage/verification", request), progress
        )
        before = self._pins.read()
        reply = self._gateway.get(f"{_PROOFS}/chain", since=_size(before))
        chain = codec.decode_reply(W.ChainProof, reply)
        view = chain.checkpoint
        is_pinned = self._pins.accept(view, before, key)
        newest = opened(view.note, key)
        check_chain(chain, newest.root)
        leaf = None if event is None else self._prove_event(event, newest)
        if older is not None:
            self._prove_growth(older, newest)
        seen = None if witness_key is None else witnessed(view, _text(witness_key))
        if seen is not None:
            self._prove_growth(seen, newest)
        facts = {
            "size": newest.size,
            "root": view.root,
            "witnessed": view.witnessed,
            "witnessed_to": None if seen is None else seen.size,
            "signed_by": key[0] if key else None,
            "continues": older.size if older else None,
            "pinned": newest.size if is_pinned else None,
            "note": view.note,
            "events": (done.result or {}).get("events", newest.size),
            "tenant": chain.tenant,
            "your_events": chain.events,
            "event": None if leaf is None else {"index": event, "leaf": leaf},
        }
        return Record(facts, self._gateway)

    def _look(self) -> W.CheckpointView:
        """See that the newest LogCheckpoint continues the pinned one, and pin it."""
        before = self._pins.read()
        reply = self._gateway.get("/v1/lineage/checkpoint", since=_size(before))
        view = codec.decode_reply(W.CheckpointView, reply)
        self._pins.accept(view, before)
        return view

    def _kept(self, note: str, key: LogKey | None) -> Checkpoint:
        """What the caller kept: its signature first, then may its size and root be believed."""
        known = key or self._key_seen()
        try:
            return opened(note, known)
        except IntegrityError as cause:
            raise IntegrityError(
                f"the LogCheckpoint you kept is not as `{known[0]}` signed it: {cause.message}",
                advice="it was changed, or another log's; take the copy that you keep elsewhere",
            ) from cause

    def _key_seen(self) -> LogKey:
        """The log's key as it is pinned; as the gateway names it, where nothing can be pinned."""
        pin = self._pins.read()
        return named_key(self._look()) if pin is None else pin.log_key

    def _prove_event(self, index: int, newest: Checkpoint) -> str | None:
        """Its leaf hash, when it stands in that log."""
        if index >= newest.size:
            raise InvalidInput(
                f"the log has {newest.size} events, and none is number {index}",
                advice="they are counted from 0; a receipt names its event",
            )
        query = {"index": index, "size": newest.size}
        proof = codec.decode_reply(W.Proof, self._gateway.get(f"{_PROOFS}/inclusion", **query))
        if (proof.first, proof.second) != (index, newest.size):
            raise IntegrityError(f"that is no proof of event {index}")
        check_event(proof, newest.root)
        return proof.leaf

    def _check_pin(self, view: W.CheckpointView | None, before: Pin | None) -> None:
        if view is not None:
            self._pins.accept(view, before)
        elif before is not None:
            raise IntegrityError("the answer carries no LogCheckpoint, and one is pinned")

    def _prove_growth(self, older: Checkpoint, newest: Checkpoint) -> None:
        from gateway.domain.merkle import verify_consistency

        if older.size > newest.size:
            raise LogForked("the log is shorter than the LogCheckpoint you kept")
        reply = self._gateway.get(f"{_PROOFS}/consistency", first=older.size, second=newest.size)
        proof = codec.decode_reply(W.Proof, reply)
        path = [bytes.fromhex(text) for text in proof.hashes]
        try:
            verify_consistency(older.size, newest.size, path, (older.root, newest.root))
        except IntegrityError as cause:
            raise LogForked(f"the first {older.size} events are not those of before") from cause

    def _answer(self, reply: Any, before: Pin | None) -> Table:
        answer = codec.decode_reply(W.Answer, reply)
        self._check_pin(answer.checkpoint, before)
        rows = [Record(dict(zip(answer.columns, row, strict=True))) for row in answer.rows]
        return Table(answer.columns, rows, _facts_of(answer))


def _facts_of(answer: W.Answer | W.AnswerFacts) -> dict[str, Any]:
    facts: dict[str, Any] = {"as_of_index": answer.as_of_index, "truncated": answer.truncated}
    if answer.expired:
        facts["expired"] = list(answer.expired)
    if answer.checkpoint is not None:
        facts["witnessed"] = answer.checkpoint.witnessed
    return facts


def _format_of(out: str | Path | None) -> str:
    endings = {".html": "html", ".htm": "html", ".csv": "csv"}
    return endings.get(Path(out).suffix.lower(), "markdown") if out is not None else "markdown"


def _size(pin: Pin | None) -> int | None:
    return None if pin is None else pin.size


def _text(given: str | Path) -> str:
    if isinstance(given, str) and "\n" in given.strip():
        return given
    path = Path(given)
    try:
        if path.is_file():
            return path.read_text("utf-8")
    except (OSError, ValueError) as cause:
        raise InvalidInput(f"`{path}` cannot be read") from cause
    if "+" in str(given):
        return str(given)  # the line of a key
    raise InvalidInput(f"there is no file `{str(given)[:200]}`", advice="name a file that is there")


def _verifier(text: str) -> tuple[str, bytes]:
    from gateway.crypto.notes import parse_verifier_key

    try:
        return parse_verifier_key(text)
    except InvalidInput as cause:
        raise InvalidInput(
            "what was given as the log's key is not one verifier key",
            advice="take the whole line `log key` of the operator's `gateway doctor`, and no other",
        ) from cause
