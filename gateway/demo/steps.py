"""A step of the demo, and how a list of them is run and told. Knows nothing of the gateway.

A step does something and returns what it saw; it fails by raising. `Teller` prints a transcript
for people or one JSON line per step for programs, and counts what did not do as it says.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from gateway.errors import GatewayError


class StepFailed(Exception):
    """The step ran, and what it saw is not what it promised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a step saw: a sentence for people, facts for programs, and lines to show below."""

    text: str
    facts: dict[str, Any] = field(default_factory=dict)
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One promise: `title` says what will be true, `act` makes it so or raises."""

    name: str  # stable: programs read it
    title: str
    act: Callable[[], Seen]


def expect(condition: object, otherwise: str) -> None:
    """Raise StepFailed saying `otherwise` unless `condition` holds."""
    if not condition:
        raise StepFailed(otherwise)


class Bar(Protocol):
    """Progress of one long act, in any unit."""

    def __call__(self, done: float, total: float) -> None:
        """Show that `done` of `total` is done."""


class Teller:
    """Tells the story while it happens."""

    def __init__(self, *, as_json: bool) -> None:
        """Tell it in JSON lines, or to a person."""
        self.as_json = as_json
        self.failed: list[str] = []
        self._console = Console(highlight=False, soft_wrap=True)
        self._bar: Bar = _silent

    def say(self, text: str) -> None:
        """Say something between the steps, to people only."""
        if not self.as_json:
            self._console.print(text)

    def progress(self, done: float, total: float) -> None:
        """Progress of the step that runs now."""
        self._bar(done, total)

    def run(self, steps: Iterable[Step]) -> bool:
        """Run the steps in order up to the first failure; True when all did as they say."""
        for step in steps:
            start = time.perf_counter()
            with self._waiting(step.title):
                seen, problem = _attempt(step)
            self._tell(step, seen, problem, round(time.perf_counter() - start, 2))
            if problem:
                self.failed.append(step.name)
                return False
        return True

    def _tell(self, step: Step, seen: Seen, problem: str | None, seconds: float) -> None:
        if self.as_json:
            head = {"step": step.name, "ok": problem is None, "seconds": seconds}
            line = {**head, "text": seen.text, **seen.facts}
            if problem:
                line["problem"] = problem
            sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
            sys.stdout.flush()
            return
        mark = "[red]✗[/]" if problem else "[green]✓[/]"
        self._console.print(f"{mark} {escape(problem or seen.text)} [dim]{seconds:.1f} s[/]")
        for text in seen.lines:
            self._console.print(f"    {escape(text)}", style="dim")

    @contextmanager
    def _waiting(self, title: str) -> Iterator[None]:
        if self.as_json or not self._console.is_terminal:
            yield
            return
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(),
                   TimeElapsedColumn())  # fmt: skip
        with Progress(*columns, console=self._console, transient=True) as shown:
            task = shown.add_task(escape(title), total=None)

            def move(done: float, total: float) -> None:
                shown.update(task, completed=done, total=total)

            self._bar = move
            try:
                yield
            finally:
                self._bar = _silent


def _silent(done: float, total: float) -> None:
    """No one is watching."""


def _attempt(step: Step) -> tuple[Seen, str | None]:
    try:
        return step.act(), None
    except StepFailed as failed:
        return Seen(text=""), f"{step.title}: {failed}"
    except GatewayError as failed:
        return Seen(text=""), f"{step.title}: {failed.message} ({failed.code}); {failed.advice}"
