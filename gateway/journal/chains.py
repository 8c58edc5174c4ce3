"""Tenant chains: what lets a tenant check that *its* history is complete, and no other's.

Each event carries, per concerned tenant, a gap-free counter and the leaf hash of that
tenant's previous event. TenantHeads fixes the newest of each chain in the log itself: the
root of a tree with one leaf per tenant in order of first appearance, within one event by tag
(docs/formats/event-v0.md §5).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from gateway.crypto import envelope
from gateway.domain.events import canonical
from gateway.domain.merkle import Tree, leaf_hash
from gateway.errors import IntegrityError, NotFound

NO_LEAF = "0" * 64  # `prev` of a tenant's first event
_START = (0, NO_LEAF)


class Tags:
    """Keyed pseudonyms that stand in clear: independent keys per label and tenant."""

    def __init__(self, key: bytes) -> None:
        """Derive from the journal's tag key (32 bytes, kept in the vault)."""
        self._key = key
        self.actor = lru_cache(maxsize=100_000)(self._actor)
        self.chain = lru_cache(maxsize=100_000)(self._chain)

    def _actor(self, tenant: str, actor: str) -> str:
        return envelope.tag(envelope.derive(self._key, "actor-tag", tenant), actor)

    def person(self, tenant: str, person: str) -> str:
        """The tag of a GDPR data subject, under the id that the owner `tenant` knows."""
        return envelope.tag(envelope.derive(self._key, "person-tag", tenant), person)

    def job(self, tenant: str, job: str) -> str:
        """The tag of a job that `tenant` claims something about."""
        return envelope.tag(envelope.derive(self._key, "job-tag", tenant), job)

    def _chain(self, tenant: str) -> str:
        return envelope.tag(envelope.derive(self._key, "chain-tag"), tenant)


def head_leaf(tag: str, seq: int, leaf: str) -> bytes:
    """Leaf hash of one tenant's newest event in the TenantHeads tree."""
    return leaf_hash(canonical({"leaf": leaf, "seq": seq, "tag": tag}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The newest event of one chain as a TenantHeads event fixes it, with the proof of that."""

    index: int  # of the TenantHeads event
    seq: int
    leaf: str  # hex
    place: int  # of the entry in the tree of heads
    chains: int  # entries of that tree
    path: tuple[bytes, ...]  # of an inclusion proof: from the entry up
    walk: tuple[bytes, ...]  # the same hashes, from left to right (domain/merkle.py, multiproof)


@dataclass(frozen=True, slots=True)
class ChainEnd:
    """How far one chain has come."""

    tag: str
    events: int
    leaf: str  # hex, of the newest


class Chains:
    """Counter and newest leaf of every tenant chain."""

    def __init__(self, ends: Iterable[ChainEnd] = ()) -> None:
        """Start without tenants, or from `ends()`."""
        self._heads = {e.tag: (e.events, e.leaf) for e in ends}  # events so far, newest leaf
        self._places = {tag: place for place, tag in enumerate(self._heads)}
        self._changed: dict[str, None] = {}  # an ordered set: first touched, first placed
        self._tree = Tree()
        self._fixed = dict(self._heads)  # as the newest root has them
        for tag, (count, leaf) in self._heads.items():
            self._tree.append(head_leaf(tag, count - 1, leaf))

    def ends(self) -> tuple[ChainEnd, ...]:
        """All chains as the newest root fixes them, in the order of its tree."""
        return tuple(ChainEnd(tag, *self._fixed[tag]) for tag in self._places)

    def links(self, tags: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The `chains` member of the next event that concerns these tenants."""
        heads = self._heads
        links = {}
        for tag in tags:
            seq, prev = heads.get(tag, _START)
            links[tag] = {"seq": seq, "prev": prev}
        return links

    def extend(self, links: Mapping[str, Mapping[str, Any]], leaf: bytes) -> None:
        """Take the event with these links and this leaf hash as the newest of its chains."""
        newest = leaf.hex()
        for tag in sorted(links):
            self._heads[tag] = (links[tag]["seq"] + 1, newest)
            self._changed[tag] = None

    def check(self, links: Mapping[str, Mapping[str, Any]], index: int) -> None:
        """Raise IntegrityError unless an event read back continues its chains without gap."""
        if self.links(links) != links:
            raise IntegrityError(
                f"event {index} does not continue the chain of a tenant", index=index
            )

    def end(self, tag: str) -> tuple[int, str]:
        """Events of a chain so far, and the leaf hash (hex) of its newest."""
        return self._heads.get(tag, _START)

    def put(self, ends: Mapping[str, tuple[int, str]]) -> None:
        """Go on where several events have brought these chains, in the order they were touched."""
        self._heads.update(ends)
        self._changed.update(dict.fromkeys(ends))

    @property
    def tenants(self) -> int:
        """How many chains there are."""
        return len(self._heads)

    def root(self) -> bytes:
        """Root over the newest event of every chain."""
        for tag in self._changed:
            count, leaf = self._heads[tag]
            self._fixed[tag] = count, leaf
            hashed = head_leaf(tag, count - 1, leaf)
            if tag in self._places:
                self._tree.replace(self._places[tag], hashed)
            else:
                self._places[tag] = self._tree.append(hashed)
        self._changed.clear()
        return self._tree.root()

    def head(self, tag: str, index: int) -> Head:
        """The entry of a chain under the newest root, which the event at `index` fixes."""
        if tag not in self._fixed:
            raise NotFound("nothing is recorded about this tenant")
        count, leaf = self._fixed[tag]
        place = self._places[tag]
        return Head(
            index=index,
            seq=count - 1,
            leaf=leaf,
            place=place,
            chains=self._tree.size,
            path=tuple(self._tree.inclusion(place)),
            walk=tuple(self._tree.multiproof([place])),
        )
