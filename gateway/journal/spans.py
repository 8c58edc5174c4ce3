"""What the events under one LogCheckpoint say about tenant chains, without what came before.

A span needs no history, so spans of different files can be read in different processes; one
after another they are joined to the Chains that came before. Joined in order, they are found
to hold or not at the same event as if every event had been checked against its predecessors.
"""

from __future__ import annotations

from binascii import hexlify
from collections.abc import Iterator
from dataclasses import dataclass, field

from gateway.domain.events import EventKind
from gateway.domain.spelled import Link, links_of, spelled
from gateway.errors import IntegrityError
from gateway.journal.chains import Chains
from gateway.journal.composer import read_event
from gateway.journal.reader import Commit

Begin = tuple[int, str, int]  # index of the event, leaf hash (hex) before it, its counter
End = tuple[int, str]  # events of the chain so far, newest leaf hash (hex)


@dataclass(slots=True)
class Span:
    """Events up to the next TenantHeads; chains in the order in which they were touched."""

    begins: dict[str, Begin] = field(default_factory=dict)
    ends: dict[str, End] = field(default_factory=dict)
    heads: tuple[int, str, int] | None = None  # of its TenantHeads: index, root (hex), tenants
    damage: IntegrityError | None = None  # what is behind these events does not hold


def spans_of(commit: Commit, node: str) -> Iterator[Span]:
    """Check every event by itself (canonical, known, its facts) and among its commit's."""
    name, chains, index = node.encode("ascii"), _Chains(), commit.first
    try:
        for payload, leaf in zip(commit.payloads, commit.leaves, strict=True):
            found = spelled(payload, index, name)
            if found is not None and found[0].kind is not EventKind.TenantHeads:
                chains.follow(links_of(found[1]), leaf, index)
            else:
                event = read_event(payload, index, node)
                heads = None
                if event.kind is EventKind.TenantHeads:
                    heads = index, event.facts["root"], event.facts["tenants"]
                    yield chains.span(heads)
                    chains = _Chains()
                links = [
                    (tag.encode("ascii"), link["prev"].encode("ascii"), b"%d" % link["seq"])
                    for tag, link in sorted(event.chains.items())
                ]
                chains.follow(links, leaf, index)
            index += 1
    except IntegrityError as damage:
        last = chains.span(None)
        last.damage = damage
        yield last
        return
    if chains.ends:
        yield chains.span(None)


def join(chains: Chains, span: Span) -> None:
    """Take a span as what comes next; IntegrityError at the first event that does not fit."""
    for tag, (index, prev, count) in span.begins.items():
        if chains.end(tag) != (count, prev):
            raise not_continued(index)
    if span.damage is not None:
        raise span.damage
    chains.put(span.ends)
    if span.heads is not None:
        index, root, tenants = span.heads
        if (chains.root().hex(), chains.tenants) != (root, tenants):
            raise IntegrityError(f"event {index} fixes other tenant heads", index=index)


def not_continued(index: int) -> IntegrityError:
    """What is wrong with an event that leaves a gap."""
    return IntegrityError(f"event {index} does not continue the chain of a tenant", index=index)


class _Chains:
    """Those that were touched since the span began, in the bytes in which they are spelled."""

    def __init__(self) -> None:
        self.begins: dict[bytes, tuple[int, bytes, bytes]] = {}
        self.ends: dict[bytes, tuple[bytes, bytes]] = {}  # next counter, newest leaf hash

    def follow(self, links: list[Link], leaf: bytes, index: int) -> None:
        newest, ends = hexlify(leaf), self.ends
        for tag, prev, seq in links:
            known = ends.get(tag)
            if known is None:
                self.begins[tag] = index, prev, seq
            elif known != (seq, prev):
                raise not_continued(index)
            ends[tag] = b"%d" % (int(seq) + 1), newest

    def span(self, heads: tuple[int, str, int] | None) -> Span:
        return Span(
            {t.decode(): (i, prev.decode(), int(seq)) for t, (i, prev, seq) in self.begins.items()},
            {t.decode(): (int(count), leaf.decode()) for t, (count, leaf) in self.ends.items()},
            heads,
        )
