"""Dealing rows to splits: whole, disjoint, and the same value always into the same split."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.shards.splits import dealer

SHARES = st.sampled_from(
    [(("all", 1.0),), (("a", 0.5), ("b", 0.5)), (("train", 0.8), ("val", 0.1), ("test", 0.1))]
)
PEOPLE = st.lists(st.one_of(st.none(), st.integers(0, 30)), min_size=1, max_size=80)


@settings(max_examples=50)
@given(SHARES, st.lists(PEOPLE, min_size=1, max_size=4), st.binary(min_size=32, max_size=32))
def test_a_person_has_one_split_in_every_batch_of_every_version(
    shares: tuple[tuple[str, float], ...], batches: list[list[int | None]], key: bytes
) -> None:
    where: dict[int | None, str] = {}
    for people in batches:
        batch = pa.record_batch({"who": pa.array(people, pa.int64()), "n": range(len(people))})
        dealt = list(dealer(shares=shares, key=key, by="who", column=None).deal(batch))
        assert sorted(n for _, rows in dealt for n in rows["n"].to_pylist()) == [
            *range(len(people))
        ]
        for split, rows in dealt:
            assert split in dict(shares)
            assert rows["n"].to_pylist() == sorted(rows["n"].to_pylist())
            for person in rows["who"].to_pylist():
                assert where.setdefault(person, split) == split
    as_text = pa.record_batch({"who": pa.array([str(p) for p in where if p is not None])})
    for split, rows in dealer(shares=shares, key=key, by="who", column=None).deal(as_text):
        assert all(where[int(person)] == split for person in rows["who"].to_pylist())
