"""Tokens over a real gateway: what ends with them, and what outlives a restart."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.client.streaming import GrantedToken, open_under
from gateway.errors import LeaseRevoked, NotAuthenticated
from tests.journeys.home import Home
from tests.journeys.story import DIRECT, HOW, PURPOSE, Story


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A served home with one dataset that its trainers may stream."""
    made = Home.make(tmp_path_factory.mktemp("tokens"))
    made.start()
    story = Story(made)
    for step in ("register", "publish"):
        story.do(step, "a")
    yield made
    made.end()


def test_a_stream_ends_with_the_token_that_opened_it(home: Home) -> None:
    client = home.client()
    detail = {
        "type": "dataset_access",
        "dataset": "home/a",
        "purpose": PURPOSE,
        "columns": DIRECT,
    }
    mine, other = (GrantedToken(client.transport, detail) for _ in range(2))
    streams = [open_under(client.transport, token, HOW, None, 5) for token in (mine, other)]
    batches = [iter(stream) for stream in streams]
    for one in batches:
        next(one)
    client.tokens.revoke(mine())
    with pytest.raises((LeaseRevoked, NotAuthenticated)):
        list(batches[0])
    assert sum(len(batch["id"]) for batch in batches[1]) > 0, "another token holds it open"
    assert not client.grants.show(mine.grant or "").revoked
    assert not client.tokens.show(mine()).active
