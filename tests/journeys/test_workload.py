"""A trainer that has nothing but the token its cluster projects into a file."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from gateway.client import GatewayClient
from gateway.crypto.identity_keys import IdentityKey
from gateway.errors import NotAuthenticated, StreamStopped
from tests.crypto.provider import CLUSTER, Provider
from tests.journeys.home import Home
from tests.journeys.story import DIRECT, HOW, PURPOSE, ROWS, Story
from tests.services.test_issuers import TABLE


def projected(cluster: Provider, path: Path, **claims: str) -> None:
    """What the kubelet does: another file, put in place in one step."""
    now = int(time.time())
    fresh = path.with_suffix(".new")
    fresh.write_text(
        cluster.token({**CLUSTER, "iat": now, "nbf": now, "exp": now + 3600, **claims}) + "\n"
    )
    fresh.replace(path)


@pytest.fixture
def cluster(home: Home) -> Provider:
    """A served home whose operator trusts a cluster, with one dataset for role:trainer."""
    made, config = Provider("RS256"), home.settings.config_dir
    (config / "cluster.jwks").write_bytes(made.key_set())
    (config / "issuers.toml").write_text(TABLE.replace("startup", "home"), "utf-8")
    home.start()
    story = Story(home)
    for step in ("register", "publish"):
        story.do(step, "a")
    unused = IdentityKey.create(home.root / "unused.json", "home/job")
    story.gateway.identities.add(
        "home/job", public_key=unused.public_text, roles=["trainer"], type="job"
    )
    return made


def test_a_trainer_with_only_a_token_file_streams(home: Home, cluster: Provider) -> None:
    token, out = home.root / "token", home.root / "rows.arrow"
    pod = Home(home.root / "pod", home.port)
    pod.root.mkdir()
    pod.variables = {
        "GATEWAY_SERVER": str(home.settings.server),
        "GATEWAY_WORKLOAD_TOKEN_FILE": str(token),
    }
    words = ("stream", "home/a", "--purpose", PURPOSE, "--columns", "id,x", "--out", str(out))
    pod.run(*words, expect=78)  # the file is not there yet
    projected(cluster, token, sub="system:serviceaccount:ml:web")
    pod.run(*words, expect=3)
    projected(cluster, token)
    assert "home/job" in pod.run("whoami")
    pod.run(*words)
    with pa.OSFile(str(out)) as file:
        assert pa.ipc.open_stream(file).read_all().num_rows == ROWS
    assert list(pod.root.iterdir()) == [], "tokens and keys are in memory only"
    one = GatewayClient(settings=replace(home.settings, workload_token_file=token))
    batches = iter(one.stream("home/a", columns=DIRECT, purpose=PURPOSE, **HOW))
    next(batches)
    ended = home.client().identities.disable("home/job")
    assert ended.streams_stopped == 1
    with pytest.raises((StreamStopped, NotAuthenticated)):
        list(batches)
    pod.run("whoami", expect=3)
