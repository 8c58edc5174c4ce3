"""docs/reference/questions.md says what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.lineage.questions import QUESTIONS
from gateway.lineage.views import AUDITOR_VIEWS

PAGE = (Path(__file__).parents[2] / "docs/reference/questions.md").read_text("utf-8")


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_question_stands_in_the_reference(name: str) -> None:
    question = QUESTIONS[name]
    _, _, section = PAGE.partition(f"### {name} (version {question.version})")
    section = section.partition("\n#")[0]
    parameters, columns = section.partition("- columns:")[::2]
    for parameter in question.parameters:
        assert f"`{parameter.name}`" in parameters
    assert columns.split("`")[1::2] == list(question.columns)


@pytest.mark.parametrize("name", AUDITOR_VIEWS)
def test_every_view_of_auditors_stands_in_the_reference(name: str) -> None:
    assert f"- `{name}`: " in PAGE
