"""`kill -9` at every named step of rotation and erasure, also while a start finishes them."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.crashes.keys_campaign import KILLS, KeysCampaign
from tests.crashes.place import Place


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place.make(tmp_path_factory.mktemp("crashes"))
    yield made
    made.end()


def test_killed_at_each_step_of_rotation_and_erasure_the_next_start_finishes_it_once(
    place: Place, request: pytest.FixtureRequest
) -> None:
    kills = 200 if request.config.getoption("--long") else len(KILLS)
    done = KeysCampaign(place, random.Random(1)).play(kills)
    assert set(done.by_step) == set(KILLS), done
    assert done.kills >= kills, done
    assert done.at_starts >= 5, done
