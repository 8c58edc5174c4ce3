"""The named questions: what an auditor asks without writing SQL.

Each is versioned: its parameters and columns stay as they are, or its version is raised.
The SQL sees only the sided views (`views.py`), so no question can see more than its asker.
"""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

from gateway.errors import UnknownName
from gateway.lineage import (
    questions_access,
    questions_consent,
    questions_duties,
    questions_log,
    questions_persons,
    questions_release,
    questions_watch,
)
from gateway.lineage.question import NEAREST_MAX, Question

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
    """Find a question by name; UnknownName says which are like it."""
    try:
        return QUESTIONS[name]
    except (KeyError, TypeError) as cause:
        raise unlisted("question", name, QUESTIONS) from cause


def unlisted(what: str, name: object, listed: Collection[str]) -> UnknownName:
    """The refusal of a name that is not one of a public list."""
    text = str(name)[:80]
    nearest = get_close_matches(text, listed, NEAREST_MAX) or sorted(listed)
    return UnknownName(
        f"no {what} is called `{text}`",
        advice=f"there is {', '.join(f'`{one}`' for one in nearest)}",
        parameter=what,
        nearest=nearest,
    )
