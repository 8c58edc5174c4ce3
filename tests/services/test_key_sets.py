"""Keys of an issuer by URL: whom the gateway asks, how often, and what it does meanwhile."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.crypto.certificates import self_signed
from gateway.errors import ConfigError, NotAuthenticated, Unavailable
from gateway.services import issuers, key_sets, outbound
from gateway.services.outbound import Document, Reach
from tests.crypto.provider import CLUSTER, NOW, Provider
from tests.services.key_server import KeyServer, Page
from tests.services.test_access import run
from tests.services.test_issuers import KEY, TABLE, believe, table

NEW = Provider("RS256", kid="key-2", number=2)
HERE = Reach(loopback=True)
FORBIDDEN = [
    "127.0.0.1", "[::1]", "localhost", "0.0.0.1", "10.0.0.1", "192.168.1.1", "172.16.0.1",
    "169.254.169.254", "100.64.0.1", "100.100.100.200", "168.63.129.16", "224.0.0.1",
    "255.255.255.255", "[fe80::1]", "[fd00:ec2::254]", "[::ffff:127.0.0.1]", "[::ffff:8.8.8.8]",
    "[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::1]", "[2002:7f00:1::]", "[ff02::1]", "[::]", "2130706433",
]  # fmt: skip


@pytest.fixture
def server() -> Iterator[KeyServer]:
    with KeyServer() as started:
        started.pages["/keys"] = Page(KEY.key_set())
        yield started


def by_url(directory: Path, said: str, clock: list[float] | None = None) -> issuers.Issuers:
    """The table with `said` in place of the file."""
    return table(directory, TABLE.replace('jwks = "cluster.jwks"', said), clock)


def here(server: KeyServer, path: str = "/keys") -> str:
    return f'jwks_uri = "{server.url}{path}"\nloopback = true'


def get(url: str, reach: Reach = HERE) -> bytes:
    data: bytes = run(Document.at(url, reach).get())
    return data


# whom it asks


@pytest.mark.parametrize("host", FORBIDDEN)
def test_an_inner_address_is_never_asked(host: str) -> None:
    with pytest.raises(Unavailable, match="may not be asked"):
        get(f"https://{host}/keys", Reach())


def test_a_name_with_one_inner_address_is_never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    async def resolve(_: Any, host: str, *_more: Any, **_given: Any) -> list[Any]:
        asked.append(host)
        return [(2, 1, 6, "", ("93.184.216.34", 443)), (2, 1, 6, "", ("10.0.0.1", 443))]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", resolve)
    with pytest.raises(Unavailable, match="may not be asked"):
        get("https://issuer.example/keys", Reach())
    assert asked == ["issuer.example"]


def test_the_address_that_was_checked_is_the_one_connected_to(
    monkeypatch: pytest.MonkeyPatch, server: KeyServer
) -> None:
    port, asked = int(server.url.rpartition(":")[2]), []

    async def resolve(_: Any, host: str, *_more: Any, **_given: Any) -> list[Any]:
        asked.append(host)
        return [(2, 1, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", resolve)
    assert get(f"http://issuer.example:{port}/keys") == KEY.key_set()
    assert asked == ["issuer.example"], "no second look-up that could have another answer"


def test_a_row_names_the_private_networks_it_needs(tmp_path: Path) -> None:
    at = Document.at("https://10.1.2.3/keys", Reach())
    assert not at._is_permitted("10.1.2.3")
    rows = by_url(tmp_path, 'jwks_uri = "https://10.1.2.3/k"\nnetworks = ["10.1.0.0/16"]')
    named = rows._rows[CLUSTER["iss"]].keys._source._document  # type: ignore[attr-defined]
    assert named._is_permitted("10.1.2.3")
    assert not named._is_permitted("10.2.2.3")
    assert not named._is_permitted("127.0.0.1")


@pytest.mark.parametrize(
    "said",
    [
        'jwks_uri = "http://issuer.example/keys"',
        'jwks_uri = "file:///etc/passwd"\nloopback = true',
        'jwks_uri = "https://user:word@issuer.example/keys"',
        'jwks_uri = "https://issuer.example/keys#x"',
        'jwks_uri = "https://issuer.example/a b"',
        'jwks_uri = "https://issuer.example:99999/keys"',
        'jwks_uri = "https:///keys"',
        'jwks_uri = "https://issuer.example/k"\njwks = "cluster.jwks"',
        'jwks_uri = "https://issuer.example/k"\ndiscovery = true',
        'jwks_uri = "https://issuer.example/k"\nnetworks = ["10.0.0.1/8"]',
        'jwks_uri = "https://issuer.example/k"\nnetworks = [7]',
        'jwks_uri = "https://issuer.example/k"\nnetworks = "10.0.0.0/8"',
        'jwks_uri = "https://issuer.example/k"\nloopback = "yes"',
        'jwks_uri = "https://issuer.example/k"\nca = "missing.pem"',
        'jwks = "cluster.jwks"\nloopback = true',
        "discovery = false",
        "",
    ],
)
def test_a_row_that_would_ask_in_another_way_is_refused(tmp_path: Path, said: str) -> None:
    with pytest.raises(ConfigError):
        by_url(tmp_path, said)


def test_plain_http_is_for_this_machine_alone(server: KeyServer) -> None:
    assert get(f"{server.url}/keys") == KEY.key_set()
    with pytest.raises(Unavailable, match="may not be asked"):
        get("http://93.184.216.34/keys")


def test_https_is_checked_with_the_authority_of_the_row(tmp_path: Path) -> None:
    certificate, key, _ = self_signed(tmp_path, "127.0.0.1", now=time.time())
    with KeyServer((certificate, key)) as server:
        server.pages["/keys"] = Page(KEY.key_set())
        with pytest.raises(Unavailable):
            get(f"{server.url}/keys")
        assert get(f"{server.url}/keys", Reach(loopback=True, authority=certificate))
        assert server.asked == ["/keys"]


# what it takes for an answer


@pytest.mark.parametrize(
    "page",
    [
        Page(b"", status=302, headers={"Location": "/good", "Content-Type": "application/json"}),
        Page(b"", status=500),
        Page(KEY.key_set(), headers={"Content-Type": "text/html"}),
        Page(KEY.key_set(), headers={}),
        Page(KEY.key_set(), length=1 << 20),
        Page(b" " * (400 << 10)),
    ],
)
def test_an_answer_that_is_no_short_json_document_is_refused(server: KeyServer, page: Page) -> None:
    server.pages["/keys"], server.pages["/good"] = page, Page(KEY.key_set())
    with pytest.raises(Unavailable):
        get(f"{server.url}/keys")
    assert server.asked == ["/keys"], "no redirect is followed"


def test_a_chunked_answer_is_read(server: KeyServer) -> None:
    server.pages["/keys"] = Page(KEY.key_set(), length=-1)
    assert get(f"{server.url}/keys") == KEY.key_set()


def test_who_does_not_end_his_answer_is_left(
    server: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbound, "SECONDS_MAX", 0.2)
    server.pages["/keys"].let = threading.Event()
    with pytest.raises(Unavailable, match="in time"):
        get(f"{server.url}/keys")


# how often, and meanwhile


def test_a_start_asks_nobody_and_the_first_token_does(tmp_path: Path, server: KeyServer) -> None:
    rows = by_url(tmp_path, here(server))
    assert server.asked == []
    for _ in range(3):
        assert believe(rows, CLUSTER) == "startup/job"
    assert server.asked == ["/keys"]


def test_a_provider_that_is_down_for_a_day_stops_nobody(tmp_path: Path, server: KeyServer) -> None:
    clock = [float(NOW)]
    rows = by_url(tmp_path, here(server), clock)
    believe(rows, CLUSTER)
    server.stop()
    for _ in range(60):  # ten minutes, a token each ten seconds
        clock[0] += 10
        assert believe(rows, CLUSTER) == "startup/job"
    clock[0] = NOW + key_sets.KEPT_SECONDS
    assert believe(rows, CLUSTER) == "startup/job"
    clock[0] += 1
    with pytest.raises(Unavailable):
        believe(rows, CLUSTER)
    server.start()
    clock[0] += key_sets.RETRY_SECONDS + 1
    assert believe(rows, CLUSTER) == "startup/job"


def test_without_any_keys_nobody_is_believed(tmp_path: Path, server: KeyServer) -> None:
    rows = by_url(tmp_path, here(server))
    server.stop()
    with pytest.raises(Unavailable):
        believe(rows, CLUSTER)


def test_a_new_key_is_found_at_once_and_a_withdrawn_one_forgotten(
    tmp_path: Path, server: KeyServer
) -> None:
    clock = [float(NOW)]
    rows = by_url(tmp_path, here(server), clock)
    believe(rows, CLUSTER)
    server.pages["/keys"] = Page(NEW.key_set())
    clock[0] += key_sets.RETRY_SECONDS + 1
    assert believe(rows, CLUSTER, NEW) == "startup/job"
    with pytest.raises(NotAuthenticated):
        believe(rows, CLUSTER)
    server.pages["/keys"] = Page(KEY.key_set())
    clock[0] += key_sets.FRESH_SECONDS + 1
    with pytest.raises(NotAuthenticated):
        believe(rows, CLUSTER, NEW)


def test_unknown_keys_make_the_provider_asked_once_in_a_while(
    tmp_path: Path, server: KeyServer
) -> None:
    clock = [float(NOW)]
    rows = by_url(tmp_path, here(server), clock)
    for _ in range(50):
        with pytest.raises(NotAuthenticated):
            believe(rows, CLUSTER, NEW)
    assert server.asked == ["/keys"]
    clock[0] += key_sets.RETRY_SECONDS + 1
    with pytest.raises(NotAuthenticated):
        believe(rows, CLUSTER, NEW)
    assert server.asked == ["/keys"] * 2


@pytest.mark.parametrize("harm", [b"{", b'{"keys": []}', b'{"keys": [{"kty": "oct", "k": "x"}]}'])
def test_an_unusable_answer_leaves_the_last_good_keys(
    tmp_path: Path, server: KeyServer, harm: bytes
) -> None:
    clock = [float(NOW)]
    rows = by_url(tmp_path, here(server), clock)
    believe(rows, CLUSTER)
    server.pages["/keys"] = Page(harm)
    clock[0] += key_sets.FRESH_SECONDS + 1
    assert believe(rows, CLUSTER) == "startup/job"
    assert server.asked == ["/keys"] * 2


def test_a_clock_that_went_back_has_the_keys_looked_at_again(
    tmp_path: Path, server: KeyServer
) -> None:
    clock = [float(NOW)]
    rows = by_url(tmp_path, here(server), clock)
    believe(rows, CLUSTER)
    clock[0] -= 3600
    believe(rows, CLUSTER)
    assert server.asked == ["/keys"] * 2


def test_many_at_once_wait_for_one_answer_while_the_gateway_goes_on(
    tmp_path: Path, server: KeyServer
) -> None:
    rows, let = by_url(tmp_path, here(server)), threading.Event()
    server.pages["/keys"].let = let
    token = KEY.token(CLUSTER)

    async def go() -> list[issuers.Vouched]:
        asking = [asyncio.create_task(rows.vouch(token, lambda: NOW)) for _ in range(20)]
        while not server.asked:  # noqa: ASYNC110 - it is asked in another thread
            await asyncio.sleep(0.01)  # the loop is not held up
        asking.pop().cancel()  # and whoever leaves takes nobody along
        await asyncio.sleep(0)
        let.set()
        return await asyncio.gather(*asking)

    assert [found.identity for found in run(go())] == ["startup/job"] * 19
    assert server.asked == ["/keys"]


# discovery


def discovered(directory: Path, server: KeyServer, **said: Any) -> tuple[issuers.Issuers, Any]:
    document = {"issuer": server.url, "jwks_uri": f"{server.url}/keys", **said}
    server.pages["/.well-known/openid-configuration"] = Page(json.dumps(document).encode())
    text = TABLE.replace('jwks = "cluster.jwks"', "discovery = true\nloopback = true")
    rows = table(directory, text.replace(CLUSTER["iss"], server.url))
    return rows, {**CLUSTER, "iss": server.url}


def test_an_issuer_says_itself_where_its_keys_are(tmp_path: Path, server: KeyServer) -> None:
    rows, claims = discovered(tmp_path, server)
    assert believe(rows, claims) == "startup/job"
    assert server.asked == ["/.well-known/openid-configuration", "/keys"]


@pytest.mark.parametrize(
    "said",
    [
        {"issuer": "https://other.example"},
        {"issuer": None},
        {"jwks_uri": "https://other.example/keys"},
        {"jwks_uri": "http://127.0.0.1:1/keys"},
        {"jwks_uri": "http://169.254.169.254/keys"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": 7},
    ],
)
def test_a_discovery_document_of_or_to_another_is_refused(
    tmp_path: Path, server: KeyServer, said: dict[str, Any]
) -> None:
    rows, claims = discovered(tmp_path, server, **said)
    with pytest.raises(Unavailable):
        believe(rows, claims)
    assert server.asked == ["/.well-known/openid-configuration"]


def test_keys_on_another_host_than_the_issuers_are_not_asked_for(
    tmp_path: Path, server: KeyServer
) -> None:
    """It would serve them: the table alone says whom the gateway asks."""
    with KeyServer() as other:
        other.pages["/keys"] = Page(KEY.key_set())
        rows, claims = discovered(tmp_path, server, jwks_uri=f"{other.url}/keys")
        with pytest.raises(Unavailable):
            believe(rows, claims)
        assert other.asked == []
