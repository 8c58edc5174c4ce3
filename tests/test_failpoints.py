"""Every named step is reached by one place of the code, and no code of ours can arm one."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator

from gateway import failpoints
from gateway.failpoints import STEPS
from gateway.services import register
from tests.test_house import OURS, name


def calls(function: str) -> Iterator[tuple[str, ast.Call]]:
    """Calls of `failpoints.<function>` in the gateway and the connectors, with their file."""
    for path in OURS:
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == function
                and ast.unparse(node.func.value) == "failpoints"
            ):
                yield name(path), node


def test_no_code_of_ours_arms_a_failpoint() -> None:
    assert not list(calls("arm"))
    imports = [p for p in OURS if re.search(r"failpoints import|failpoints\._armed", p.read_text())]
    assert not imports, "call it as `failpoints.reach`: that is what these tests can see"


def test_every_step_is_reached_by_exactly_one_place() -> None:
    reached = Counter(
        argument.value if isinstance(argument, ast.Constant) else f"a computed name in {path}"
        for path, call in calls("reach")
        for argument in call.args
    )
    assert reached == Counter(dict.fromkeys(STEPS, 1))


def test_every_step_of_registration_has_a_failpoint() -> None:
    written = set(re.findall(r"\(\d\)", register.__doc__ or ""))
    named = {text[:3] for step, text in STEPS.items() if step.startswith("register.")}
    assert written <= named


def test_unarmed_a_step_does_nothing_and_armed_it_tells() -> None:
    reached: list[str] = []
    failpoints.reach("register.sheet")
    failpoints.arm(reached.append)
    try:
        failpoints.reach("register.sheet")
    finally:
        failpoints.arm(None)
    failpoints.reach("register.sheet")
    assert reached == ["register.sheet"]
