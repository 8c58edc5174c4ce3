"""Tokens over a real gateway: what ends with them, and what outlives a restart."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

import numpy as np
import pytest

from connectors.loaders.numpy import GatewayBatches
from gateway.client.streaming import GrantedToken, open_under
from gateway.client.transport import Transport
from gateway.crypto.tokens import DpopKey, IdentityKey
from gateway.domain.run_names import run_uuid
from gateway.errors import LeaseRevoked, LimitExceeded, NotAuthenticated
from gateway.wire.tokens import GRANT_JWT_BEARER
from tests.journeys.home import Home
from tests.journeys.story import DIRECT, HOW, PURPOSE, ROWS, Story


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
    settings = client.settings
    streams = [open_under(client.transport, token, HOW, None, settings) for token in (mine, other)]
    batches = [iter(stream) for stream in streams]
    for one in batches:
        next(one)
    client.tokens.revoke(mine())
    with pytest.raises((LeaseRevoked, NotAuthenticated)):
        list(batches[0])
    assert sum(len(batch["id"]) for batch in batches[1]) > 0, "another token holds it open"
    assert not client.grants.show(mine.grant or "").revoked
    assert not client.tokens.show(mine()).active


def test_eight_ranks_stream_one_pass_under_one_grant(home: Home) -> None:
    launched = {"world": 8, "run": "run:eight", "lanes": 8, "seed": 3, "batch_size": 500}
    asked = {"purpose": PURPOSE, "columns": DIRECT, "max_epochs": 1, "max_rows": ROWS}

    def train(rank: int) -> np.ndarray:
        transport = home.client().transport  # a key of its own, as a process of its own has
        mine = GatewayBatches("home/a", transport=transport, rank=rank, **launched, **asked)  # type: ignore[arg-type]
        try:
            return np.concatenate([batch["id"] for batch in mine])
        finally:
            mine.close()

    with ThreadPoolExecutor(8) as ranks:
        received = list(ranks.map(train, range(8)))
    assert {len(rows) for rows in received} == {ROWS // 8}
    assert np.array_equal(np.sort(np.concatenate(received)), np.arange(ROWS))
    (grant,) = home.client().grants.list(run="home:eight")
    assert grant.rows_charged == ROWS, "rows are charged once, whoever received them"
    with pytest.raises(LimitExceeded, match="1 epochs"):
        home.client().stream(grant=grant.id, seed=4, shuffle=True)
    (seen,) = [run for run in home.client().runs.list() if run.run == "home:eight"]
    assert seen.uuid == run_uuid("home:eight")


def sent(
    transport: Transport, method: str, path: str, body: str | None, **headers: str
) -> tuple[int, str | None, str | None]:
    """One request as a recorder of the network would send it: status, error, nonce."""
    kind = {"Content-Type": "application/x-www-form-urlencoded"} if body is not None else {}
    data = body.encode() if body is not None else None
    reply = transport._connections().send(method, path, data, {**kind, **headers})
    told = reply.json() if reply.status >= 400 else {}
    return reply.status, told.get("error"), reply.headers.get("dpop-nonce")


def test_what_was_recorded_before_a_restart_is_worth_nothing_after_it(home: Home) -> None:
    client, thief = home.client(), home.client().transport
    client.whoami()  # knows the nonce now
    mine, url = client.transport, home.settings.server or ""
    nonce = mine._nonce
    assert nonce
    token = mine.api_token()
    used, unused = (mine.proof("GET", f"{url}/v1/whoami", token) for _ in range(2))
    key = IdentityKey.load(home.settings.config_dir / "identity.json")
    assertion = key.assertion(url, time.time, mine.dpop_key().thumbprint)
    form = urlencode({"grant_type": GRANT_JWT_BEARER, "assertion": assertion})
    proof = mine.proof("POST", f"{url}/oauth/token")
    bare = DpopKey().proof("POST", f"{url}/oauth/token", now=time.time)
    whoami = ("GET", "/v1/whoami", None)
    bound = {"Authorization": f"DPoP {token}"}
    assert sent(thief, "POST", "/oauth/token", form, DPoP=bare) == (400, "use_dpop_nonce", nonce)
    assert sent(thief, *whoami, **bound, DPoP=used) == (200, None, None)
    assert sent(thief, *whoami, **bound, DPoP=used) == (401, None, None), "good once"
    elsewhere = ("POST", "/oauth/introspect", "token=x")
    assert sent(thief, *elsewhere, **bound, DPoP=unused)[0] == 401, "good at one place"
    assert sent(thief, "POST", "/oauth/token", form, DPoP=proof) == (200, None, None)
    home.stop()
    home.start()
    thief.close()
    for _ in range(2):
        for recorded in (used, unused):
            status, _, told = sent(thief, *whoami, **bound, DPoP=recorded)
            assert status == 401
            assert told not in (None, nonce)
        status, error, _ = sent(thief, "POST", "/oauth/token", form, DPoP=proof)
        assert (status, error) == (400, "use_dpop_nonce")
    assert client.whoami().subject == "home/me", "its own client goes on by itself"
    assert mine.api_token() == token, "the token outlives the restart"
