from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.merkle import (
    EMPTY_ROOT,
    Frontier,
    Tree,
    leaf_hash,
    verify_consistency,
    verify_inclusion,
    verify_multiproof,
)
from gateway.errors import IntegrityError, InvalidInput

ROOT = Path(__file__).resolve().parents[2]
CORPUS = Path(os.environ.get("GATEWAY_CORPORA", ROOT.parent / "shared" / "corpora")) / "merkle"


def grown(size: int) -> Tree:
    tree = Tree()
    for number in range(size):
        tree.append(leaf_hash(b"%d" % number))
    return tree


def vectors(kind: str) -> list[dict[str, Any]]:
    if not CORPUS.is_dir():
        pytest.skip("needs the merkle corpus of GATEWAY_CORPORA")
    return [json.loads(p.read_text()) for p in sorted((CORPUS / "testdata" / kind).rglob("*.json"))]


def raw(text: str | None) -> bytes:
    return base64.b64decode(text or "")


def refused(check: Any, *arguments: Any) -> bool:
    try:
        check(*arguments)
    except IntegrityError:
        return True
    return False


def test_every_inclusion_vector_of_others_is_judged_as_they_say() -> None:
    cases = vectors("inclusion")
    assert len(cases) >= 90
    for case in cases:
        proof = [raw(part) for part in case["proof"] or []]
        found = refused(
            verify_inclusion,
            raw(case["leafHash"]),
            case["leafIdx"],
            case["treeSize"],
            proof,
            raw(case["root"]),
        )
        assert found == case["wantErr"], case["desc"]


def test_every_consistency_vector_of_others_is_judged_as_they_say() -> None:
    cases = vectors("consistency")
    assert len(cases) >= 90
    for case in cases:
        proof = [raw(part) for part in case["proof"] or []]
        roots = raw(case["root1"]), raw(case["root2"])
        found = refused(verify_consistency, case["size1"], case["size2"], proof, roots)
        assert found == case["wantErr"], case["desc"]


def test_the_empty_tree_has_the_hash_of_nothing() -> None:
    assert Tree().root() == EMPTY_ROOT == Frontier().root()


def test_the_roots_of_rfc_6962_come_out() -> None:
    entries = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657"]
    entries.append("606162636465666768696a6b6c6d6e6f")
    roots = {
        1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    }
    tree = Tree()
    for entry in entries:
        tree.append(leaf_hash(bytes.fromhex(entry)))
    assert {size: tree.root(size).hex() for size in roots} == roots


def test_questions_beyond_the_tree_are_refused() -> None:
    tree = grown(3)
    for ask in (
        lambda: tree.root(4),
        lambda: tree.inclusion(3),
        lambda: tree.consistency(0),
        lambda: tree.consistency(3, 2),
        lambda: tree.leaf(3),
        lambda: tree.replace(3, bytes(32)),
        lambda: Frontier(3, [bytes(32)]),
    ):
        with pytest.raises(InvalidInput):
            ask()


@given(st.integers(1, 200), st.data())
def test_proofs_hold_between_any_two_sizes(size: int, data: st.DataObject) -> None:
    tree = grown(size)
    first = data.draw(st.integers(1, size))
    index = data.draw(st.integers(0, first - 1))
    verify_inclusion(tree.leaf(index), index, first, tree.inclusion(index, first), tree.root(first))
    proof = tree.consistency(first, size)
    verify_consistency(first, size, proof, (tree.root(first), tree.root(size)))


@given(st.integers(2, 100), st.data())
def test_any_flipped_bit_of_a_proof_is_noticed(size: int, data: st.DataObject) -> None:
    tree = grown(size)
    index = data.draw(st.integers(0, size - 1))
    proof = tree.inclusion(index)
    part = data.draw(st.integers(0, len(proof) - 1))
    bit = data.draw(st.integers(0, 255))
    forged = bytearray(proof[part])
    forged[bit // 8] ^= 1 << bit % 8
    proof[part] = bytes(forged)
    with pytest.raises(IntegrityError):
        verify_inclusion(tree.leaf(index), index, size, proof, tree.root())


@given(st.integers(0, 150), st.integers(0, 150))
def test_a_frontier_resumes_where_it_was_saved(first: int, more: int) -> None:
    tree = grown(first + more)
    edge = Frontier()
    for number in range(first):
        edge.append(leaf_hash(b"%d" % number))
    resumed = Frontier(edge.size, edge.edge)
    assert edge.edge == grown(first).edge()
    for number in range(first, first + more):
        resumed.append(leaf_hash(b"%d" % number))
    assert resumed.root() == tree.root()


@given(st.integers(1, 70), st.data())
def test_a_replaced_leaf_gives_the_tree_that_had_it_from_the_start(
    size: int, data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, size - 1))
    tree, other = grown(size), Tree()
    tree.replace(index, b"x" * 32)
    for number in range(size):
        other.append(b"x" * 32 if number == index else leaf_hash(b"%d" % number))
    assert tree.root() == other.root()


@given(st.integers(0, 70), st.data())
def test_a_truncated_tree_grows_on_as_if_the_tail_had_never_been(
    size: int, data: st.DataObject
) -> None:
    tree = grown(size)
    kept = data.draw(st.integers(0, size))
    tree.truncate(kept)
    assert tree.root() == grown(kept).root()
    for number in range(kept, 80):
        tree.append(leaf_hash(b"%d" % number))
    assert tree.root() == grown(80).root()


@given(st.integers(1, 70), st.data())
def test_many_leaves_are_proven_at_once_and_nothing_else(size: int, data: st.DataObject) -> None:
    tree = grown(size + data.draw(st.integers(0, 9)))  # the proof is of an earlier size
    chosen = sorted(data.draw(st.sets(st.integers(0, size - 1))))
    proof, root = tree.multiproof(chosen, size), tree.root(size)
    leaves = [(index, tree.leaf(index)) for index in chosen]
    verify_multiproof(leaves, size, proof, root)
    assert len(proof) <= max(1, len(chosen)) * size.bit_length()
    wrong: list[Any] = [
        (leaves, size, proof, leaf_hash(b"another root")),
        (leaves, size, [*proof, root], root),
    ]
    if proof:
        wrong.append((leaves, size, proof[:-1], root))
    if leaves:
        at, (index, _) = data.draw(st.sampled_from(list(enumerate(leaves))))
        rest = leaves[at + 1 :]
        wrong.append((leaves[:at] + rest, size, proof, root))
        wrong.append(([*leaves[:at], (index, leaf_hash(b"")), *rest], size, proof, root))
        wrong.append(([*leaves, leaves[-1]], size, proof, root))
    for case in wrong:
        assert refused(verify_multiproof, *case), case


def test_a_proof_of_leaves_that_are_not_there_is_not_made() -> None:
    tree = grown(5)
    for indexes in ([5], [-1], [2, 1], [1, 1]):
        with pytest.raises(InvalidInput):
            tree.multiproof(indexes, 5)
