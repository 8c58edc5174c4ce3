"""A confined child reaches nothing but what it was given."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.process import confine
from gateway.process.spawn import Confinement, Launch, spawn

needs_landlock = pytest.mark.skipif(confine.landlock_abi() == 0, reason="kernel has no Landlock")


@pytest.fixture(scope="module")
def listener() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock


def report_of(tmp_path: Path, listener: socket.socket, **confinement: object) -> dict[str, str]:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "file").write_bytes(b"given")
    (tmp_path / "out").mkdir()
    launch = Launch(
        module="tests.process.probe",
        confinement=Confinement(
            data_bytes_max=256 << 20,
            read_paths=(str(tmp_path / "given"), str(Path(__file__).parent.parent)),
            write_paths=(str(tmp_path / "out"),),
            **confinement,  # type: ignore[arg-type]
        ),
        options={
            "secret": str(tmp_path / "secret"),
            "allowed": str(tmp_path / "given" / "file"),
            "writable": str(tmp_path / "out"),
            "port": listener.getsockname()[1],
            "bytes": 1 << 30,
        },
    )
    with spawn(launch) as child:
        return dict(child.channel.receive().body)


@needs_landlock
def test_a_confined_child_reads_and_writes_only_what_it_was_given(
    tmp_path: Path, listener: socket.socket
) -> None:
    report = report_of(tmp_path, listener)
    assert report["read secret"] == "PermissionError"
    assert report["write elsewhere"] == "PermissionError"
    assert report["list /proc of parent"] == "PermissionError"
    assert report["memory of parent"] == "PermissionError"
    assert report["read allowed"] == "done"
    assert report["write allowed"] == "done"


@needs_landlock
def test_a_confined_child_has_no_network_and_signals_nobody(
    tmp_path: Path, listener: socket.socket
) -> None:
    report = report_of(tmp_path, listener)
    assert report["connect"] != "done"
    if confine.landlock_abi() >= 6:
        assert report["signal parent"] == "PermissionError"
    if not confine.missing():
        assert report["datagram"] == "OSError"  # the empty namespace has no route


def test_a_child_inherits_no_environment_no_core_and_no_endless_memory(
    tmp_path: Path, listener: socket.socket
) -> None:
    report = report_of(tmp_path, listener)
    assert set(report["environment"].split(",")) <= {"PYTHONPATH", "LC_CTYPE"}
    assert report["core"] == "(0, 0)"
    assert report["allocate"] == "MemoryError"


def test_a_child_that_needs_the_network_keeps_it(tmp_path: Path, listener: socket.socket) -> None:
    assert report_of(tmp_path, listener, network=True)["connect"] == "done"


def test_a_child_never_loads_pandas_even_where_it_is_installed(
    tmp_path: Path, listener: socket.socket
) -> None:
    assert report_of(tmp_path, listener)["load pandas"] == "ModuleNotFoundError"


def test_what_the_system_lacks_is_said_in_sentences() -> None:
    assert all(len(sentence) > 20 for sentence in confine.missing())


def test_resident_memory_of_a_dead_process_is_nothing() -> None:
    assert confine.resident_bytes(2**22 + 12345) == 0


@pytest.mark.parametrize("sandboxed", [True, False])
def test_a_child_that_hangs_ends_with_its_parent(*, sandboxed: bool) -> None:
    readable = Confinement(
        read_paths=(str(Path(__file__).parent.parent),), sandboxed=sandboxed, network=not sandboxed
    )
    options = {"grace_seconds": 0.1}  # of those that may end in order
    launch = Launch(module="tests.process.sleeper", confinement=readable, options=options)
    child = spawn(launch)
    assert child.channel.receive().kind == "here"
    child.channel.close()  # as when the parent is killed
    assert child.process.wait(timeout=5) == 0
