"""A person logs in at a real OpenID provider, a job shows its token; then both stream."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.client import GatewayClient
from gateway.client.credentials import login_file
from gateway.client.jwt_claims import claims_of
from gateway.client.login import log_in as log_in_at
from gateway.client.logins import LoginRecord
from gateway.client.provider import Provider as ProviderAsClient
from gateway.config import Settings
from gateway.crypto.identity_keys import IdentityKey
from gateway.errors import NotAuthenticated
from gateway.services import issuers
from tests.crypto.provider import CLUSTER, Provider
from tests.journeys.home import Home
from tests.journeys.openid.real import RESOURCE, RealProvider, log_in
from tests.journeys.story import DIRECT, HOW, PURPOSE, ROWS, Story
from tests.journeys.test_workload import projected
from tests.services.test_issuers import TABLE

SECONDS = 64  # a login is renewed a minute before its token ends: here after four seconds
ROW = """
[[issuer]]
issuer = "{issuer}"
audience = "{resource}"
algorithms = ["RS256"]
typ = "at+jwt"
discovery = true
loopback = true
tenant = "home"
login = {{ client_id = "gateway-cli", resource = "{resource}" }}
[issuer.attributes]
"subject.region" = "region"
[[issuer.identity]]
name = "ana"
claims = {{ sub = "ana" }}
[[issuer.identity]]
name = "nightly"
claims = {{ sub = "nightly-job" }}
"""
TRAINED = '{ claim = "groups", contains = "privacy-trained" }\n'
WORDS = ("stream", "home/a", "--purpose", PURPOSE, "--columns", "id,x", "--out")


@pytest.fixture(scope="module")
def provider() -> Iterator[RealProvider]:
    with RealProvider.started(seconds=SECONDS) as started:
        yield started


@pytest.fixture(scope="module")
def cluster() -> Provider:
    return Provider("RS256")


@pytest.fixture(scope="module")
def home(
    provider: RealProvider, cluster: Provider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Home]:
    """A gateway that trusts both, with short tokens and leases, and one dataset."""
    short = {"GATEWAY_TOKEN_SECONDS_MAX": "3", "GATEWAY_LEASE_SECONDS_MAX": "2"}
    made = Home.make(tmp_path_factory.mktemp("home"), variables=short)
    config = made.settings.config_dir
    (config / "cluster.jwks").write_bytes(cluster.key_set())
    rows = TABLE.replace("startup", "home") + ROW.format(issuer=provider.issuer, resource=RESOURCE)
    (config / "issuers.toml").write_text(rows, "utf-8")
    made.start()
    story = Story(made)
    for step in ("register", "publish"):
        story.do(step, "a")
    for name, kind in (("ana", "person"), ("nightly", "job"), ("job", "job")):
        unused = IdentityKey.create(made.root / f"{name}.json", f"home/{name}")
        story.gateway.identities.add(
            f"home/{name}", public_key=unused.public_text, roles=["trainer"], type=kind
        )
    yield made
    made.end()


@pytest.fixture
def laptop(home: Home, tmp_path: Path) -> Home:
    """Another machine: nothing of it is known to the gateway."""
    made = Home(tmp_path, home.port)
    made.variables = {"GATEWAY_SERVER": str(home.settings.server)}
    return made


def log_in_as(laptop: Home, name: str) -> tuple[int, str, str]:
    """`gateway login`, and what a person does in the browser meanwhile."""
    command = (sys.executable, "-m", "gateway.cli.main", "login", str(laptop.settings.server))
    with subprocess.Popen(
        command,
        env=laptop.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        url = process.stderr.readline()
        try:
            assert "Done" in log_in(url.strip(), name), said + url
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
        return process.returncode, out, said + err


def test_somebody_whom_the_gateway_does_not_know_is_told_what_to_say(laptop: Home) -> None:
    code, _, said = log_in_as(laptop, "mallory")
    assert (code, "`mallory`" in said) == (3, True), said
    assert not login_file(laptop.settings, str(laptop.settings.server)).exists()


def test_a_person_logs_in_streams_and_logs_out(laptop: Home, provider: RealProvider) -> None:
    laptop.run("whoami", expect=78)  # no key file, no login
    code, out, said = log_in_as(laptop, "ana")
    assert (code, "home/ana" in out) == (0, True), said
    path = login_file(laptop.settings, str(laptop.settings.server))
    record = LoginRecord.read(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert record.refresh_token is not None
    for secret in (record.token, record.refresh_token):
        assert secret not in out + said + repr(record)
    who = json.loads(laptop.run("whoami", "--json"))
    assert (who["subject"], who["attributes"]["region"]) == ("home/ana", "eu")
    rows = laptop.root / "rows.arrow"
    laptop.run(*WORDS, str(rows))
    assert rows.stat().st_size > ROWS
    gone = json.loads(laptop.run("logout", "--json"))
    assert (gone["removed"], gone["revoked"], path.exists()) == (True, True, False)
    laptop.run("whoami", expect=78)
    form = {
        "grant_type": "refresh_token",
        "refresh_token": record.refresh_token,
        "client_id": record.client_id,
        "resource": RESOURCE,
    }
    with pytest.raises(NotAuthenticated):
        ProviderAsClient.discover(provider.issuer, None).tokens(form)
    assert json.loads(laptop.run("logout", "--json"))["removed"] is False


def test_a_job_streams_with_a_token_of_its_provider(laptop: Home, provider: RealProvider) -> None:
    token = laptop.root / "token"
    token.write_text(provider.job_token())
    laptop.variables["GATEWAY_WORKLOAD_TOKEN_FILE"] = str(token)
    assert "home/nightly" in laptop.run("whoami")
    rows = laptop.root / "rows.arrow"
    laptop.run(*WORDS, str(rows))
    assert rows.stat().st_size > ROWS
    token.write_text(provider.job_token()[:-5] + "AAAAA")
    laptop.run("whoami", expect=3)


def test_an_id_token_of_the_provider_says_who_and_what_somebody_is(
    provider: RealProvider, tmp_path: Path
) -> None:
    """Without `resource` in the table it is the ID token that is shown."""
    row = ROW.format(issuer=provider.issuer, resource="gateway-cli")
    row = row.replace('typ = "at+jwt"\n', "").replace(', resource = "gateway-cli"', "")
    row = row.replace('"region"\n', '"region"\n"subject.trained" = ' + TRAINED, 1)
    (tmp_path / "issuers.toml").write_text(row)
    rows = issuers.load(Settings(config_dir=tmp_path), time.time)
    (where,) = rows.logins()
    shown: list[threading.Thread] = []

    def show(url: str) -> None:
        shown.append(threading.Thread(target=log_in, args=(url, "ana")))
        shown[0].start()

    asked = ProviderAsClient.discover(provider.issuer, None)
    record = log_in_at("https://gateway.example", where, asked, show)
    shown[0].join()
    found = asyncio.run(rows.vouch(record.token, time.time))
    assert found.identity == "home/ana"
    assert found.attributes == {
        "workload.issuer": provider.issuer,
        "region": "eu",
        "trained": True,
    }


def slowly(gateway: GatewayClient, seconds: float) -> int:
    """Read everything, taking so long; how many rows came."""
    batches = gateway.stream("home/a", columns=DIRECT, purpose=PURPOSE, **HOW)
    pause, rows = seconds / len(batches), 0
    for batch in batches:
        rows += len(batch["id"])
        time.sleep(pause)
    return rows


def test_a_running_loader_outlives_every_token_it_has(
    home: Home, laptop: Home, cluster: Provider
) -> None:
    """Three seconds of token, two of lease, four of login; and a token file that is late."""
    assert log_in_as(laptop, "ana")[0] == 0
    person = GatewayClient(settings=laptop.settings)
    path, token = login_file(laptop.settings, person.transport.server), laptop.root / "token"
    before = LoginRecord.read(path).token
    projected(cluster, token)
    job = GatewayClient(settings=replace(laptop.settings, workload_token_file=token))
    found: dict[str, Any] = {}

    def run(name: str, gateway: GatewayClient) -> None:
        try:
            found[name] = slowly(gateway, 7.0)
        except Exception as failed:  # noqa: BLE001 - told by the assertion below
            found[name] = failed

    runs = [threading.Thread(target=run, args=pair) for pair in (("person", person), ("job", job))]
    for each in runs:
        each.start()
    time.sleep(1.5)
    token.unlink()  # somebody mends the cluster
    time.sleep(1.5)
    ended = int(time.time()) - 3600
    token.write_text(cluster.token({**CLUSTER, "iat": ended - 9, "nbf": ended - 9, "exp": ended}))
    time.sleep(2.0)
    projected(cluster, token)
    for each in runs:
        each.join(60)
    assert found == {"person": ROWS, "job": ROWS}
    after = LoginRecord.read(path).token
    assert after != before, "the login was renewed on the way"
    assert claims_of(after)["sub"] == "ana"
