"""The reports: each is a few named questions under one title, for people who must hand them in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.errors import InvalidInput
from gateway.lineage.questions import QUESTIONS, unlisted

FORMATS = ("html", "markdown", "csv")


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One question of a report."""

    heading: str
    question: str
    renamed: Mapping[str, str] = field(default_factory=dict)  # its parameter -> the report's

    def given(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the report's parameters that this question takes, by its own names."""
        names = {p.name: self.renamed.get(p.name, p.name) for p in _of(self).parameters}
        return {own: parameters[name] for own, name in names.items() if name in parameters}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One report; its parameters are those of its questions."""

    name: str
    title: str
    sections: tuple[Section, ...]

    @property
    def is_about_person(self) -> bool:
        """Whether one of its questions is about one person."""
        return any(_of(section).is_about_person for section in self.sections)

    def check(self, parameters: Mapping[str, Any]) -> None:
        """Raise InvalidInput for a parameter that no section takes, or a missing one."""
        known: dict[str, bool] = {"tenant": False}
        for section in self.sections:
            for p in _of(section).parameters:
                name = section.renamed.get(p.name, p.name)
                known[name] = known.get(name, False) or p.required
        for name in parameters:
            if name not in known:
                raise InvalidInput(
                    f"`{str(name)[:80]}` is not a parameter of the report `{self.name}`",
                    advice=f"parameters: {', '.join(sorted(known))}",
                )
        for name, is_required in known.items():
            if is_required and parameters.get(name) is None:
                raise InvalidInput(f"the report `{self.name}` needs `{name}`", field="parameters")


def _of(section: Section) -> Any:
    return QUESTIONS[section.question]


def report(name: str) -> Report:
    """Find a report by name; UnknownName says which are like it."""
    if name not in REPORTS:
        raise unlisted("report", name, REPORTS)
    return REPORTS[name]


_ALL = (
    Report(
        name="art30",
        title="Record of processing activities (GDPR Art. 30)",
        sections=(
            Section(heading="Processing by purpose", question="processing-record"),
            Section(heading="Special categories (Art. 9)", question="special-categories"),
            Section(heading="Transfers out of the region", question="transfers"),
            Section(heading="Reads after retention", question="reads-after-retention"),
            Section(heading="Reads after withdrawn consent", question="reads-after-withdrawal"),
        ),
    ),
    Report(
        name="art10",
        title="Training data of a model (AI Act Art. 10)",
        sections=(
            Section(heading="Data the model was made from", question="provenance-of-model"),
            Section(heading="Special categories that were read", question="special-categories"),
        ),
    ),
    Report(
        name="art12",
        title="Record of use (AI Act Art. 12)",
        sections=(
            Section(heading="Periods of use", question="periods-of-use"),
            Section(heading="Refusals", question="denials"),
            Section(heading="Completeness of the log", question="log-complete"),
        ),
    ),
    Report(
        name="usage",
        title="Usage",
        sections=(
            Section(heading="By month and recipient", question="usage"),
            Section(heading="Unusual days", question="unusual-volumes"),
        ),
    ),
    Report(
        name="access-review",
        title="Review of access",
        sections=(
            Section(heading="Grants", question="grants-of-dataset"),
            Section(heading="Tokens never used", question="unused-tokens"),
            Section(heading="Signs of misuse", question="tokens-misused"),
            Section(heading="Reads under replaced rules", question="reads-under-replaced-rules"),
            Section(
                heading="Rules without a second person", question="rules-without-second-person"
            ),
        ),
    ),
    Report(
        name="person",
        title="What was done with the data of one person",
        sections=(
            Section(heading="Runs and models", question="runs-of-person"),
            Section(heading="Consent", question="consents-of-person"),
        ),
    ),
    Report(
        name="token",
        title="Tokens of a grant",
        sections=(
            Section(heading="Tokens", question="tokens-of-grant"),
            Section(heading="Place in the log", question="place-of-event", renamed={"id": "grant"}),
        ),
    ),
)
REPORTS: dict[str, Report] = {one.name: one for one in _ALL}
