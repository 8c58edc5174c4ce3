"""Budgets hold across tokens, ranks and a control process that dies in between."""

from __future__ import annotations

from typing import Any

from gateway.client import GatewayClient
from gateway.errors import LimitExceeded
from tests.journeys.home import Home
from tests.journeys.story import DIRECT, HOW, PURPOSE, Story

ROWS_MAX = 10_000
ASKED: Any = {"purpose": PURPOSE, "columns": DIRECT, "output": "arrow", **HOW, "batch_size": 256}


def read(gateway: GatewayClient, at_most: int, **ask: Any) -> tuple[int, str | None]:
    """Rows received, and the limit that ended it, if one did."""
    rows = 0
    try:
        with gateway.stream("home/a", **ASKED, **ask) as stream:
            for batch in stream:
                rows += batch.num_rows
                if rows >= at_most:
                    break
    except LimitExceeded as error:
        return rows, str(error.facts["limit"])
    return rows, None


def die(home: Home) -> None:
    home.kill("control")
    home.revive()


def test_what_was_used_up_stays_used_up(home: Home) -> None:
    story = Story(home)
    home.start()
    for step in ("register", "publish"):
        story.do(step, "a")
    one: Any = {"run": "r1", "max_rows": ROWS_MAX, "world": 2}
    first, why = read(home.client(), ROWS_MAX // 2, rank=0, **one)
    assert why is None
    die(home)
    other, why = read(home.client(), 10 * ROWS_MAX, rank=1, **one)
    assert why == "max_rows"
    assert first + other <= ROWS_MAX
    more, why = read(home.client(), 10 * ROWS_MAX, rank=0, epoch=1, **one)
    assert why == "max_rows"
    assert first + other + more <= ROWS_MAX

    operator = home.client(home.settings.config_dir / "operator.json")
    today = operator.tenants.show("home").bytes_today
    assert today > 0
    operator.tenants.update("home", max_bytes=today + 100_000, max_streams=1)
    rows, why = read(home.client(), 10 * ROWS_MAX, run="r2")
    assert (rows > 0, why) == (True, "max_bytes")
    die(home)
    assert read(home.client(), 1, run="r3")[1] == "max_bytes"
    shown = operator.tenants.show("home")
    assert today < shown.bytes_today <= today + 100_000
    operator.tenants.update("home", lift=["max_bytes"])
    with home.client().stream("home/a", **ASKED, run="r4") as held:
        assert next(held).num_rows > 0
        assert read(home.client(), 1, run="r5") == (0, "max_streams")
    assert read(home.client(), 1, run="r5")[1] is None
