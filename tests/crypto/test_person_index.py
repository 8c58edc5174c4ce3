"""Tags of persons and the index of a shard: what cannot be read, then what it says."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC
from hypothesis import given
from hypothesis import strategies as st

from gateway.crypto import person_index
from gateway.crypto.person_index import Place, Writer, blocks_with
from gateway.crypto.person_tags import Tagger
from gateway.domain.person import canonical_id, holds_ids, text_id
from gateway.errors import IntegrityError, InvalidInput

VECTORS = sorted((Path(__file__).parents[1] / "vectors/person-index-v1").glob("*.json"))
KEY = bytes(range(32))
PLACE = Place(dataset_id="d" * 32, shard="e" * 32, leaf="3.persons")


def asked(told: dict[str, Any], person: str) -> list[int]:
    data = bytes.fromhex(told["index"])
    place = Place(dataset_id=told["dataset_id"], shard=told["shard"], leaf=told["leaf"])
    tag = Tagger(bytes.fromhex(told["tag_key"])).tag(canonical_id(person, "string"))
    key = bytes.fromhex(told["key"])
    return blocks_with(tag, lambda at, n: data[at : at + n], len(data), key, place=place)


@pytest.mark.parametrize("path", [p for p in VECTORS if p.stem[:3] == "bad"], ids=lambda p: p.stem)
def test_an_index_that_is_not_what_was_written_is_refused(path: Path) -> None:
    told = json.loads(path.read_text())
    with pytest.raises(IntegrityError):
        asked(told, "4711")


@pytest.mark.parametrize(
    ("text", "kind"),
    [("", "string"), ("x" * 257, "string"), ("\ud800", "string"), ("4 7", "int64"),
     ("1e3", "int64"), ("a1", "fixed_size_binary[16]")],
)  # fmt: skip
def test_what_no_column_could_hold_is_no_id(text: str, kind: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        canonical_id(text, kind)
    assert not text or text not in caught.value.message


@pytest.mark.parametrize("kind", ["double", "bool", "binary", "date32[day]", "list<item: string>"])
def test_a_column_in_which_one_person_could_be_written_twice_holds_no_ids(kind: str) -> None:
    assert not holds_ids(kind)


@pytest.mark.parametrize("path", [p for p in VECTORS if p.stem[:3] == "ok-"], ids=lambda p: p.stem)
def test_the_vectors_say_what_they_say(path: Path) -> None:
    told = json.loads(path.read_text())
    for entry in told.get("ids", ()):
        canonical = canonical_id(entry["id"], entry["type"])
        tag = Tagger(bytes.fromhex(told["tag_key"])).tag(canonical)
        assert (canonical.hex(), tag.to_bytes(8, "little").hex()) == (
            entry["canonical"], entry["tag"],
        )  # fmt: skip
    for person, blocks in told.get("blocks", {}).items():
        assert asked(told, person) == blocks


def test_one_id_written_in_two_ways_is_one_person() -> None:
    assert text_id("ju\u0308rgen") == text_id("jürgen")
    assert canonical_id("+007", "int64") == canonical_id("7", "int64") == b"7"
    assert canonical_id("007", "string") != canonical_id("7", "string")


@given(
    st.lists(st.binary(max_size=70), min_size=1, max_size=30), st.binary(min_size=32, max_size=32)
)
def test_tags_of_many_are_those_of_the_librarys_cmac(ids: list[bytes], key: bytes) -> None:
    data = np.frombuffer(b"-" + b"".join(ids), np.uint8)
    offsets = 1 + np.cumsum([0, *map(len, ids)])
    assert Tagger(key).tags(data, offsets).tolist() == [_by_library(key, each) for each in ids]


def _by_library(key: bytes, message: bytes) -> int:
    cmac = CMAC(AES(key))
    cmac.update(message)
    return int.from_bytes(cmac.finalize()[:8], "little")


@given(
    st.lists(st.one_of(st.none(), st.integers(0, 9)), min_size=1, max_size=60),
    st.integers(1, 7), st.integers(1, 9), st.integers(1, 5),
)  # fmt: skip
def test_the_index_names_exactly_the_blocks_of_each_person(
    rows: list[int | None], block_rows: int, batch: int, part: int
) -> None:
    file = io.BytesIO()
    writer = Writer(file, KEY, PLACE, block_rows)
    kept, person_index.PART_TAGS = person_index.PART_TAGS, part
    try:
        for at in range(0, len(rows), batch):
            some = rows[at : at + batch]
            known = np.array([row is not None for row in some])
            writer.add(np.array([row or 0 for row in some], np.uint64), known)
        writer.finish()
    finally:
        person_index.PART_TAGS = kept
    data = file.getvalue()
    for person in range(10):
        found = blocks_with(
            person, lambda at, n: data[at : at + n], len(data), KEY, place=PLACE
        )  # fmt: skip
        assert found == sorted({n // block_rows for n, row in enumerate(rows) if row == person})
