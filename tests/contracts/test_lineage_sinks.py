"""What every LineageSink promises, and what each refuses."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway import discovery
from gateway.config import Settings
from gateway.errors import ConfigError, ConnectorError, InvalidInput, Unavailable
from gateway.lineage.sinks import parse
from gateway.ports import LineageSink
from gateway.services import plugs
from tests.lineage.receiver import Receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


_MADE: list[LineageSink] = []


def sink(uri: str) -> LineageSink:
    _MADE.append(discovery.connect("lineage", uri))
    return _MADE[-1]


@pytest.fixture(autouse=True)
def _let_go() -> Iterator[None]:
    yield
    while _MADE:
        _MADE.pop().close()


def events(count: int) -> list[bytes]:
    return [json.dumps({"n": n, "text": "größe\u2028"}).encode() for n in range(count)]


@pytest.fixture(params=["file", "http"])
def sent(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Callable[[], list[bytes]]]:
    """A sink's URI, and what has arrived there."""
    if request.param == "file":
        path = tmp_path / "a b.jsonl"
        return path.as_uri(), lambda: path.read_bytes().splitlines()
    receiver: Receiver = request.getfixturevalue("receiver")
    return receiver.url, lambda: [json.dumps(e).encode() for e in receiver.events]


def test_events_arrive_whole_once_and_in_order(
    sent: tuple[str, Callable[[], list[bytes]]],
) -> None:
    uri, arrived = sent
    one = sink(uri)
    for event in events(3):
        one.emit(event)
    one.close()
    again = sink(uri)
    again.emit(events(4)[3])
    again.close()
    again.close()
    assert [json.loads(event)["n"] for event in arrived()] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "uri",
    [
        "file:relative", "file://host/x", "file:///x?y=1", "http:///x", "http://u:p@host/x",
        "https://host/#x", "http://host:99999/", "http://host/?ca=/x", "http://host/?key-file=x",
    ],
)  # fmt: skip
def test_what_is_no_sink_is_refused_when_it_is_named(uri: str) -> None:
    with pytest.raises(ConfigError):
        sink(uri)


def test_a_plug_that_is_not_there_is_named() -> None:
    with pytest.raises(ConnectorError, match="kafka"):
        plugs.telling_of(Settings(lineage_sinks="kafka://host/topic"), "http://gateway")


@pytest.mark.parametrize(
    "setting", ["http://a http://a", "No=http://a", " ".join(f"http://h{n}" for n in range(17))]
)
def test_a_setting_that_means_two_things_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError):
        parse(setting)


def test_a_setting_names_sinks_and_their_sides() -> None:
    assert parse(None) == parse("  ") == []
    found = parse("clinic=https://m.example/api/v1/lineage?key-file=/k  file:///var/l.jsonl")
    assert [(s.tenant, s.uri) for s in found] == [
        ("clinic", "https://m.example/api/v1/lineage?key-file=/k"),
        (None, "file:///var/l.jsonl"),
    ]
    assert found[0].shown == "clinic=https://m.example/api/v1/lineage"
    assert parse("http://host/?a=b")[0].tenant is None


def test_a_receiver_is_told_who_sends_and_what(receiver: Receiver, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("secret\n")
    key.chmod(0o600)
    one = sink(f"{receiver.url}?key-file={key}&tenant=a")
    one.emit(b"{}")
    (headers,) = receiver.headers
    assert headers["path"] == "/api/v1/lineage?tenant=a"
    assert headers["Authorization"] == "Bearer secret"
    assert headers["Content-Type"] == "application/json"
    key.chmod(0o644)
    with pytest.raises(Unavailable):
        one.emit(b"{}")


@pytest.mark.parametrize("status", [301, 401, 404, 408, 429, 500, 503])
def test_what_may_be_taken_later_is_unavailable(receiver: Receiver, status: int) -> None:
    receiver.status = status
    one = sink(receiver.url)
    with pytest.raises(Unavailable, match=str(status)):
        one.emit(b"{}")
    receiver.status = 200
    one.emit(b"{}")
    assert len(receiver.events) == 1


@pytest.mark.parametrize("status", [400, 413, 422])
def test_what_will_never_be_taken_is_refused(receiver: Receiver, status: int) -> None:
    receiver.status = status
    with pytest.raises(InvalidInput, match=str(status)):
        sink(receiver.url).emit(b"{}")


def test_nobody_there_is_unavailable() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(Unavailable, match="does not take events"):
        sink(f"http://127.0.0.1:{port}").emit(b"{}")


def test_a_torn_line_is_cut_off_and_a_second_writer_refused(tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    path.write_bytes(b'{"n":1}\n{"n":')
    first, second = sink(path.as_uri()), sink(path.as_uri())
    first.emit(b'{"n":2}')
    assert path.read_bytes() == b'{"n":1}\n{"n":2}\n'
    assert path.stat().st_mode & 0o777 in (0o600, 0o644)
    with pytest.raises(Unavailable):
        second.emit(b"{}")
    link = tmp_path / "link"
    link.symlink_to(path)
    with pytest.raises(Unavailable):
        sink(link.as_uri()).emit(b"{}")
