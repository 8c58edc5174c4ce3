"""Readers with a lease keep their places, whoever else comes to the door of a data worker."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.delivery.places import (
    COMEBACKS,
    READERS_MAX,
    READERS_OF_A_LEASE_MAX,
    STRANGERS_MAX,
    Places,
)
from gateway.errors import Unavailable
from tests.delivery.spies import SMALL, stream_of
from tests.delivery.test_worker import Lease, lease_of
from tests.delivery.world import Gateway

NEW_MAX = READERS_MAX - COMEBACKS


@dataclass
class House:
    """All places of a worker, taken by readers who are alive and ask for nothing now."""

    gateway: Gateway
    readers: list[tuple[Lease, http.client.HTTPConnection]] = field(default_factory=list)

    def fill(self) -> None:
        for _ in range(NEW_MAX // READERS_OF_A_LEASE_MAX):
            lease = lease_of(self.gateway)
            for _ in range(READERS_OF_A_LEASE_MAX):
                connection = connect(self.gateway)
                assert acknowledge(lease, connection).status == 204
                self.readers.append((lease, connection))

    def leave(self) -> None:
        for _, connection in self.readers:
            connection.close()
        self.readers.clear()


def connect(gateway: Gateway) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=10)


def knock(gateway: Gateway, count: int) -> list[socket.socket]:
    """Connections that say nothing."""
    return [socket.create_connection(("127.0.0.1", gateway.port)) for _ in range(count)]


def acknowledge(lease: Lease, connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
    path = f"/v1/leases/{lease.name}/acknowledgements?received=0&rows=0"
    connection.request("POST", path, headers={"Gateway-MAC": lease.mac(path, method="POST")})
    response = connection.getresponse()
    response.body = response.read()  # type: ignore[attr-defined]
    return response


def fetch(lease: Lease, connection: http.client.HTTPConnection, number: int = 0) -> int:
    path = lease.path(number)
    connection.request("GET", path, headers={"Gateway-MAC": lease.mac(path)})
    response = connection.getresponse()
    response.read()
    return response.status


@pytest.fixture
def house(gateway: Gateway) -> Iterator[House]:
    house = House(gateway)
    house.fill()
    yield house
    house.leave()


def test_in_a_full_house_the_new_are_refused_and_the_readers_read_on(house: House) -> None:
    gateway, new = house.gateway, lease_of(house.gateway)
    with stream_of(gateway, SMALL, delivery="http", patience=30) as waiting:
        refused = connect(gateway)
        answer = acknowledge(new, refused)
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert b"run more data workers" in answer.body  # type: ignore[attr-defined]
        assert b"retry_after_seconds" in answer.body  # type: ignore[attr-defined]
        crowd = knock(gateway, STRANGERS_MAX)
        for lease, connection in house.readers[:: len(house.readers) // 8]:
            assert fetch(lease, connection) == 200
        for sock in crowd:
            sock.close()
        lease, connection = house.readers.pop()
        connection.close()  # a network that broke
        again = connect(gateway)
        assert fetch(lease, again) == 200
        house.readers.append((lease, again))
        threading.Timer(0.3, house.leave).start()
        assert sum(len(batch["id"]) for batch in waiting) == gateway.control.data.rows
        refused.close()
        later = connect(gateway)
        assert acknowledge(new, later).status == 204
        later.close()


def test_the_places_of_a_lease_that_is_over_are_free_at_once(house: House) -> None:
    new, here = lease_of(house.gateway), connect(house.gateway)
    assert acknowledge(new, here).status == 503
    lease, connection = house.readers[0]
    house.gateway.revoke(lease.name)
    assert acknowledge(new, here).status == 204
    assert acknowledge(lease, connection).status == 403, "who was turned out hears why"
    here.close()


def test_who_knocks_and_says_nothing_keeps_no_reader_out(gateway: Gateway) -> None:
    known, here = lease_of(gateway), connect(gateway)
    assert fetch(known, here) == 200
    crowd = knock(gateway, 2 * STRANGERS_MAX)
    crowd[0].settimeout(10)
    assert crowd[0].recv(1) == b"", "the oldest made room"
    assert fetch(known, here, 1) == 200
    later = connect(gateway)
    assert fetch(lease_of(gateway), later) == 200
    for sock in crowd:
        sock.close()
    here.close()
    later.close()


def test_one_lease_has_a_few_connections_and_the_newest_count(gateway: Gateway) -> None:
    lease = lease_of(gateway)
    connections = [connect(gateway) for _ in range(READERS_OF_A_LEASE_MAX + 1)]
    for connection in connections:
        assert acknowledge(lease, connection).status == 204
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        acknowledge(lease, connections[0])
    assert all(fetch(lease, connection) == 200 for connection in connections[1:])
    for connection in connections:
        connection.close()


class Door:
    """A connection, as Places sees it."""

    is_open = True

    def abort(self) -> None:
        self.is_open = False


acts = st.lists(st.tuples(st.sampled_from(["come", "prove", "go"]), st.integers(0, 40)))


@given(acts=acts, leases=st.integers(1, 12))
def test_whatever_comes_and_goes_nobody_is_counted_twice_or_for_ever(
    acts: list[tuple[str, int]], leases: int
) -> None:
    places = Places()
    doors: list[Door] = []
    named: Any = [SimpleNamespace(spec=SimpleNamespace(lease=str(n))) for n in range(leases)]
    for lease in named:
        lease.was_read, lease.stopped = False, None
    for act, number in acts:
        if act == "come" or not doors:
            doors.append(Door())
            places.arrive(doors[-1])
        elif act == "go":
            places.leave(doors[number % len(doors)])
        else:
            door = doors[number % len(doors)]
            try:
                places.take(door, named[number % leases])
            except Unavailable:
                assert door not in places._strangers
        assert max(places._of.values(), default=0) <= READERS_OF_A_LEASE_MAX
        assert sum(places._of.values()) == places.readers <= READERS_MAX
        assert not set(places._readers) & set(places._strangers)
    for door in doors:
        places.leave(door)
    assert (places.readers, places._of, len(places._strangers)) == (0, {}, 0)
