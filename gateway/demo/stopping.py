"""Scene: the owner withdraws the grant while an epoch is running."""

from __future__ import annotations

import json
import time

from gateway.demo.cast import JOB, OWNER, TOKENS, Play
from gateway.demo.datasets import TOKEN_ROWS
from gateway.demo.stage import answer_of
from gateway.demo.steps import Seen, Step, StepFailed, expect

BATCH_ROWS = 512
_SEGMENT_ROWS = 4_096  # 16 MiB of 4 KiB rows
_START_SECONDS = 20.0


def scene(play: Play) -> list[Step]:
    """The steps, in order."""
    return [
        Step(
            name="revoked",
            title="the owner revokes during an epoch, and the stream stops within one segment",
            act=lambda: _revoke(play),
        )
    ]


def _revoke(play: Play) -> Seen:
    job = {
        "task": "count",
        "server": play.url,
        **play.shown_by(JOB),
        "dataset": TOKENS,
        "purpose": "methods-research",
        "columns": ["tokens"],
        "batch_rows": BATCH_ROWS,
        "run": "run:demo-count",
    }
    trainer = play.stage.program(JOB.replace("/", "-"), "gateway.demo.trainer", job)
    try:
        _wait_for_rows(trainer.stdout, 4 * _SEGMENT_ROWS)
        start = time.perf_counter()
        done = play.client(OWNER).grants.revoke(
            dataset=TOKENS, subject=JOB, reason="the contract ended"
        )
        waited_ms = (time.perf_counter() - start) * 1e3
        last = answer_of(trainer)[-1]
    finally:
        trainer.kill()
    expect(done.grants == 1 and done.streams_stopped == 1, f"the owner reads {done!r}")
    expect(last.get("stopped") == "lease-revoked", f"the trainer reads {last}")
    position = last.get("position") or {"rows": 0}
    expect(0 < position["rows"] < TOKEN_ROWS, f"it stopped at {position}, not within the epoch")
    return Seen(
        text=f"owner revokes during an epoch: {done.grants} grant, {done.streams_stopped} stream "
        f"stopped in {done.slowest_ms} ms",
        facts={
            "grants": done.grants,
            "streams_stopped": done.streams_stopped,
            "slowest_ms": done.slowest_ms,
            "answered_ms": round(waited_ms),
            "position": position,
        },
        lines=(
            f"the trainer gets `lease-revoked` and how far it had read: {json.dumps(position)}",
        ),
    )


def _wait_for_rows(lines: object, rows: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    for line in lines:  # type: ignore[attr-defined]
        if json.loads(line).get("rows", 0) >= rows:
            return
        if time.monotonic() > deadline:
            break
    raise StepFailed("the trainer did not get going")
