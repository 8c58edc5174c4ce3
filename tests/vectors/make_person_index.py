"""Write the vectors of person-index-v1 (run it after a change of the format)."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from gateway.crypto import person_index
from gateway.crypto.person_tags import Tagger
from gateway.domain.person import canonical_id

HERE = Path(__file__).parent / "person-index-v1"
TAG_KEY, KEY = bytes(range(32)), bytes(range(32, 64))
PLACE = person_index.Place(dataset_id="0" * 31 + "1", shard="0" * 31 + "2", leaf="7.persons")
BLOCK_ROWS = 3
ROWS = ("4711", "4711", "0815", "jürgen", None, "4711", "a longer id than one block of AES", "0815")
IDS = (
    ("4711", "string"), ("jürgen", "string"), ("ju\u0308rgen", "string"), ("+0042", "int64"),
    ("-7", "int32"), ("18446744073709551615", "uint64"), ("sixteen bytes ok", "string"),
    ("a longer id than one block of AES", "string"),
    ("6F9619FF-8B86-D011-B42D-00CF4FC964FF", "fixed_size_binary[16]"),
)  # fmt: skip


def index(part_tags: int = person_index.PART_TAGS) -> bytes:
    tagger, file = Tagger(TAG_KEY), io.BytesIO()
    writer = person_index.Writer(file, KEY, PLACE, BLOCK_ROWS)
    person_index.PART_TAGS, kept = part_tags, person_index.PART_TAGS
    tags = [tagger.tag(canonical_id(row or "nobody", "string")) for row in ROWS]
    writer.add(np.array(tags, np.uint64), np.array([row is not None for row in ROWS]))
    writer.finish()
    person_index.PART_TAGS = kept
    return file.getvalue()


def blocks() -> dict[str, list[int]]:
    found: dict[str, list[int]] = {"nobody of these": []}
    for number, row in enumerate(ROWS):
        if row is not None and number // BLOCK_ROWS not in found.setdefault(row, []):
            found[row].append(number // BLOCK_ROWS)
    return found


def _write(name: str, content: bytes, **changes: Any) -> None:
    told = {
        "tag_key": TAG_KEY.hex(), "key": KEY.hex(), "dataset_id": PLACE.dataset_id,
        "shard": PLACE.shard, "leaf": PLACE.leaf, "index": content.hex(), "blocks": blocks(),
        **changes,
    }  # fmt: skip
    (HERE / f"{name}.json").write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")


def main() -> None:
    tagger = Tagger(TAG_KEY)
    ids = [
        {
            "id": text, "type": kind, "canonical": canonical_id(text, kind).hex(),
            "tag": tagger.tag(canonical_id(text, kind)).to_bytes(8, "little").hex(),
        }
        for text, kind in IDS
    ]  # fmt: skip
    (HERE / "ok-tags.json").write_text(
        json.dumps({"tag_key": TAG_KEY.hex(), "ids": ids}, indent=1, ensure_ascii=False) + "\n"
    )
    whole, parts = index(), index(part_tags=2)
    _write("ok-one-part", whole)
    _write("ok-parts", parts)
    at = 4 + 4 + int.from_bytes(parts[4:8], "little")
    end = at + 4 + int.from_bytes(parts[at : at + 4], "little")
    _write("bad-bit", whole[:-1] + bytes((whole[-1] ^ 1,)))
    _write("bad-cut", whole[:-1])
    _write("bad-last-part-missing", parts[:at])
    _write("bad-first-part-missing", parts[:4] + parts[at:])
    _write("bad-parts-swapped", parts[:4] + parts[at:end] + parts[4:at] + parts[end:])
    _write("bad-part-twice", parts[:at] + parts[4:])
    _write("bad-longer", whole + b"\0")
    _write("bad-empty", b"")
    _write("bad-magic", b"GWP2" + whole[4:])
    _write("bad-shard", whole, shard="0" * 31 + "3")
    _write("bad-column", whole, leaf="8.persons")
    _write("bad-key", whole, key=TAG_KEY.hex())


if __name__ == "__main__":
    main()
