"""The named questions: what an auditor asks without writing SQL.

Each is versioned: its parameters and columns stay as they are, or its version is raised.
The SQL sees only the sided views (`views.py`), so no question can see more than its asker.
"""

from __future__ import annotations

from gateway.errors import NotFound
from gateway.lineage import (
    questions_access,
    questions_consent,
    questions_duties,
    questions_log,
    questions_persons,
    questions_release,
    questions_watch,
)
from gateway.lineage.question import Question

QUESTIONS: dict[str, Question] = {
    question.name: question
    for module in (
        questions_access,
        questions_release,
        questions_duties,
        questions_consent,
        questions_persons,
        questions_watch,
        questions_log,
    )
    for question in module.QUESTIONS
}


def question(name: str) -> Question:
    """Find a question by name; NotFound lists what there is."""
    try:
        return QUESTIONS[name]
    except (KeyError, TypeError) as cause:
        raise NotFound(
            f"no question is called `{str(name)[:80]}`",
            advice=f"questions: {', '.join(QUESTIONS)}",
        ) from cause
