"""The teller never calls a failed step done."""

from __future__ import annotations

import json

import pytest

from gateway.demo.steps import Seen, Step, StepFailed, Teller, expect
from gateway.errors import AccessDenied


def denied() -> Seen:
    raise AccessDenied("no rule allows this", advice="ask the owner")


def untrue() -> Seen:
    expect(1 == 2, "one is not two")  # noqa: PLR0133
    return Seen(text="never")


def fine() -> Seen:
    return Seen(text="three rows [sic]", facts={"rows": 3}, lines=("a",))


@pytest.mark.parametrize("act", [denied, untrue])
def test_a_step_that_fails_ends_the_demo_and_is_not_ok(
    act: object, capsys: pytest.CaptureFixture[str]
) -> None:
    teller = Teller(as_json=True)
    steps = [
        Step(name="good", title="good", act=fine),
        Step(name="bad", title="bad", act=act),  # type: ignore[arg-type]
        Step(name="after", title="after", act=fine),
    ]
    assert teller.run(steps) is False
    assert teller.failed == ["bad"]
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["step"], line["ok"]) for line in lines] == [("good", True), ("bad", False)]
    assert lines[0]["rows"] == 3
    assert "bad: " in lines[1]["problem"]


def test_an_error_that_nobody_foresaw_is_not_swallowed() -> None:
    def broken() -> Seen:
        raise KeyError("x")

    with pytest.raises(KeyError):
        Teller(as_json=True).run([Step(name="x", title="x", act=broken)])


def test_people_read_a_line_per_step_with_what_was_seen(capsys: pytest.CaptureFixture[str]) -> None:
    assert Teller(as_json=False).run([Step(name="good", title="good", act=fine)])
    out = capsys.readouterr().out
    assert "✓ three rows [sic]" in out
    assert "    a" in out


def test_expect_says_what_was_expected() -> None:
    with pytest.raises(StepFailed, match="the stream went on"):
        expect([], "the stream went on")
