"""Manifest and block table: what is refused, and that reading gives what was written."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.block_table import BlockTable
from gateway.domain.layout import layout_of, width_of
from gateway.domain.manifest import Manifest
from gateway.errors import IntegrityError, InvalidInput

VECTORS = Path(__file__).parent.parent / "vectors"
FILE_BYTES = 1948
MANIFESTS = sorted((VECTORS / "manifest-v1").glob("*.json"))
TABLES = sorted((VECTORS / "block-table-v1").glob("*.bin"))


def read_table(data: bytes) -> BlockTable:
    digest = hashlib.sha256(data).hexdigest()
    return BlockTable.from_bytes(data, digest=digest, file_bytes=FILE_BYTES)


def named(prefix: str, paths: list[Path]) -> list[Path]:
    chosen = [path for path in paths if path.name.startswith(prefix)]
    assert len(chosen) >= 3
    return chosen


@pytest.mark.parametrize("path", named("bad-", MANIFESTS), ids=lambda p: p.stem)
def test_a_bad_manifest_is_refused(path: Path) -> None:
    with pytest.raises(IntegrityError) as refusal:
        Manifest.parse(path.read_bytes())
    assert path.stem.startswith(f"bad-{refusal.value.code}-")


@pytest.mark.parametrize("path", named("ok-", MANIFESTS), ids=lambda p: p.stem)
def test_a_good_manifest_reads_and_writes_the_same_bytes(path: Path) -> None:
    data = path.read_bytes()
    manifest = Manifest.from_bytes(data, digest=hashlib.sha256(data).hexdigest())
    assert manifest.to_bytes() == data
    assert manifest.rows == sum(split.rows for split in manifest.splits)


def test_a_manifest_with_another_digest_than_the_journal_is_refused() -> None:
    data = named("ok-", MANIFESTS)[0].read_bytes()
    with pytest.raises(IntegrityError, match="journal"):
        Manifest.from_bytes(data, digest="0" * 64)


@pytest.mark.parametrize("path", named("bad-", TABLES), ids=lambda p: p.stem)
def test_a_bad_block_table_is_refused(path: Path) -> None:
    with pytest.raises(IntegrityError):
        read_table(path.read_bytes())


@pytest.mark.parametrize("path", named("ok-", TABLES), ids=lambda p: p.stem)
def test_a_good_block_table_reads_and_writes_the_same_bytes(path: Path) -> None:
    table = read_table(path.read_bytes())
    assert table.to_bytes() == path.read_bytes()
    assert sum(rows for _, _, rows in table.blocks) == table.rows


def test_a_page_outside_the_file_is_refused() -> None:
    data = (VECTORS / "block-table-v1" / "ok-two-columns.bin").read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    with pytest.raises(IntegrityError, match="place"):
        BlockTable.from_bytes(data, digest=digest, file_bytes=FILE_BYTES - 1)


def test_a_page_carries_all_that_opening_it_needs() -> None:
    table = read_table((VECTORS / "block-table-v1" / "ok-two-columns.bin").read_bytes())
    page = table.page(table.index_of(2), 2)
    assert page == (1, 1, 0, 1900, 48, 2)
    with pytest.raises(IntegrityError):
        table.index_of(9)


@given(st.data())
def test_any_changed_byte_of_a_table_is_refused_or_gives_a_sound_table(data: st.DataObject) -> None:
    raw = bytearray((VECTORS / "block-table-v1" / "ok-two-columns.bin").read_bytes())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    try:
        table = read_table(bytes(raw))
    except IntegrityError:
        return
    for index in range(len(table.columns)):
        pages = [table.page(index, block) for block in range(len(table.blocks))]
        assert all(p.offset + p.length <= FILE_BYTES for p in pages)


@pytest.mark.parametrize(
    ("text", "dtype", "shape", "width"),
    [
        ("bool", "|b1", (), 1),
        ("int64", "<i8", (), 8),
        ("halffloat", "<f2", (), 2),
        ("timestamp[us, tz=Europe/Berlin]", "<M8[us]", (), 8),
        ("duration[ns]", "<m8[ns]", (), 8),
        ("fixed_size_list<int32>[1024]", "<i4", (1024,), 4096),
        ("fixed_size_list<fixed_size_list<float>[3]>[2]", "<f4", (2, 3), 24),
        ("fixed_size_binary[16]", "|u1", (16,), 16),
    ],
)
def test_fixed_width_types_have_one_layout(
    text: str, dtype: str, shape: tuple[int, ...], width: int
) -> None:
    layout = layout_of(text)
    assert layout
    assert (layout.dtype, layout.shape, layout.width) == (dtype, shape, width)


@pytest.mark.parametrize("text", ["string", "list<item: int32>", "decimal128(10, 2)", "int65", ""])
def test_other_types_have_none(text: str) -> None:
    assert layout_of(text) is None
    with pytest.raises(InvalidInput):
        width_of(text)


@given(st.text(max_size=200))
def test_no_text_breaks_the_reading_of_a_type(text: str) -> None:
    layout_of(text)
