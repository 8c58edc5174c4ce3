"""`kill -9` at every named step of registration: the old state or the new one, and nothing else."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from gateway.errors import GatewayError, InvalidInput, NotFound
from gateway.failpoints import STEPS
from tests.crashes import journal_campaign, keys_campaign
from tests.crashes.campaign import KILLS, STARTS, Campaign, register_under
from tests.crashes.place import Place, killed_at, table


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place.make(tmp_path_factory.mktemp("crashes"))
    yield made
    made.end()


ELSEWHERE = {  # stopped at by tests/services/test_signing_keys.py and test_retention.py
    "signing.made", "signing.recorded", "expire.recorded", "expire.base", "expire.key-gone",
}  # fmt: skip


def test_every_named_step_is_killed_at_by_some_campaign() -> None:
    campaigns = {*KILLS, *STARTS, *keys_campaign.KILLS, *journal_campaign.KILLS}
    assert set(STEPS) == campaigns | ELSEWHERE


def test_killed_at_each_step_of_registration_nothing_is_lost_half_or_left_over(
    place: Place, request: pytest.FixtureRequest
) -> None:
    kills = 200 if request.config.getoption("--long") else len(KILLS)
    done = Campaign(place, random.Random(5)).play(kills)
    assert done.kills >= kills, done
    assert set(done.by_step) == set(KILLS), done


def test_a_retry_after_a_restart_with_another_body_or_by_another_key_is_told_apart(
    place: Place,
) -> None:
    source = table(100)
    with place.living():
        version = register_under(place.client(), "one-key", "home/told", source)
    place.versions[f"home/told@{version}"] = source
    with place.living():
        client = place.client()
        with pytest.raises(InvalidInput, match="used with another body"):
            register_under(client, "one-key", "home/told", table(200))
        with pytest.raises(InvalidInput, match="used with another body"):
            register_under(client, "one-key", "home/untold", source)
        assert register_under(client, "one-key", "home/told", source) == version
        with pytest.raises(NotFound):
            client.get("/v1/registrations/reg_aaaaaaaaaaaaaaaaaaaaaaaaaa")
    place.check()


def test_a_start_that_is_killed_while_it_removes_leftovers_is_finished_by_the_next(
    place: Place,
) -> None:
    with place.doomed(killed_at("register.manifest")), pytest.raises(GatewayError):
        register_under(place.hasty_client(), "never", "home/never", table(50))
    for step in STARTS:  # each start goes on where the one before it was killed
        with place.doomed(killed_at(step)):
            pass
        assert place.was_killed, f"{step} was not reached"
        is_last = step == "start.file-gone"
        assert is_last or place.leftovers(), f"nothing was left at {step}"
    with place.living():
        version = register_under(place.client(), "never", "home/never", table(50))
    place.versions[f"home/never@{version}"] = table(50)
    place.repair()
    assert place.leftovers() == ""
