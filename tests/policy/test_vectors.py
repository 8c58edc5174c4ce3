"""The vectors of policy-v1, and every example of the format page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from gateway.policy.bundle import PolicyBundle
from gateway.policy.coverage import coverage
from gateway.policy.suite import run_suites
from gateway.shards.fixture_rows import visible

from .vectors import answer

ROOT = Path(__file__).resolve().parents[2]
VECTORS = sorted((ROOT / "tests" / "vectors" / "policy-v1").glob("*.json"))
PAGE = (ROOT / "docs" / "formats" / "policy-v1.md").read_text("utf-8")
TOOLS = (ROOT / "docs" / "reference" / "policy-tools.md").read_text("utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def test_there_are_vectors_of_both_kinds() -> None:
    assert sum(path.name.startswith("bad-") for path in VECTORS) >= 5
    assert sum(path.name.startswith("ok-") for path in VECTORS) >= 3


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_a_vector_is_answered_as_recorded(path: Path) -> None:
    vector = json.loads(path.read_text("utf-8"))
    found = json.loads(json.dumps(answer({"questions": [], **vector})))
    if path.name.startswith("bad-"):
        assert found == vector["refusal"]
        assert path.name.startswith(f"bad-{found['code']}-")
    else:
        assert found == vector["answers"]


def test_the_examples_of_the_format_page_work_together() -> None:
    one, two, suite = EXAMPLES
    files = {"rand-hie.yaml": one, "everywhere.yaml": two, "rand-hie_test.yaml": suite}
    assert len(PolicyBundle.read({"rand-hie.yaml": one, "b.yaml": two}, "clinic").rules) == 3
    alone = PolicyBundle.read(
        {key: files[key] for key in files if key != "everywhere.yaml"}, "clinic"
    )
    results = run_suites(alone, show=visible)
    assert [result.text for result in results if not result.ok] == []
    assert not coverage(alone, results).uncovered


def test_the_format_page_lists_every_reason_code_and_finding() -> None:
    room = ROOT / "gateway" / "policy"
    text = "".join(path.read_text("utf-8") for path in sorted(room.glob("*.py")))
    codes = set(re.findall(r'(?:code=|Refusal\(\s*|_denied\(\s*)"([a-z-]+)"', text))
    codes |= set(re.findall(r'yield "([a-z-]+)", ', text))
    assert len(codes) > 20
    missing = [code for code in sorted(codes) if code not in PAGE and f"`{code}`" not in TOOLS]
    assert not missing
