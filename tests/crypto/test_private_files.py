"""Key files are read only when they are private, plain and ours; JSON has one reading."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.crypto import private_files, strict_json
from gateway.errors import ConfigError, Conflict, NotFound, Unavailable


def test_what_is_no_plain_private_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir(mode=0o700)
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "link").symlink_to(tmp_path / "directory")
    private_files.create_private(tmp_path / "long", b"x" * 100)
    for name in ("directory", "pipe", "link", "long"):
        with pytest.raises(ConfigError):
            private_files.read_private(tmp_path / name, bytes_max=99)
    with pytest.raises(NotFound):
        private_files.read_private(tmp_path / "missing")


def test_a_file_of_another_account_is_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    private_files.create_private(tmp_path / "file", b"x")
    os.chown(tmp_path / "file", 12345, 12345)
    with pytest.raises(ConfigError, match="another account"):
        private_files.read_private(tmp_path / "file")


def test_a_directory_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError):
        private_files.make_private_dir(tmp_path / "file")


def test_a_disk_that_refuses_is_unavailable_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        private_files.replace_private(tmp_path / "missing" / "file", b"x")
    (tmp_path / "taken").mkdir()
    with pytest.raises(Unavailable):
        private_files.replace_private(tmp_path / "taken", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_file_is_created_once(tmp_path: Path) -> None:
    private_files.create_private(tmp_path / "file", b"first")
    with pytest.raises(Conflict):
        private_files.create_private(tmp_path / "file", b"second")
    assert private_files.read_private(tmp_path / "file") == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_sweep_spares_a_living_writer(tmp_path: Path) -> None:
    with private_files._temporary(tmp_path / "file", b"x") as temporary:
        (tmp_path / ".tmp-dead").write_bytes(b"")
        private_files.sweep(tmp_path)
        assert list(tmp_path.iterdir()) == [temporary]
        temporary.unlink()


@pytest.mark.parametrize(
    "data",
    [b"", b"null", b"[]", b'"x"', b"{", b"{}x", b"\xff", b'{"a":1,"a":1}', b'{"a":NaN}',
     b'{"a":Infinity}', b'{"a":-Infinity}', b'{"a":1e999}', b'{"a":"\\ud800"}',
     b'{"\\udc00":1}', b'{"a":' + b"[" * 100_000, b"{'a':1}", b"\xef\xbb\xbf{}",
     b'{"a":{"b":1,"b":2}}', b'{"a":"\x01"}'],
)  # fmt: skip
def test_json_with_no_or_two_readings_is_refused(data: bytes) -> None:
    with pytest.raises(strict_json.NotStrictJson):
        strict_json.decode(data, bytes_max=1 << 20)


def test_json_that_is_too_long_is_refused() -> None:
    with pytest.raises(strict_json.NotStrictJson):
        strict_json.decode(b'{"a":1}', bytes_max=6)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=4), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), VALUES, max_size=4))
def test_what_was_written_reads_back_to_the_same_bytes(value: dict[str, object]) -> None:
    data = strict_json.encode(value)
    assert strict_json.decode(data, bytes_max=1 << 20) == value
    assert strict_json.encode(strict_json.decode(data, bytes_max=1 << 20)) == data


@given(st.binary(max_size=64))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    with contextlib.suppress(strict_json.NotStrictJson):
        strict_json.decode(data, bytes_max=64)
