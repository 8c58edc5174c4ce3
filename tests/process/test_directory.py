"""One tree per state directory; a directory of another format is refused."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from gateway.errors import ConfigError, Unavailable
from gateway.process.directory import (
    FORMAT,
    FORMAT_FILE,
    DirectoryLock,
    ServerFile,
    read_server_file,
)


def test_a_directory_that_was_never_initialised_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match="not a gateway's state directory"),
        DirectoryLock(tmp_path),
    ):
        pass


def test_a_directory_of_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / FORMAT_FILE).write_text("dataset-gateway-state v9")
    with pytest.raises(ConfigError, match="has format"), DirectoryLock(tmp_path):
        pass


def test_two_process_trees_on_one_directory_are_refused(tmp_path: Path) -> None:
    (tmp_path / FORMAT_FILE).write_text(FORMAT + "\n")
    with (
        DirectoryLock(tmp_path),
        pytest.raises(ConfigError, match="another process uses"),
        DirectoryLock(tmp_path),
    ):
        pass
    with DirectoryLock(tmp_path):
        pass


def test_a_successor_waits_for_the_processes_of_a_killed_parent(tmp_path: Path) -> None:
    (tmp_path / FORMAT_FILE).write_text(FORMAT + "\n")
    with DirectoryLock(tmp_path) as lock:
        orphan = os.dup(lock.members)  # what a member of the tree inherits
    ended = threading.Event()

    def end() -> None:
        ended.set()
        os.close(orphan)

    threading.Timer(0.3, end).start()
    with DirectoryLock(tmp_path):
        assert ended.is_set()


def test_the_server_file_of_a_dead_process_counts_as_none(tmp_path: Path) -> None:
    with (
        ServerFile(tmp_path, '{"pid": 999999999, "url": "http://127.0.0.1:1"}'),
        pytest.raises(Unavailable, match="no gateway is running"),
    ):
        read_server_file(tmp_path)
    with pytest.raises(Unavailable):
        read_server_file(tmp_path)
