"""Scene: the clinic registers its datasets, says what the columns are, and publishes rules."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

from gateway.demo import datasets
from gateway.demo.cast import FLIGHTS, OWNER, RAND, TOKENS, VERSES, Play
from gateway.demo.steps import Seen, Step, expect

RULES = Path(__file__).parent / "clinic"
SENSITIVE = {
    "zper": ["pii.person-id"],
    "income": ["pii.indirect"],
    "linc": ["pii.indirect"],
    "xage": ["pii.indirect"],
    "black": ["special.race"],
    "female": ["special.sex"],
    "mhi": ["health.special"],
    "mentvis": ["health.special"],
    "mentdol": ["health.special"],
}
_PREPARE: dict[str, Callable[[Path], datasets.Prepared]] = {
    RAND: datasets.health_insurance,
    FLIGHTS: datasets.flights,
    VERSES: datasets.verses,
    TOKENS: datasets.tokens,
}


def scene(play: Play) -> list[Step]:
    """The steps, in order."""
    register = [
        Step(
            name=f"register-{ref.partition('/')[2]}",
            title=f"{ref} is stored as encrypted Parquet",
            act=lambda ref=ref: _register(play, ref),  # type: ignore[misc]
        )
        for ref in _PREPARE
    ]
    return [
        *register,
        Step(name="classify", title="the owner says what the columns are", act=lambda: _tag(play)),
        Step(
            name="policy",
            title="the owner tests the rules and publishes them",
            act=lambda: _publish(play),
        ),
    ]


def _register(play: Play, ref: str) -> Seen:
    prepared = _PREPARE[ref](play.stage.data)
    play.prepared[ref] = prepared
    splits = dict(_fraction(part) for part in (prepared.splits or "").split(",") if part)
    before = set(play.stage.shards())
    size = prepared.path.stat().st_size
    done = play.client(OWNER).datasets.register(
        ref,
        prepared.path,
        card={"title": prepared.title, "licence": prepared.licence},
        splits=splits,
        split_by=prepared.split_by,
        person_column=prepared.person_column,
        progress=lambda _, part: play.teller.progress(part, 1.0),
    )
    expect(done.rows == prepared.rows, f"{done.rows} of {prepared.rows} rows arrived")
    stored = set(play.stage.shards()) - before
    plain = [p.name for p in stored if _has_magic(p, b"PAR1")]
    expect(not plain, f"stored in the clear: {plain}")
    play.facts[ref] = {"objects": sorted(stored)}
    return Seen(
        text=f"{ref}: {done.rows:,} rows, {_many(len(done.columns), 'column')}, "
        f"{size / 1e6:.0f} MB → {_many(done.shards, 'sealed shard')}",
        facts={"dataset": ref, "rows": done.rows, "shards": done.shards, "bytes": size},
    )


def _many(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def _fraction(part: str) -> tuple[str, float]:
    name, _, value = part.partition("=")
    return name, float(value)


def _has_magic(path: Path, magic: bytes) -> bool:
    """Whether a file is Parquet with a plaintext footer; an encrypted footer says `PARE`."""
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


def _tag(play: Play) -> Seen:
    owner = play.client(OWNER)
    names = _header(play.prepared[RAND].path)
    owner.datasets.classify(RAND, {name: SENSITIVE.get(name, ["health"]) for name in names})
    for ref in (FLIGHTS, VERSES):
        header = _header(play.prepared[ref].path)
        owner.datasets.classify(ref, {name: ["public"] for name in header})
    owner.datasets.classify(TOKENS, {"tokens": ["public"]})
    return Seen(
        text=f"columns classified: {len(SENSITIVE)} of {len(names)} in {RAND} are personal or "
        "special; the other sets are public",
        facts={"sensitive": sorted(SENSITIVE)},
    )


def _header(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        return next(csv.reader(file))


def _publish(play: Play) -> Seen:
    owner = play.client(OWNER)
    trial = owner.policies.test(RULES)
    expect(trial.ok, f"the rules do not pass their tests: {trial.problems or trial.suites}")
    bundle = owner.policies.push(RULES)
    passed = sum(suite["passed"] for suite in trial.suites)
    return Seen(
        text=f"{bundle.rules} rules published; {passed} of their own tests pass",
        facts={"rules": bundle.rules, "bundle": bundle.hash, "tests": passed},
    )
