"""Check what the gateway proves about its log: one event, and how many concern a tenant."""

from __future__ import annotations

import json

import gateway.wire as W
from gateway.domain.events import canonical
from gateway.domain.merkle import leaf_hash, verify_inclusion
from gateway.errors import IntegrityError


def check_event(proof: W.Proof, root: bytes) -> None:
    """The event stands in the log of this root; raises IntegrityError."""
    leaf, path = _hash(proof.leaf), [_hash(text) for text in proof.hashes]
    verify_inclusion(leaf, proof.first, proof.second, path, root)


def check_chain(proof: W.ChainProof, root: bytes) -> None:
    """The log of this root fixes how many events concern the tenant; raises IntegrityError.

    (0) The chain's first event stands in the log, and its owner is the tenant: the chain is no
    other's. (1) The TenantHeads event stands in the log. (2) It holds the root of the tree of
    heads. (3) The tenant's entry, its counter and its newest leaf, stands in that tree.
    """
    _check_first(proof, root)
    heads = proof.heads.encode("utf-8")
    path = [_hash(text) for text in proof.hashes]
    verify_inclusion(leaf_hash(heads), proof.index, proof.checkpoint.size, path, root)
    try:
        event = json.loads(heads)
        is_heads = (event["kind"], event["index"]) == ("TenantHeads", proof.index)
        chains, fixed = int(event["facts"]["tenants"]), _hash(event["facts"]["root"])
    except (ValueError, KeyError, TypeError) as cause:
        raise IntegrityError("what fixes the chains is no event") from cause
    if not is_heads or chains != proof.chains:
        raise IntegrityError("what fixes the chains is another event")
    entry = {"leaf": proof.leaf, "seq": proof.events - 1, "tag": proof.tag}
    place = [_hash(text) for text in proof.path]
    verify_inclusion(leaf_hash(canonical(entry)), proof.place, chains, place, fixed)


def _check_first(proof: W.ChainProof, root: bytes) -> None:
    first = proof.first.encode("utf-8")
    try:
        event = json.loads(first)
        index, link = int(event["index"]), event["chains"][proof.tag]
        is_theirs = (event["owner"], link["seq"]) == (proof.tenant, 0)
    except (ValueError, KeyError, TypeError) as cause:
        raise IntegrityError("what begins the chain is no event of it") from cause
    if not is_theirs:
        raise IntegrityError("the chain is another tenant's")
    path = [_hash(text) for text in proof.first_hashes]
    verify_inclusion(leaf_hash(first), index, proof.checkpoint.size, path, root)


def _hash(text: str | None) -> bytes:
    try:
        return bytes.fromhex(text or "")
    except (ValueError, TypeError) as cause:
        raise IntegrityError("a hash of a proof is not hex") from cause
