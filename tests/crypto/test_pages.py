"""Pages of encrypted Parquet open bit by bit as stock pyarrow wrote them, or not at all."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.crypto.pages import (
    FrameOpener,
    ModuleType,
    PageOpener,
    module_aad,
    open_frame,
    seal_frame,
)
from gateway.errors import IntegrityError, InvalidInput

ROWS, BLOCK_ROWS, GROUP_ROWS = 4096, 512, 2048
KEY = bytes(range(32))


class Kms(pe.KmsClient):
    """Keeps the DEKs that pyarrow made; the file holds references only."""

    def __init__(self, deks: dict[str, bytes]) -> None:
        super().__init__()
        self.deks = deks

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> str:
        self.deks[master_key_identifier] = bytes(key_bytes)
        return f"ref:{master_key_identifier}"

    def unwrap_key(self, wrapped_key: str, _: str) -> bytes:
        return self.deks[wrapped_key.removeprefix("ref:")]


@dataclass
class Sealed:
    """A file written by stock pyarrow, and what its author knows about it."""

    data: bytes
    deks: dict[str, bytes]
    columns: dict[str, np.ndarray]
    unique: bytes = field(default=b"")


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    columns = {
        "a": np.arange(ROWS, dtype=np.int64) * 7,
        "b": np.linspace(0, 1, ROWS, dtype=np.float32),
    }
    schema = pa.schema(
        [pa.field("a", pa.int64(), nullable=False), pa.field("b", pa.float32(), nullable=False)]
    )
    deks: dict[str, bytes] = {}
    factory = pe.CryptoFactory(lambda _: Kms(deks))
    connection = pe.KmsConnectionConfig(
        kms_instance_id="t", kms_instance_url="t", key_access_token=secrets.token_hex(16)
    )
    settings_ = pe.EncryptionConfiguration(
        "footer",
        column_keys={"a": ["a"], "b": ["b"]},
        encryption_algorithm="AES_GCM_V1",
        double_wrapping=False,
        data_key_length_bits=256,
    )
    path = tmp_path_factory.mktemp("pages") / "shard.parquet"
    with pq.ParquetWriter(
        path,
        schema,
        compression="none",
        use_dictionary=False,
        write_statistics=False,
        data_page_size=1 << 40,
        max_rows_per_page=BLOCK_ROWS,
        write_batch_size=BLOCK_ROWS,
        encryption_properties=factory.file_encryption_properties(connection, settings_),
    ) as writer:
        table = pa.table([pa.array(c) for c in columns.values()], schema=schema)
        writer.write_table(table, row_group_size=GROUP_ROWS)
    data = Path(path).read_bytes()
    found = Sealed(data, deks, columns)
    found.unique = unique_of(data)
    return found


def unique_of(data: bytes) -> bytes:
    """`aad_file_unique` as FileCryptoMetaData states it (Thrift compact: a binary of 8 bytes)."""
    footer = data[-8 - int.from_bytes(data[-8:-4], "little") : -8]
    assert data[:4] == data[-4:] == b"PARE"
    # field 1: encryption_algorithm (union) { 1: AesGcmV1 { 2: aad_file_unique } }
    at = footer.index(b"\x08", 0, 16)
    return footer[at + 1 : at + 9]


def modules(data: bytes) -> Iterator[memoryview]:
    """Modules of the column chunks in file order: header, page, header, page, …"""
    view, at = memoryview(data), 4
    end = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    while at < end:
        length = 4 + int.from_bytes(view[at : at + 4], "little")
        yield view[at : at + length]
        at += length


def pages(sealed: Sealed) -> Iterator[tuple[str, int, int, int, memoryview, memoryview]]:
    """(leaf, row group, column, page, header module, page module) in file order."""
    stream = modules(sealed.data)
    for group in range(ROWS // GROUP_ROWS):
        for column, leaf in enumerate(sealed.columns):
            for page in range(GROUP_ROWS // BLOCK_ROWS):
                yield leaf, group, column, page, next(stream), next(stream)


def opener(sealed: Sealed, leaf: str) -> PageOpener:
    return PageOpener(sealed.deks[leaf], sealed.unique)


def test_every_page_of_stock_pyarrow_opens_to_the_very_bits(sealed: Sealed) -> None:
    seen = 0
    for leaf, group, column, page, header, module in pages(sealed):
        first = group * GROUP_ROWS + page * BLOCK_ROWS
        expected = sealed.columns[leaf][first : first + BLOCK_ROWS].tobytes()
        for way in ("open_into", "copy_into"):
            out = bytearray(len(expected) + 8)
            size = getattr(opener(sealed, leaf), way)(module, group, column, page, memoryview(out))
            assert size == len(expected)
            assert bytes(out) == expected + bytes(8)
        plain = opener(sealed, leaf).open_module(
            header, ModuleType.DATA_PAGE_HEADER, group, column, page
        )
        assert plain  # the tag held with module type 4 and three ordinals
        seen += 1
    assert seen == 2 * ROWS // BLOCK_ROWS


def test_a_page_opens_at_no_other_place(sealed: Sealed) -> None:
    leaf, group, column, page, header, module = next(pages(sealed))
    out = memoryview(bytearray(len(module)))
    good = opener(sealed, leaf)
    other_file = PageOpener(sealed.deks[leaf], bytes(8))
    other_key = PageOpener(sealed.deks["b"], sealed.unique)
    attempts = [
        (good, module, (group + 1, column, page)),
        (good, module, (group, column + 1, page)),
        (good, module, (group, column, page + 1)),
        (other_file, module, (group, column, page)),
        (other_key, module, (group, column, page)),
        (good, header, (group, column, page)),
    ]
    for opening, attempted, place in attempts:
        for way in (opening.open_into, opening.copy_into):
            with pytest.raises(IntegrityError):
                way(attempted, *place, out)
            assert not any(out)


def test_every_kind_of_flip_and_cut_is_refused_and_leaves_zeros(sealed: Sealed) -> None:
    leaf, group, column, page, _, module = next(pages(sealed))
    good = opener(sealed, leaf)
    for at in [*range(40), *range(40, len(module), 97), *range(len(module) - 16, len(module))]:
        flipped = bytearray(module)
        flipped[at] ^= 1
        out = bytearray(b"\xff" * len(module))
        with pytest.raises(IntegrityError):
            good.open_into(memoryview(flipped), group, column, page, memoryview(out))
        size = len(module) - 32
        untouched = at < 4  # refused by its length, before anything was decrypted
        assert untouched or not any(out[:size])
        assert out[size:] == b"\xff" * 32
    for cut in (0, 3, 4, 16, 31, 32, len(module) - 1):
        with pytest.raises(IntegrityError):
            good.open_into(module[:cut], group, column, page, memoryview(bytearray(8192)))


def test_a_mapped_buffer_changes_only_after_the_tag_held(sealed: Sealed) -> None:
    leaf, group, column, page, _, module = next(pages(sealed))
    flipped = bytearray(module)
    flipped[-1] ^= 1
    out = bytearray(b"\xaa" * len(module))
    with pytest.raises(IntegrityError):
        opener(sealed, leaf).copy_into(memoryview(flipped), group, column, page, memoryview(out))
    assert out == b"\xaa" * len(module)


def test_a_buffer_that_is_too_small_is_not_touched(sealed: Sealed) -> None:
    leaf, group, column, page, _, module = next(pages(sealed))
    for way in ("open_into", "copy_into"):
        out = bytearray(b"\xaa" * 8)
        with pytest.raises(InvalidInput):
            getattr(opener(sealed, leaf), way)(module, group, column, page, memoryview(out))
        assert out == b"\xaa" * 8


def test_the_associated_data_is_the_one_of_the_standard() -> None:
    unique = b"12345678"
    assert module_aad(unique, ModuleType.FOOTER) == unique + b"\x00"
    assert module_aad(unique, ModuleType.DATA_PAGE, 1, 2, 258) == (
        unique + b"\x02" + b"\x01\x00\x02\x00\x02\x01"
    )
    assert module_aad(unique, ModuleType.DICTIONARY_PAGE, 1, 2) == (
        unique + b"\x03" + b"\x01\x00\x02\x00"
    )
    for ordinals in ((32768, 0, 0), (0, 0, -32769), (0, 0), (0, 0, 0, 0)):
        with pytest.raises(InvalidInput):
            module_aad(unique, ModuleType.DATA_PAGE, *ordinals)


def test_a_header_opens_at_no_other_place(sealed: Sealed) -> None:
    leaf, group, column, page, header, _ = next(pages(sealed))
    good = opener(sealed, leaf)
    for kind, ordinals in (
        (ModuleType.DATA_PAGE_HEADER, (group, column, page + 1)),
        (ModuleType.DATA_PAGE, (group, column, page)),
        (ModuleType.DICTIONARY_PAGE_HEADER, (group, column)),
    ):
        with pytest.raises(IntegrityError):
            good.open_module(header, kind, *ordinals)


def test_an_opener_needs_a_key_and_a_file() -> None:
    for key, unique in ((b"short", b"12345678"), (KEY, b"")):
        with pytest.raises(InvalidInput):
            PageOpener(key, unique)


# Frames of views

PLACE = {"view": "v1", "plan_digest": "p1", "number": 1, "count": 3}


def test_a_frame_opens_at_no_other_place() -> None:
    frame = seal_frame(KEY, b"rows", **PLACE)
    changed = [{"view": "v2"}, {"plan_digest": "p2"}, {"number": 0}, {"number": 2}, {"count": 2}]
    for change in changed:
        with pytest.raises(IntegrityError):
            open_frame(KEY, frame, **{**PLACE, **change})
    with pytest.raises(IntegrityError):
        open_frame(bytes(32), frame, **PLACE)


def test_a_view_file_that_was_cut_short_has_no_last_frame() -> None:
    frames = [seal_frame(KEY, b"x", **{**PLACE, "number": n}) for n in range(3)]
    with pytest.raises(IntegrityError):
        open_frame(KEY, frames[1], **{**PLACE, "number": 1, "count": 2})
    with pytest.raises(IntegrityError):
        open_frame(KEY, frames[2], **{**PLACE, "number": 2, "count": 4})


def frame_opener(**change: Any) -> FrameOpener:
    place = {name: value for name, value in {**PLACE, **change}.items() if name != "number"}
    return FrameOpener(KEY, **place)


def test_a_frame_opens_into_a_buffer_at_no_other_place() -> None:
    frame = memoryview(seal_frame(KEY, b"rows", **PLACE))
    for change in ({"view": "v2"}, {"plan_digest": "p2"}, {"count": 2}):
        out = bytearray(b"before")
        with pytest.raises(IntegrityError):
            frame_opener(**change).open_into(frame, 1, memoryview(out))
        assert out == bytes(4) + b"re"
    for number in (0, 2):
        with pytest.raises(IntegrityError):
            frame_opener().open_into(frame, number, memoryview(bytearray(4)))
    with pytest.raises(IntegrityError):
        frame_opener().open_into(frame[:27], 1, memoryview(bytearray(4)))
    with pytest.raises(InvalidInput):
        frame_opener().open_into(frame, 1, memoryview(bytearray(3)))
    with pytest.raises(InvalidInput):
        FrameOpener(b"short", view="v1", plan_digest="p1", count=3)


@given(st.lists(st.binary(max_size=300), min_size=3, max_size=3), st.data())
def test_a_buffer_holds_no_byte_of_a_frame_whose_tag_failed(
    messages: list[bytes], data: st.DataObject
) -> None:
    """Frames of any sizes share one opener."""
    opener = frame_opener()
    for number, message in enumerate(messages):
        frame = bytearray(seal_frame(KEY, message, **{**PLACE, "number": number}))
        out = bytearray(b"\xee" * 300)
        assert opener.open_into(memoryview(frame), number, memoryview(out)) == len(message)
        assert out == message + b"\xee" * (300 - len(message))
        bit = data.draw(st.integers(0, len(frame) * 8 - 1))
        frame[bit // 8] ^= 1 << bit % 8
        out = bytearray(b"\xee" * 300)
        with pytest.raises(IntegrityError):
            opener.open_into(memoryview(frame), number, memoryview(out))
        assert out == bytes(len(message)) + b"\xee" * (300 - len(message))


@pytest.mark.parametrize(("number", "count"), [(-1, 3), (3, 3), (0, 0)])
def test_a_frame_beyond_the_count_is_refused(number: int, count: int) -> None:
    with pytest.raises(InvalidInput):
        seal_frame(KEY, b"", **{**PLACE, "number": number, "count": count})
    with pytest.raises(InvalidInput):
        open_frame(KEY, bytes(64), **{**PLACE, "number": number, "count": count})


@given(st.binary(max_size=64), st.data())
def test_any_flipped_bit_of_a_frame_is_noticed(plaintext: bytes, data: st.DataObject) -> None:
    frame = bytearray(seal_frame(KEY, plaintext, **PLACE))
    bit = data.draw(st.integers(0, len(frame) * 8 - 1))
    frame[bit // 8] ^= 1 << bit % 8
    with pytest.raises(IntegrityError):
        open_frame(KEY, bytes(frame), **PLACE)


def test_frames_may_be_sealed_before_the_count_is_known() -> None:
    early = [seal_frame(KEY, b"%d" % n, **{**PLACE, "number": n, "count": None}) for n in (0, 1)]
    frames = [*early, seal_frame(KEY, b"2", **{**PLACE, "number": 2})]
    for n, frame in enumerate(frames):
        assert open_frame(KEY, frame, **{**PLACE, "number": n}) == b"%d" % n
