"""Kill control at every named step of registration, and check the whole home afterwards.

    python -m tests.crashes.campaign --kills 200 --seed 1

One registration is killed at several steps, one after the other, in one of two scenes.
*Patient*: the real client registers while controls die and come back under it. *Alone*: nobody
follows a dead control; the doctor finds what lies around and may remove it; then a client
repeats the request under the same Idempotency-Key. After either there is exactly one more
version, equal to its source, and nothing else. Exits 1 at the first broken promise.
"""

from __future__ import annotations

import argparse
import random
import signal
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
# In one chain of kills: what comes only before all parts are there, and what may be the end of it.
FIRST = ("register.begun", "disk.part", "register.part")
LAST = (
    "register.recorded", "register.durable", "register.staging-gone", "register.parts-gone",
    "disk.journal", "disk.journal-sync", "disk.anchor", "disk.snapshot",
)  # fmt: skip
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Kill:
    """One control's end."""

    step: str
    hit: int = 1

    @property
    def armed(self) -> dict[str, Any]:
        """The order for it; a step that only a failing store leads to gets that too."""
        armed = killed_at(self.step, self.hit)
        if self.step == "register.take-back":
            armed["fail"] = {"steps": ["register.objects"], "errno": 28, "while": "/"}
        return armed

    def __str__(self) -> str:
        """Its step, and which time."""
        return self.step if self.hit == 1 else f"{self.step} ({self.hit})"


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
        for chain in self._chains():
            started = time.monotonic()
            scene = self._alone if self.rng.random() < 0.5 else self._patient
            scene(chain)
            self.acts += 1
            self.place.check()
            seconds, steps = time.monotonic() - started, ", ".join(map(str, chain))
            self.say(f"{self.done.kills:4} {scene.__name__[1:]}: {steps}: {seconds:.1f} s")
            if self.done.kills >= kills and self.acts >= len(LAST):
                break
        return self.done

    def _chains(self) -> Iterator[list[Kill]]:
        """Kills of one registration each, in an order in which every one is reached."""
        others, ends = [step for step in KILLS if step not in LAST], list(LAST)
        self.rng.shuffle(others)
        self.rng.shuffle(ends)
        for n, last in enumerate(ends):
            yield [Kill(step) for step in (*_sorted(others[n :: len(LAST)]), last)]
        while True:
            steps = (*_sorted(self.rng.sample(others, self.rng.randint(0, 2))), self._any(LAST))
            chain = [Kill(step, self.rng.randint(1, MANY.get(step, 1))) for step in steps]
            if self.rng.random() < 0.4:
                chain.insert(self.rng.randint(1, len(chain)), Kill(self._any(STARTS)))
            yield chain

    def _any(self, steps: tuple[str, ...]) -> str:
        return self.rng.choice(steps)

    def _patient(self, chain: list[Kill]) -> None:
        name, source = self._next(chain)
        with self.place.dying(*(kill.armed for kill in chain)):
            made = _until_made(self.place.client(), name, source)
        self._count(chain, self.place.deaths)
        self.place.versions[f"{name}@{made}"] = source

    def _alone(self, chain: list[Kill]) -> None:
        name, source = self._next(chain)
        key = f"key-{self.acts}"
        for kill in chain:
            with self.place.doomed(kill.armed), suppress(GatewayError):
                register_under(self.place.hasty_client(), key, name, source)
            self._count([kill], self.place.deaths)
            found = self.place.leftovers()
            left = self.place.was_killed and kill.step in LEAVE
            assert not left or "sheet" in found, f"{kill}: {found}"
            if found and self.rng.random() < 0.5:
                self.place.repair()
                self.done.repaired += 1
                assert self.place.leftovers() == ""
        with self.place.living():
            version = register_under(self.place.client(), key, name, source)
            again = register_under(self.place.client(), key, name, source)
        assert again == version
        self.place.versions[f"{name}@{version}"] = source

    def _next(self, chain: list[Kill]) -> tuple[str, pa.Table]:
        """A dataset, new or not (only a new one gets KEKs), and what its next version will be."""
        is_new = any(kill.step == "register.kek" for kill in chain)
        name = f"new{self.acts}" if is_new else f"{self._any(tuple('abcdef'))}{self.acts // 40}"
        return f"home/{name}", table(self.rng.randint(2000, 9000), self.acts)

    def _count(self, chain: list[Kill], deaths: list[int]) -> None:
        for kill, death in zip(chain, deaths, strict=False):
            if death == -signal.SIGKILL:
                self.done.kills += 1
                self.done.by_step[kill.step] += 1


def _sorted(steps: list[str]) -> list[str]:
    """What is reached only at the beginning of a registration comes first."""
    return sorted(steps, key=lambda step: FIRST.index(step) if step in FIRST else len(FIRST))


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
