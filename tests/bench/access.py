"""Tokens: what an exchange costs and a verification, how fast a revocation acts, a provider down.

The exchange is a whole one over HTTP on a real gateway: proof, subject token, decision between two
tenants, durable Grant, durable record of the token, signature; each makes a Grant of its own. Its
requests are signed before the clock runs, so that the client is not measured.
Prints one JSON line per metric (see report.py); exits 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import cryptography
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gateway.client import GatewayClient
from gateway.config import Settings
from gateway.crypto import jws
from gateway.crypto.identity_keys import IdentityKey
from gateway.crypto.signing import Signer
from gateway.crypto.token_cache import VerifiedTokens
from gateway.crypto.tokens import TokenClaims, mint, verify
from gateway.domain.dataset import DatasetRef
from gateway.domain.events import EventKind
from gateway.errors import GatewayError, Unavailable
from gateway.policy.write import RuleWish, write_rule
from gateway.services import issuers, key_sets
from gateway.wire.tokens import GRANT_TOKEN_EXCHANGE
from tests.crypto.provider import CLUSTER, GATEWAY, NOW, Provider
from tests.journeys.audit import events
from tests.journeys.home import Home
from tests.journeys.story import DIRECT, HOW, PURPOSE, Story

CONNECTIONS = 16
DOWN_SECONDS = 600
_TABLE = f"""
[[issuer]]
issuer = "{CLUSTER["iss"]}"
audience = "{GATEWAY}"
algorithms = ["RS256"]
jwks_uri = "https://provider.example/jwks.json"
tenant = "startup"
[[issuer.identity]]
name = "job"
claims = {{ sub = "{CLUSTER["sub"]}" }}
"""


@dataclass(frozen=True, slots=True)
class Metric:
    """One line."""

    name: str
    value: float
    unit: str
    goal: str
    ok: bool
    runs: int

    def line(self) -> str:
        return json.dumps(
            {
                "bench": "access",
                "metric": self.name,
                "value": self.value,
                "unit": self.unit,
                "goal": self.goal,
                "ok": self.ok,
                "runs": self.runs,
            }
        )


def verification(runs: int) -> Iterator[Metric]:
    """A token with its signature, and the same one again; in one process, interleaved."""
    signer, now = Signer(b"\x01" * 32, "token"), int(time.time())
    keys = {signer.key_id: signer.public_key}
    claims = TokenClaims(
        issuer=GATEWAY, audience=GATEWAY, subject="startup/ml", type="job", jti="j" * 22,
        issued_at=now, expires_at=now + 600, thumbprint="t" * 43, grant="grant_" + "a" * 26,
        decision="dec_" + "a" * 26, run="startup:slurm-1", plan_digest="0" * 64, policy_epoch=7,
        parents=("p" * 22,),
    )  # fmt: skip
    token, known = mint(signer, claims), VerifiedTokens()

    def cold(text: str) -> TokenClaims:
        return verify(text, keys, GATEWAY, time.time)

    def cached() -> object:
        return known.claims_of(token, time.time(), cold)

    def bare() -> None:
        text, _, signature = token.rpartition(".")
        peer = Ed25519PublicKey.from_public_bytes(signer.public_key)
        peer.verify(jws.unb64url(signature), text.encode("ascii"))

    cached()
    taken: dict[str, list[float]] = {"cold": [], "bare": [], "cached": []}
    for _ in range(runs):
        taken["cold"].append(_microseconds(lambda: cold(token), 200))
        taken["bare"].append(_microseconds(bare, 200))
        taken["cached"].append(_microseconds(cached, 5_000))
    for name, goal in (("cached", 5), ("cold", 150)):
        value = round(statistics.median(taken[name]), 2)
        yield Metric(f"verify a token, {name}", value, "us", f"<= {goal} us", value <= goal, runs)
    pairs = zip(taken["cold"], taken["bare"], strict=True)
    ratio = round(statistics.median(ours / theirs for ours, theirs in pairs), 2)
    peer = f"verify a token, cold / bare Ed25519 of cryptography {cryptography.__version__}"
    yield Metric(peer, ratio, "x", "<= 2 x", ratio <= 2, runs)


def _microseconds(act: Callable[[], object], times: int) -> float:
    """Of processor time: whoever else uses the machine is not measured."""
    begun = time.process_time()
    for _ in range(times):
        act()
    return (time.process_time() - begun) / times * 1e6


async def provider_down(directory: Path) -> Metric:
    """Every second for ten minutes of a simulated clock a job comes with a key that is known."""
    clock, provider = [float(NOW)], Provider("RS256")

    class Down:
        """Answered once."""

        asked = 0

        async def get(self) -> bytes:
            self.asked += 1
            if self.asked > 1:
                raise Unavailable("the provider is down")
            return provider.key_set()

    (directory / issuers.FILE).write_text(_TABLE, "utf-8")
    table = issuers.load(Settings(config_dir=directory), lambda: clock[0])
    source = Down()
    keys = key_sets.FetchedKeys(source, lambda: clock[0])  # type: ignore[arg-type]
    object.__setattr__(table._rows[CLUSTER["iss"]], "keys", keys)
    failures = 0
    for second in range(DOWN_SECONDS + 1):
        clock[0] = float(NOW + second)
        try:
            await table.vouch(provider.token(CLUSTER), lambda: clock[0])
        except GatewayError:
            failures += 1
    assert source.asked > DOWN_SECONDS / key_sets.RETRY_SECONDS / 4, "it was asked in vain"
    return Metric(
        f"provider down {DOWN_SECONDS} s, known key: tokens refused",
        failures, "of 601", "0", failures == 0, 1,
    )  # fmt: skip


@contextlib.contextmanager
def served() -> Iterator[tuple[Home, Story]]:
    """A gateway whose tenant `home` lets trainers of `startup` stream `home/a`."""
    with tempfile.TemporaryDirectory() as directory:
        home = Home.make(Path(directory))
        try:
            home.start()
            story = Story(home)
            for step in ("register", "publish"):
                story.do(step, "a")
            _invite(home, story)
            yield home, story
        finally:
            home.end()


def _invite(home: Home, story: Story) -> None:
    operator = home.client(home.settings.config_dir / "operator.json")
    operator.tenants.add("startup")
    for tenant in ("startup", "home"):
        operator.tenants.update(tenant, requests_per_minute=10_000_000)
    key = IdentityKey.create(home.root / "ml.json", "startup/ml")
    operator.identities.add("startup/ml", public_key=key.public_text, roles=["trainer"], type="job")
    wish = RuleWish(
        dataset=DatasetRef.parse("home/a"),
        allow=("stream",),
        to=("startup/role:trainer",),
        purpose=(PURPOSE,),
        columns=("id", "x", "s"),
    )
    files = dict(story.gateway.policies.show("home").files)
    written = {f"invited-{name}": text.replace("home.a.", "home.invited.", 1)
               for name, text in write_rule(wish, now=time.time()).files.items()}  # fmt: skip
    story.gateway.policies.push({**files, **written}, tenant="home")


def requests_of(client: GatewayClient, number: int) -> list[bytes]:
    """Exchanges that are signed and ready to send."""
    transport = client.transport
    place = urlsplit(transport.server)
    detail = {"type": "dataset_access", "dataset": "home/a", "purpose": PURPOSE, "columns": DIRECT}
    form = {
        "grant_type": GRANT_TOKEN_EXCHANGE,
        "subject_token": transport.api_token(),
        "authorization_details": json.dumps([detail]),
    }
    body = urlencode(form)
    transport.learn_nonce()
    head = (
        f"POST /oauth/token HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Length: {len(body)}\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\nDPoP: "
    )
    url = f"{transport.server}/oauth/token"
    return [
        f"{head}{transport.proof('POST', url)}\r\n\r\n{body}".encode("ascii") for _ in range(number)
    ]


async def sent(host: str, port: int, todo: Iterator[bytes], taken: list[float]) -> None:
    """Send on one connection what is left to do, each as soon as the last was answered."""
    reader, writer = await asyncio.open_connection(host, port)
    for request in todo:
        begun = time.perf_counter()
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        body = await reader.readexactly(length)
        taken.append(time.perf_counter() - begun)
        if not head.startswith(b"http/1.1 200") or b'"grant":"grant_' not in body:
            raise SystemExit(body.decode())
    writer.close()


async def _all(server: str, requests: list[bytes], connections: int) -> tuple[list[float], float]:
    place, todo, taken = urlsplit(server), iter(requests), list[float]()
    host, port = str(place.hostname), int(place.port or 80)
    begun = time.perf_counter()
    await asyncio.gather(*(sent(host, port, todo, taken) for _ in range(connections)))
    return taken, time.perf_counter() - begun


def exchange(home: Home, runs: int, number: int) -> Iterator[Metric]:
    """One after the other, and from sixteen at once; interleaved."""
    client = home.client(home.root / "ml.json")
    server, single = client.transport.server, list[float]()
    rates, capacities = list[float](), list[float]()
    for _ in range(runs):
        taken, _ = asyncio.run(_all(server, requests_of(client, number // 4), 1))
        single += taken
        todo, busy = requests_of(client, number), _processor_seconds(home)
        _, seconds = asyncio.run(_all(server, todo, CONNECTIONS))
        rates.append(number / seconds)
        capacities.append(number / (_processor_seconds(home) - busy))
    milliseconds = round(statistics.median(single) * 1e3, 2)
    rate = round(statistics.median(rates))
    yield Metric("exchange, one at a time, p50", milliseconds, "ms", "<= 15 ms",
                 milliseconds <= 15, len(single))  # fmt: skip
    yield Metric(f"exchange, {CONNECTIONS} connections", rate, "/s", ">= 300/s", rate >= 300, runs)
    capacity = round(statistics.median(capacities))
    yield Metric("exchange, per second of control's processor time", capacity, "/s", ">= 300/s",
                 capacity >= 300, runs)  # fmt: skip


def _processor_seconds(home: Home) -> float:
    control = home.find("control")
    assert control is not None
    fields = Path(f"/proc/{control.pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def revocation(home: Home, story: Story, runs: int) -> Iterator[Metric]:
    """Streams under way end; what the journal has of them afterwards."""
    owner, trainer, slowest, ended = story.gateway, home.client(home.root / "ml.json"), [], []
    for number in range(runs):
        how: dict[str, Any] = {**HOW, "run": f"run:stop-{number}", "purpose": PURPOSE}
        stream = trainer.stream("home/a", columns=DIRECT, **how)
        next(iter(stream))
        (grant,) = owner.grants.list(run=f"startup:stop-{number}")
        done = owner.grants.revoke(grant.id, reason="bench")
        slowest.append(done.slowest_ms)
        ended.append((grant.id, done.streams_stopped))
        with contextlib.suppress(GatewayError):
            list(stream)
        stream.close()
    assert all(streams == 1 for _, streams in ended), "each stream was running"
    home.stop()
    late = _intents_after_the_end({grant for grant, _ in ended}, home)
    worst = round(max(slowest), 2)
    yield Metric("revoke to last byte, slowest", worst, "ms", "<= 100 ms", worst <= 100, runs)
    yield Metric("intents after the revocation", late, "intents", "0", late == 0, runs)


def _intents_after_the_end(grants: set[str], home: Home) -> int:
    late, over = 0, set[str]()
    for event in events(home.settings):
        if event.kind is EventKind.GrantRevoked:
            over |= grants & set(event.facts["grants"])
        elif event.kind is EventKind.SegmentIntent:
            late += event.facts["grant"] in over
    assert over == grants
    return late


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON line per metric (always)")
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    found = list(verification(5 if quick else 41))
    with tempfile.TemporaryDirectory() as directory:
        found.append(asyncio.run(provider_down(Path(directory))))
    with served() as (home, story):
        found += exchange(home, 1 if quick else 7, 200 if quick else 1200)
        found += revocation(home, story, 2 if quick else 11)
    for metric in found:
        print(metric.line())
    return 0 if all(metric.ok for metric in found) else 1


if __name__ == "__main__":
    sys.exit(main())
