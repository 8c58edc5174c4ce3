"""What a file says of its columns beside their types: by allow-list, short and plain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from gateway.domain import field_metadata
from gateway.errors import IntegrityError, SourceRefused
from gateway.shards.reader import file_plan
from gateway.shards.types import normal_schema
from tests.shards.kit import ipc_bytes, parquet_bytes, read_back, register_here
from tests.shards.test_types import PAGE, tensors

SHOWN = {b"description": b"heart rate\nat rest, 1/min", b"unit": b"1/min"}
DROPPED = [
    (b"PARQUET:field_id", b"7"),
    (b"pandas", b'{"index": 1}'),
    (b"valid_min", b"17"),
    (b"Description", b"another case"),
    (b"\xff", b"no text"),
    (b"description", b"x" * 1025),
    (b"description", b"\xff"),
    (b"description", b"\x1b[2J"),
    (b"description", "turned \u202e round".encode()),
    (b"description", b""),
    (b"ARROW:extension:metadata", b"{}"),
]


def described(metadata: dict[bytes, bytes]) -> Any:
    field = pa.field("hr", pa.int32(), nullable=False, metadata=metadata)
    return pa.table([pa.array([60, 70], pa.int32())], pa.schema([field]))


@pytest.mark.parametrize(("key", "value"), DROPPED)
def test_what_is_no_short_plain_text_of_a_known_key_is_dropped(key: bytes, value: bytes) -> None:
    kept = normal_schema(described({key: value, b"unit": b"ms"}).schema)
    assert kept.field("hr").metadata == {b"unit": b"ms"}


def test_columns_described_at_length_are_refused() -> None:
    fields = [pa.field(f"c{n}", pa.int8(), metadata={"title": "x" * 1024}) for n in range(1100)]
    with pytest.raises(SourceRefused, match="described in more than"):
        normal_schema(pa.schema(fields))


@pytest.mark.parametrize(
    "metadata",
    [{"1": {"description": "\x1b"}}, {"1": {"pandas": "x"}}, {"1": {}}, {"x": {"unit": "m"}},
     {"1": {"unit": "m" * 1025}}, {"1": {"unit": 3}}, {"1": []}],
)  # fmt: skip
def test_a_manifest_with_other_metadata_is_refused(metadata: Any) -> None:
    with pytest.raises(IntegrityError, match="metadata of a column"):
        field_metadata.check(metadata)


@pytest.mark.parametrize("as_file", [ipc_bytes, parquet_bytes])
@pytest.mark.parametrize("profile", ["train", "archive"])
def test_descriptions_and_units_come_back(as_file: Any, profile: str, tmp_path: Path) -> None:
    table = described({**SHOWN, b"pandas": b"{}"}).append_column("t", tensors().slice(0, 2))
    made = register_here(tmp_path, as_file(table), profile=profile)
    assert made.manifest.metadata["1"] == {k.decode(): v.decode() for k, v in SHOWN.items()}
    back = read_back(made)
    assert back.schema.field("hr").metadata == SHOWN
    assert back.schema.field("t").equals(file_plan(made.manifest).schema.field("t"))
    assert not back.schema.field("t").metadata
    again = type(made.manifest).parse(made.manifest.to_bytes())
    assert again == made.manifest


def test_the_page_names_every_key() -> None:
    assert len(field_metadata.KEYS) <= 16
    page = PAGE.read_text("utf-8")
    assert all(f"`{key}`" in page for key in field_metadata.KEYS)
