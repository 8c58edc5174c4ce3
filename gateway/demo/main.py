"""The whole story: `gateway demo`, the main job end to end, on real data.

It ends by itself, and with an exit code other than 0 if any step did not do what it says.
"""

from __future__ import annotations

import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from gateway.demo import asking, auditing, learning, opening, owning, stopping, tampering
from gateway.demo.cast import AUDITOR, Play
from gateway.demo.stage import Stage, default_home
from gateway.demo.steps import Step, Teller


def main(
    *, keep: bool = False, purge: bool = False, as_json: bool = False, home: Path | None = None
) -> int:
    """Run the demo.

    Args:
        keep: leave the server running, and say how to go on.
        purge: only remove what earlier demos left.
        as_json: one JSON line per step instead of a transcript.
        home: where everything lies; default: beside the state directory.

    Returns:
        0 when every step did what it says.
    """
    stage = Stage(home or default_home())
    teller = Teller(as_json=as_json)
    stage.clear()
    if purge:
        teller.say(f"removed {stage.home}")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    play = Play(stage=stage, teller=teller)
    start = time.monotonic()
    done = False
    try:
        stage.prepare()
        done = teller.run(scenes(play))
    finally:
        if not (done and keep):
            stage.stop()
    _end(play, done=done, kept=keep, seconds=time.monotonic() - start)
    return 0 if done else 1


def scenes(play: Play) -> Iterator[Step]:
    """The whole story, in order."""
    for scene in (opening, owning, asking, learning, stopping, tampering, auditing):
        yield from scene.scene(play)


def _end(play: Play, *, done: bool, kept: bool, seconds: float) -> None:
    home = play.stage.home
    if not done:
        play.teller.say(f"[red]The demo failed[/]; the logs are under {home}")
        return
    play.teller.say(f"All of it in {seconds:.0f} s. Next, a file of your own: docs/start.md")
    command = "gateway" if shutil.which("gateway") else sys.argv[0]
    play.teller.say(f"`{command} demo --purge` removes {home}")
    if kept:
        play.teller.say(
            f"The server runs on at {play.url}. As the auditor, for example:\n"
            f"  {command} lineage ask who-read --dataset clinic/rand-hie --server {play.url} "
            f"--key-file {play.key_file(AUDITOR)}"
        )
