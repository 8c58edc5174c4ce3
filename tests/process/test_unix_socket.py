"""A Unix socket is this account's alone, and takes the place of what a killed process left."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

from gateway.process.unix_socket import bind_private


def test_it_is_0600_in_a_directory_of_0700(tmp_path: Path) -> None:
    sock = bind_private(tmp_path / "new", "ring.sock")
    assert sock is not None
    with sock:
        assert stat.S_IMODE((tmp_path / "new" / "ring.sock").stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_none_is_bound_where_others_could_exchange_it(tmp_path: Path) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    assert bind_private(open_to_all, "ring.sock") is None
    assert not list(open_to_all.iterdir())


def test_what_a_killed_process_left_is_replaced(tmp_path: Path) -> None:
    left = bind_private(tmp_path, "ring.sock")
    assert left is not None
    left.close()
    again = bind_private(tmp_path, "ring.sock")
    assert again is not None
    with again, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "ring.sock"))


def test_a_path_longer_than_an_address_will_do(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 100) / ("e" * 100)
    sock = bind_private(directory, "ring.sock")
    assert sock is not None
    with sock, socket.socket(socket.AF_UNIX) as client:
        fd = os.open(directory, os.O_PATH)
        client.connect(f"/proc/self/fd/{fd}/ring.sock")
        os.close(fd)
