"""The sealer indexes persons: each block names exactly those whose rows it holds."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.crypto.person_index import Place, blocks_with, leaf_of
from gateway.crypto.person_tags import Tagger
from gateway.domain.person import canonical_id
from gateway.errors import IntegrityError
from gateway.shards.job import shard_from_message
from tests.shards.kit import Registered, ipc_bytes, job_of, read_back, register_here

KEY = b"p" * 32
IDS = {
    "string": st.text(st.characters(codec="utf-8"), min_size=1, max_size=20),
    "int64": st.integers(-(2**63), 2**63 - 1).map(str),
    "uint8": st.integers(0, 255).map(str),
    "fixed_size_binary[3]": st.binary(min_size=3, max_size=3).map(bytes.hex),
}


def found(registered: Registered, person: str, kind: str) -> dict[str, list[int]]:
    """Shard id -> blocks, as the index of each shard says."""
    tag, blocks = Tagger(KEY).tag(canonical_id(person, kind)), {}
    for sealed in registered.sealed.shards:
        assert sealed.persons_path
        data = Path(sealed.persons_path).read_bytes()
        leaf, dataset = leaf_of(1), registered.manifest.dataset_id
        place = Place(dataset_id=dataset, shard=sealed.shard.id, leaf=leaf)
        key = registered.keys[f"{dataset}/{sealed.shard.id}/{leaf}"]
        blocks[sealed.shard.id] = blocks_with(
            tag, lambda at, n, data=data: data[at : at + n], len(data), key, place=place
        )
    return blocks


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_the_index_is_what_counting_the_rows_gives(tmp_path: Path, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(IDS)))
    people = data.draw(st.lists(IDS[kind], min_size=1, max_size=8, unique_by=canonical(kind)))
    drawn = data.draw(st.lists(st.sampled_from([None, *people]), min_size=1, max_size=300))
    values = [None if p is None else value_of(p, kind) for p in drawn]
    table = pa.table({"p": pa.array(values, arrow_type(kind)), "n": range(len(drawn))})
    splits = data.draw(st.sampled_from([(), (("a", 0.5), ("b", 0.5))]))
    made = register_here(
        tmp_path, ipc_bytes(table, rows=data.draw(st.integers(1, 50))), person_key=KEY,
        person_column="p", splits=splits, shard_bytes=data.draw(st.sampled_from([2000, 1 << 27])),
    )  # fmt: skip
    order = read_back(made).column("n").to_pylist()
    for person in people:
        expected: dict[str, list[int]] = {}
        at = 0
        for sealed in made.sealed.shards:
            shard = sealed.shard
            rows = [drawn[n] for n in order[at : at + shard.rows]]
            at += shard.rows
            expected[shard.id] = sorted(
                {n // shard.block_rows for n, row in enumerate(rows) if row == person}
            )
        assert found(made, person, kind) == expected


def canonical(kind: str):  # noqa: ANN201 - a key for hypothesis
    return lambda person: canonical_id(person, kind)


def value_of(person: str, kind: str) -> object:
    if kind == "string":
        return person
    return int(person) if "int" in kind else bytes.fromhex(person)


def arrow_type(kind: str) -> pa.DataType:
    return pa.binary(3) if kind.startswith("fixed") else pa.type_for_alias(kind)


def test_a_sealer_that_makes_no_index_where_one_is_wanted_is_not_believed(tmp_path: Path) -> None:
    job = job_of(tmp_path, [b""], person_column="p")
    made = register_here(tmp_path, ipc_bytes(pa.table({"p": [1]})))
    shard = made.sealed.shards[0].shard
    body = {"shard": asdict(shard), "path": "x", "table_path": "y"}
    with pytest.raises(IntegrityError, match="person index"):
        shard_from_message(body, bytes(32 * len(shard.leaves)), job)
