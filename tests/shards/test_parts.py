"""Uploaded parts: nothing in clear, nothing changed, cut or moved goes unnoticed."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest

from gateway.errors import IntegrityError, TooLarge
from gateway.shards.parts import FRAME_BYTES, PartReader, UploadReader, part_place, write_part

KEY = bytes(range(32))
VECTORS = Path(__file__).parent.parent / "vectors" / "upload-part-v0"


@pytest.mark.parametrize("path", sorted(VECTORS.glob("bad-*.bin")), ids=lambda p: p.stem)
def test_a_bad_part_is_refused(path: Path) -> None:
    with pytest.raises(IntegrityError):
        PartReader(path, KEY, place="0/0")


@pytest.mark.parametrize("path", sorted(VECTORS.glob("ok-*.bin")), ids=lambda p: p.stem)
def test_a_good_part_opens(path: Path) -> None:
    with PartReader(path, KEY, place="0/0") as part:
        assert part.read_at(0, part.size) == bytes(n % 251 for n in range(part.size))


def test_a_part_over_the_limit_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TooLarge):
        write_part(tmp_path / "p", KEY, [b"x" * 11], place="0/0", bytes_max=10)
    assert not list(tmp_path.iterdir())


def test_a_broken_upload_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> object:
        yield b"some"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        write_part(tmp_path / "p", KEY, broken(), place="0/0")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_swapped_frames_are_refused(tmp_path: Path) -> None:
    data = os.urandom(3 * FRAME_BYTES)
    write_part(tmp_path / "p", KEY, [data], place="0/0")
    raw, step = (tmp_path / "p").read_bytes(), FRAME_BYTES + 28
    first, second = raw[8 : 8 + step], raw[8 + step : 8 + 2 * step]
    (tmp_path / "p").write_bytes(raw[:8] + second + first + raw[8 + 2 * step :])
    with PartReader(tmp_path / "p", KEY, place="0/0") as part, pytest.raises(IntegrityError):
        part.read_at(0, 10)


def test_ranges_over_frames_and_parts_are_the_uploaded_bytes(tmp_path: Path) -> None:
    data = os.urandom(3 * FRAME_BYTES + 5)
    cut = FRAME_BYTES + 77
    for number, piece in enumerate((data[:cut], data[cut:])):
        facts = write_part(tmp_path / f"{number}", KEY, [piece], place=part_place(4, number))
        assert facts.bytes == len(piece)
        assert piece[:64] not in (tmp_path / f"{number}").read_bytes()
    upload = UploadReader([str(tmp_path / "0"), str(tmp_path / "1")], KEY, file=4)
    assert upload.size == len(data)
    for start, length in ((0, 10), (FRAME_BYTES - 3, 9), (cut - 5, 10), (0, len(data)), (cut, 9)):
        assert upload.read_at(start, length) == data[start : start + length]
    assert upload.read_at(len(data), 5) == b""
    upload.close()


def test_memory_does_not_grow_with_the_number_of_parts(tmp_path: Path) -> None:
    key, paths = secrets.token_bytes(32), []
    for number in range(12):
        paths.append(str(tmp_path / str(number)))
        write_part(Path(paths[-1]), key, [bytes(3 << 20)], place=part_place(0, number))
    upload = UploadReader(paths, key, file=0)
    assert upload.held_bytes == 0
    for at in range(0, upload.size, 1 << 20):
        assert upload.read_at(at, 1 << 20) == bytes(1 << 20)
        assert upload.held_bytes <= 6 << 20
    upload.close()
