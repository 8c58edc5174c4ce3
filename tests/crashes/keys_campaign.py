"""Kill control at every step of rotation and erasure, while it serves and while it starts.

    python -m tests.crashes.keys_campaign --kills 200 --seed 1

An owner renews keys or erases a column, a version or a dataset; control is killed at a step;
the next controls are killed while their start finishes the work; the one after them serves.
After each kill everything that nobody erased can be read. In the end what was erased is gone,
for ever, with one certificate; its grants are revoked and no others; objects, sheets, KEKs and
rings are exactly those of what there is. Exits 1 at the first broken promise.
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

import pyarrow as pa

from connectors.kms.local_file import LocalFileKms
from gateway.client import GatewayClient
from gateway.crypto.keyring import Keyring
from gateway.domain.dataset import DatasetRef
from gateway.errors import GatewayError, KeyUnavailable, NotFound
from gateway.failpoints import STEPS
from tests.crashes.place import Place, killed_at

KILLS = tuple(step for step in STEPS if step.startswith(("rotate.", "erase.")))
# In the order in which a start comes by while it finishes the work; the last one ends it.
FINISHING = {
    "kek": ("rotate.sheets", "rotate.keks-recorded", "rotate.keks-gone"),
    "root": ("rotate.ring", "rotate.recorded", "rotate.root-gone"),
    "erase": (
        "erase.sheets", "erase.root", "rotate.ring", "rotate.recorded", "rotate.root-gone",
        "erase.destroyed", "erase.objects", "erase.certificate", "erase.certified",
    ),
}  # fmt: skip
KIND = {"rotate.keks": "kek", "rotate.root": "root"}
KIND |= {step: kind for kind in ("erase", "root", "kek") for step in FINISHING[kind]}
EXTRA = tuple(f"c{n}" for n in range(8))  # columns that may be erased
RULES = f"""
format: gateway-policy/v0
rules:
  - id: home.everything
    kind: allow
    principals: [home/role:trainer]
    scope: tenant:home
    actions: [stream]
    purpose: [research]
    columns: [id, {", ".join(EXTRA)}]
