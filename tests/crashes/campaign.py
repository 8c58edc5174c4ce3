"""Kill control at every named step of registration, and check the whole home after each kill.

    python -m tests.crashes.campaign --kills 200 --seed 1

Two scenes. *Patient*: the real client registers while controls die and come back under it.
*Alone*: nobody follows the dead control; the doctor finds what lies around and removes it; then
a client repeats the request under the same Idempotency-Key. After either there is exactly one
more version, equal to its source, and nothing else. Exits 1 at the first broken promise.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

import gateway.wire as W
from gateway.client import GatewayClient
from gateway.errors import GatewayError
from gateway.failpoints import STEPS
from gateway.wire import codec
from tests.crashes.place import Place, killed_at, table

STARTS = tuple(step for step in STEPS if step.startswith("start."))
KILLS = tuple(step for step in STEPS if step.startswith(("register.", "disk.")))
MANY = {  # how often such a step comes in one life, so that a later time is chosen too
    "register.part": 3, "register.object": 4, "disk.part": 3, "disk.object-name": 4,
    "disk.private-file": 4, "disk.journal": 4, "disk.journal-sync": 4, "disk.anchor": 4,
}  # fmt: skip
LEAVE = {"register.sheet", "register.object", "register.objects", "register.manifest"}
Say = Callable[[str], None]


@dataclass(slots=True)
class Done:
    """What a campaign did."""

    kills: int = 0
    by_step: Counter[str] = field(default_factory=Counter)
    repaired: int = 0
    found_done: int = 0  # a repeated request found its version there


@dataclass(slots=True)
class Campaign:
    """One home, and chance."""

    place: Place
    rng: random.Random
    say: Say = print
    done: Done = field(default_factory=Done)
    acts: int = 0

    def play(self, kills: int) -> Done:
        """Each step once, then any; until so many were killed."""
        for step in self._steps():
            started = time.monotonic()
            scene = self._alone if self.rng.random() < 0.5 else self._patient
            hit = 1 if self.acts < len(KILLS) else self.rng.randint(1, MANY.get(step, 1))
            self.acts += 1
            scene(step, hit)
            self.place.check()
            seconds = time.monotonic() - started
            self.say(f"{self.done.kills:4} {step} ({hit}), {scene.__name__[1:]}: {seconds:.1f} s")
            if self.done.kills >= kills and self.acts >= len(KILLS):
                return self.done
        return self.done

    def _steps(self) -> Iterator[str]:
        order = list(KILLS)
        self.rng.shuffle(order)
        yield from order
        while True:
            yield self.rng.choice(KILLS)

    def _patient(self, step: str, hit: int) -> None:
        name, source = self._next()
        lives = [_armed(step, hit)]
        if self.rng.random() < 0.4:
            lives.append(killed_at(self.rng.choice(STARTS)))
        with self.place.dying(*lives):
            made = _until_made(self.place.client(), name, source)
        self._count(step)
        self.place.versions[f"{name}@{made}"] = source

    def _alone(self, step: str, hit: int) -> None:
        name, source = self._next()
        key = f"key-{self.acts}"
        with self.place.doomed(_armed(step, hit)), suppress(GatewayError):
            register_under(self.place.hasty_client(), key, name, source)
        was_killed = self.place.was_killed
        self._count(step)
        found = self.place.leftovers()
        assert not (was_killed and step in LEAVE) or "sheet" in found, f"{step}: {found}"
        if found and self.rng.random() < 0.7:
            self.place.repair()
            self.done.repaired += 1
            assert self.place.leftovers() == ""
        with self.place.living():
            version = register_under(self.place.client(), key, name, source)
            again = register_under(self.place.client(), key, name, source)
        assert again == version
        self.place.versions[f"{name}@{version}"] = source

    def _next(self) -> tuple[str, pa.Table]:
        """A dataset, new or not, and what its next version will be."""
        name = f"home/{self.rng.choice('abcdef')}{self.acts // 40}"
        return name, table(self.rng.randint(2000, 9000), self.acts)

    def _count(self, step: str) -> None:
        if self.place.was_killed:
            kills = self.place.deaths.count(-9)
            self.done.kills += kills
            self.done.by_step[step] += 1


def _armed(step: str, hit: int) -> dict[str, Any]:
    """Killed at a step; one that only a failing store leads to gets that too."""
    armed = killed_at(step, hit)
    if step == "register.take-back":
        armed["fail"] = {"steps": ["register.objects"], "errno": 28, "while": "/"}
    return armed


def _until_made(client: GatewayClient, name: str, source: pa.Table) -> int:
    """Register with the real client; a gateway that is away for long is no reason to end."""
    return int(client.datasets.register(name, source, splits=SPLITS).version)


SPLITS = {"train": 0.6, "test": 0.4}


def register_under(client: GatewayClient, key: str, name: str, source: pa.Table) -> int:
    """What any client does that repeats a registration under its Idempotency-Key."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, source.schema) as writer:
        writer.write_table(source)
    data = sink.getvalue().to_pybytes()
    wanted = W.RegistrationRequest(
        dataset=name, files=(W.SourceFile(name="t", bytes=len(data)),), splits=SPLITS
    )
    reply = client.transport.request(
        "POST", "/v1/registrations", json=wanted, headers={"Idempotency-Key": key}
    )
    # The first answer may come again, word for word: ask what has become of it since.
    now = client.get(f"/v1/registrations/{reply.json()['id']}")
    begun = codec.decode_reply(W.Registration, now)
    if begun.state == "open":
        arrived = {part.n for part in begun.parts_received}
        for n, start in enumerate(range(0, len(data), begun.part_bytes_max)):
            if n not in arrived:
                path = f"/v1/registrations/{begun.id}/parts/{n}"
                part = data[start : start + begun.part_bytes_max]
                client.transport.request("PUT", path, query={"file": 0}, body=part)
    operation = client.post(f"/v1/registrations/{begun.id}/commit")
    return int(client.finished(operation).result["version"])


def main() -> None:
    """The long form."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    asked = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="gateway-crashes-"))
    print(f"seed {asked.seed}, home {root}", flush=True)
    place = Place.make(root)
    campaign = Campaign(place, random.Random(asked.seed), lambda line: print(line, flush=True))
    try:
        print(campaign.play(asked.kills))
    finally:
        place.end()


if __name__ == "__main__":
    main()
