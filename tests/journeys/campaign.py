"""Kill processes of a working gateway until enough have died, and check what must hold.

    python -m tests.journeys.campaign --kills 200 --seed 1

First every kind of process at every step it plays in, in random order, then at random moments
of random steps. Prints one line per kill and exits 1 at the first broken promise.
"""

from __future__ import annotations

import argparse
import itertools
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.journeys import audit
from tests.journeys.home import Home
from tests.journeys.kills import PLAYERS, SHORT_LIVED, Kill
from tests.journeys.story import Story

ROUND_KILLS = 12  # then the server is stopped and everything is checked from outside
AGAIN_SHARE = 0.2  # of the kills are followed by a second one
Say = Callable[[str], None]


@dataclass(slots=True)
class Done:
    """What a campaign did."""

    kills: int = 0
    by_kind: Counter[str] = field(default_factory=Counter)
    by_step: Counter[str] = field(default_factory=Counter)
    resumed: int = 0
    troubles: Counter[str] = field(default_factory=Counter)
    events: int = 0
    segments: int = 0


def play(
    home: Home, *, kills: int, seed: int, seconds_max: float, say: Say = lambda _: None
) -> Done:
    """Kill so many processes of `home`; AssertionError when a promise is broken."""
    rng = random.Random(seed)
    plan = targets(rng)
    done, story = Done(), Story(home, pace=0.03)
    ends_at = time.monotonic() + seconds_max
    with story.witnessed():
        for number in itertools.count():
            home.start()
            while done.kills < kills * (number + 1) // _rounds(kills):
                assert time.monotonic() < ends_at, f"too slow: {done}"
                _one_dataset(story, f"d{seed}{done.kills}{'c' if rng.random() < 0.3 else ''}",
                             plan, rng, done, say)  # fmt: skip
            audit.check_served(story)
            audit.check_lineage(story)
            home.stop()
            done.events = audit.check_journal(home, story.ledger)
            audit.check_objects(home)
            audit.check_projection(home)
            say(f"     {done.kills} kills, {done.events} events: all promises hold")
            if done.kills >= kills:
                break
    done.resumed, done.segments = story.ledger.resumed, len(story.ledger.received)
    done.troubles = Counter(story.ledger.troubles)
    return done


def _rounds(kills: int) -> int:
    return max(1, kills // ROUND_KILLS)


def targets(rng: random.Random) -> dict[str, Iterator[str]]:
    """Per step, whom to kill: everybody who plays in it once, then anybody."""

    def victims(step: str) -> Iterator[str]:
        everybody = list(PLAYERS[step])
        rng.shuffle(everybody)
        everybody.sort(key=lambda kind: kind not in SHORT_LIVED)  # they play in one step only
        yield from everybody
        while True:
            yield rng.choice(PLAYERS[step])

    return {step: victims(step) for step in Story.STEPS}


def _one_dataset(
    story: Story,
    name: str,
    plan: dict[str, Iterator[str]],
    rng: random.Random,
    done: Done,
    say: Say,
) -> None:
    """From registration to revocation; most steps lose a process on the way."""
    for step in Story.STEPS:
        started = time.monotonic()
        if rng.random() < 0.15:
            story.do(step, name)
            continue
        kind = next(plan[step])
        delay = rng.random() ** 2 * (0.4 if kind in SHORT_LIVED else 1.0)
        again = rng.random() * 3 if rng.random() < AGAIN_SHARE else None
        with Kill(story.home, kind, delay, again=again) as kill:
            story.do(step, name)
        if kill.victim is None:  # too late for a short life: it is the next one's turn
            plan[step] = itertools.chain([kind], plan[step])
            continue
        done.kills += 1 + (kill.second is not None)
        done.by_kind[kind] += 1
        done.by_kind["control"] += kill.second is not None
        done.by_step[step] += 1
        seconds = time.monotonic() - started
        twice = "" if kill.second is None else f", control again after {again:4.2f} s"
        say(
            f"{done.kills:4} {kind:8} in {step:9} after {delay:4.2f} s{twice}: "
            f"well after {seconds:4.1f} s"
        )


def main() -> None:
    """The long form."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--seconds", type=float, default=7200.0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--root", type=Path, help="keep the home here")
    asked = parser.parse_args()
    root = asked.root or Path(tempfile.mkdtemp(prefix="gateway-campaign-"))
    print(f"seed {asked.seed}, home {root}", flush=True)
    home = Home.make(root, workers=asked.workers)
    try:
        done = play(home, kills=asked.kills, seed=asked.seed, seconds_max=asked.seconds,
                    say=lambda line: print(line, flush=True))  # fmt: skip
    finally:
        home.end()
    for trouble, count in done.troubles.items():
        print(f"{count:4} × {trouble}")
    done.troubles.clear()
    print(done)


if __name__ == "__main__":
    main()