"""
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Target:
    """What an erasure names."""

    dataset: str  # tenant/name
    version: int | None = None  # None: all
    column: str | None = None

    def __str__(self) -> str:
        """As a person would say it."""
        what = self.dataset if self.version is None else f"{self.dataset}@{self.version}"
        return what if self.column is None else f"{self.column} of {what}"

    def hits(self, name: str) -> bool:
        """Whether it names this `tenant/name@version`."""
        ref = DatasetRef.parse(name)
        return str(ref.unversioned) == self.dataset and self.version in (None, ref.version)


@dataclass(slots=True)
class Done:
    """What a campaign did."""

    kills: int = 0
    by_step: Counter[str] = field(default_factory=Counter)
    at_starts: int = 0
    erasures: int = 0


@dataclass(slots=True)
class KeysCampaign:
    """One home whose datasets come and go, and chance."""

    place: Place
    rng: random.Random
    say: Say = print
    done: Done = field(default_factory=Done)
    names: int = 0
    grants: dict[str, str] = field(default_factory=dict)  # id -> version; those that stand
    revoked: set[str] = field(default_factory=set)

    def play(self, kills: int) -> Done:
        """Each step once, then any; until so many were killed."""
        with self.place.living():
            policies = self.place.client().policies
            roles = policies.show("home").files
            policies.push({**roles, "everything.yaml": RULES}, tenant="home")
        for n, step in enumerate(self._steps()):
            started = time.monotonic()
            self._furnish()
            what = self._rotate(step) if step.startswith("rotate.") else self._erase(step)
            self.place.check()
            self._check_grants()
            self.say(f"{self.done.kills:4} {what}: {time.monotonic() - started:.1f} s")
            if self.done.kills >= kills and n >= len(KILLS) - 1:
                break
        return self.done

    def _steps(self) -> Iterator[str]:
        order = list(KILLS)
        self.rng.shuffle(order)
        yield from order
        while True:
            yield self.rng.choice(KILLS)

    def _rotate(self, step: str) -> str:
        kind = KIND[step]
        starts = self._kill(step, kind, lambda owner: owner.keys.rotate(kind=kind))
        with self.place.living():
            states = {key.state for key in self.place.client().keys.list()}
            assert states == {"in use"}
        return f"{kind} killed at {step}, {starts}"

    def _erase(self, step: str) -> str:
        target = self._target(step)
        ring = (self.place.settings.state_dir / "vault" / "rings" / "home.json").read_bytes()
        gone = self._expect(target)
        starts = self._kill(step, "erase", lambda owner: erase(owner, target), gone)
        self.done.erasures += 1
        with self.place.living():
            owner = self.place.client()
            told = erase(owner, target)
            assert erase(owner, target) == told, "another certificate"
            for name in () if target.column else gone:
                with suppress(NotFound):
                    owner.datasets.show(name)
                    raise AssertionError(f"`{name}` is there again")
        with suppress(KeyUnavailable):
            Keyring.open(ring, "home", LocalFileKms(self.place.settings.config_dir / "roots"))
            raise AssertionError("a ring from before the erasure still opens")
        return f"{target} killed at {step}, {starts}"

    def _kill(
        self, step: str, kind: str, act: Callable[[GatewayClient], object],
        gone: tuple[str, ...] = (),
    ) -> str:  # fmt: skip
        """Killed at `step` while it serves, then perhaps while starts finish the work."""
        order = FINISHING[kind]
        with self.place.doomed(killed_at(step)), suppress(GatewayError):
            act(self.place.hasty_client())
        assert self.place.was_killed, f"{step} was not reached"
        self._count(step)
        starts = []
        while step != order[-1] and self.rng.random() < 0.6:
            step = self.rng.choice(order)
            self._check_half(gone)
            with self.place.doomed(killed_at(step)):
                pass
            assert self.place.was_killed, f"{step} was not reached by a start"
            self._count(step)
            self.done.at_starts += 1
            starts.append(step)
        self._check_half(gone)
        return f"then {' and '.join(starts) or 'finished'}"

    def _count(self, step: str) -> None:
        self.done.kills += 1
        self.done.by_step[step] += 1

    def _check_half(self, gone: tuple[str, ...]) -> None:
        """In the middle of it: nothing else is lost, and the erased is not there any more."""
        with self.place.opened() as house:
            there = [v for d in house.catalog.datasets() for v in d.versions]
        names = {str(version.ref) for version in there}
        names |= {f"{version.ref}.{column.name}" for version in there for column in version.columns}
        assert not names & set(gone)
        self.place.check_readable()

    # What there is to erase

    def _furnish(self) -> None:
        """Two datasets that can go whole or by version, and columns."""
        while len({name.partition("@")[0] for name in self.place.versions}) < 3:
            self.names += 1
            name = f"home/d{self.names}"
            with self.place.living():
                for version in range(2):
                    self._register(name, is_appended=version > 0 and self.rng.random() < 0.5)

    def _register(self, name: str, *, is_appended: bool) -> None:
        owner = self.place.client()
        rows = wide(self.rng.randint(20, 200), first=1000 if is_appended else 0)
        made = owner.datasets.register(name, rows, append=is_appended)
        ref = f"{name}@{made.version}"
        if is_appended:
            rows = pa.concat_tables([self.place.versions[f"{name}@{made.version - 1}"], rows])
        self.place.versions[ref] = rows
        token = owner.tokens.request(ref, purpose="research", columns=["id", *EXTRA])
        self.grants[token.grant] = ref

    def _target(self, step: str) -> Target:
        """Something whose erasure comes by that step."""
        dataset = self.rng.choice(sorted(self.place.versions)).partition("@")[0]
        sources = {n: t for n, t in self.place.versions.items() if Target(dataset).hits(n)}
        versions = sorted(DatasetRef.parse(name).version or 0 for name in sources)
        columns = set(EXTRA).intersection(*(source.column_names for source in sources.values()))
        found = []
        if step != "erase.keks":  # of what survives
            found.append(Target(dataset))
        if len(versions) > 1:  # the newest has a shard of its own, appended or not
            newest, some = versions[-1], self.rng.choice(versions)
            found.append(Target(dataset, newest if step == "erase.object" else some))
        if columns and step != "erase.object":
            found += [Target(dataset, None, self.rng.choice(sorted(columns)))] * 3
        return self.rng.choice(found) if found else self._target(step)

    def _expect(self, target: Target) -> tuple[str, ...]:
        """Take it out of what must be there; the versions or columns that must not."""
        hit = [name for name in self.place.versions if target.hits(name)]
        for name in hit:
            if target.column is None:
                del self.place.versions[name]
            else:
                left = self.place.versions[name].drop_columns([target.column])
                self.place.versions[name] = left
        for grant, name in list(self.grants.items()):
            if name in hit:
                del self.grants[grant]
                self.revoked.add(grant)
        return tuple(hit if target.column is None else (f"{n}.{target.column}" for n in hit))

    def _check_grants(self) -> None:
        with self.place.opened() as house:
            assert not house.catalog.leases()
            found = {grant.id: bool(grant.revoked) for grant in house.catalog.grants()}
        assert found == dict.fromkeys(self.grants, False) | dict.fromkeys(self.revoked, True)


def erase(owner: GatewayClient, target: Target) -> dict[str, object]:
    """As the owner says it; what the certificate says."""
    name = target.dataset if target.version is None else f"{target.dataset}@{target.version}"
    columns = [target.column] if target.column else []
    return owner.datasets.erase(name, columns=columns, yes=True, reason="consent ended").to_dict()


def wide(rows: int, *, first: int) -> pa.Table:
    """Rows with columns that may go; the other ones stay, so that no version is without any."""
    made = pa.table({"id": pa.array(range(first, first + rows), pa.int64())})
    for name in EXTRA:
        made = made.append_column(name, pa.array([f"{name} {first + i}" for i in range(rows)]))
    return made


def main() -> None:
    """The long form."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    asked = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="gateway-crashes-"))
    print(f"seed {asked.seed}, home {root}", flush=True)
    place = Place.make(root)
    campaign = KeysCampaign(place, random.Random(asked.seed), lambda line: print(line, flush=True))
    try:
        print(campaign.play(asked.kills))
    finally:
        place.end()


if __name__ == "__main__":
    main()
