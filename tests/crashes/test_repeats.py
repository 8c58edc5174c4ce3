"""Acts other than registration are killed while they are recorded; asked again, they are done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from gateway.client import GatewayClient
from gateway.client.transport import RETRY_SECONDS, Transport
from gateway.crypto.identity_keys import IdentityKey
from gateway.errors import Conflict, GatewayError
from tests.crashes.keys_campaign import EXTRA, RULES, wide
from tests.crashes.place import Place, killed_at


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place.make(tmp_path_factory.mktemp("repeats"))
    yield made
    made.end()


def operator(place: Place, *, is_hasty: bool = False) -> GatewayClient:
    client = place.hasty_client() if is_hasty else place.client()
    key = place.settings.config_dir / "operator.json"
    retries = () if is_hasty else RETRY_SECONDS
    client.transport = Transport(str(place.settings.server), key, retry_seconds=retries)
    return client


def killed_until_done(
    place: Place, act: Callable[[int], object], again: Callable[[int], object]
) -> None:
    """`act(n)` is killed at its n-th group of events, then `again(n)` must do; for every n."""
    for n in range(1, 9):
        with place.doomed(killed_at("disk.anchor", n)), suppress(GatewayError):
            act(n)
            return
        assert place.was_killed
        with place.living():
            again(n)
    raise AssertionError("it writes more than eight groups of events")


def key_of(place: Place, name: str) -> str:
    path = place.root / f"{name.replace('/', '-')}.json"
    return (IdentityKey.load(path) if path.exists() else IdentityKey.create(path, name)).public_text


def test_a_tenant_that_was_cut_short_is_finished_when_it_is_asked_for_again(place: Place) -> None:
    def add(client: GatewayClient, n: int) -> Any:
        return client.tenants.add(f"t{n}", owner_key=key_of(place, f"t{n}/owner"))

    def again(n: int) -> None:
        client = operator(place)
        assert add(client, n).to_dict() == add(client, n).to_dict()
        (made,) = [tenant for tenant in client.tenants.list() if tenant.tenant == f"t{n}"]
        assert made.identities == 1
        theirs = place.client()
        theirs.transport = Transport(str(place.settings.server), place.root / f"t{n}-owner.json")
        assert theirs.policies.show(f"t{n}").files
        with pytest.raises(Conflict):
            client.tenants.add(f"t{n}", owner_key=key_of(place, "somebody/else"))
        with pytest.raises(Conflict):
            client.tenants.add("home")

    killed_until_done(place, lambda n: add(operator(place, is_hasty=True), n), again)


def test_an_identity_is_added_once_and_another_one_of_its_name_never(place: Place) -> None:
    def add(client: GatewayClient, n: int, role: str = "trainer") -> Any:
        key = key_of(place, f"home/i{n}")
        return client.identities.add(f"home/i{n}", public_key=key, roles=[role], type="job")

    def again(n: int) -> None:
        client = place.client()
        assert add(client, n).to_dict() == add(client, n).to_dict()
        with pytest.raises(Conflict):
            add(client, n, "owner")

    killed_until_done(place, lambda n: add(place.hasty_client(), n), again)


def test_a_grant_that_is_revoked_already_is_answered_as_revoked(place: Place) -> None:
    with place.living():
        owner = place.client()
        roles = owner.policies.show("home").files
        owner.policies.push({**roles, "everything.yaml": RULES}, tenant="home")
        owner.datasets.register("home/r", wide(10, first=0))
        grants = [
            owner.tokens.request("home/r", purpose="research", columns=["id", *EXTRA[:n]]).grant
            for n in range(8)
        ]

    def again(n: int) -> None:
        client = place.client()
        assert client.grants.revoke(grants[n - 1]).grants == 1
        assert client.grants.revoke(grants[n - 1]).streams_stopped == 0
        assert client.grants.show(grants[n - 1]).revoked

    killed_until_done(place, lambda n: place.hasty_client().grants.revoke(grants[n - 1]), again)
    with place.opened() as house:
        ended = [grant.id for grant in house.catalog.grants() if grant.revoked]
    assert set(ended) < set(grants)
