"""Tags proposed for columns: a start for `dataset classify`, never a decision.

A proposal comes from the values (a hint of the sealer's sampled detectors, shards/hints.py),
or else from the column's name. A column that neither says anything about stays unclassified
and therefore `restricted`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

HINTS_MAX = 1000  # of one version; they stand in one sealed detail
BY_NAME = "name"
# What a detector calls its finding -> the tag it proposes. Reasons are part of the API.
TAG_OF_REASON = {
    "e-mail": "pii.email",
    "phone": "pii.phone",
    "ip-address": "pii.online",
    "iban": "finance.personal",
    "payment-card": "finance.personal",
    "birth-dates": "pii.birth",
    "unique": "pii.identifier",
    **{
        f"national-id-{country}": "pii.identifier"
        for country in ("be", "br", "de", "es", "fi", "fr", "it", "nl", "pl", "se", "uk", "us")
    },
}
_RULES = (  # of whole words; a plural is the same word
    (r"e_?mail", "pii.email"),
    (r"phone|mobile|telefon|fax", "pii.phone"),
    (r"ssn|passport|tax_?id|insurance_(no|number|id)", "pii.identifier"),
    (r"(first|last|full|sur|fore|user)_?name", "pii.name"),
    (r"address|street|zip|postal|postcode|city", "pii.address"),
    (r"birth\w*|dob", "pii.birth"),
    (r"(patient|person|subject|user|member|customer)(_?(id|no|number))?", "pii.identifier"),
    (r"ip(_address)?|device_?id|cookie", "pii.online"),
    (r"lat(itude)?|lon(gitude)?|lng|gps", "pii.location"),
    (r"diagnos\w*|icd\w*|disease|symptom|medic\w*|drug|hiv|disab\w*|treatment", "health.special"),
    (r"race|ethnic\w*|relig\w*|politic\w*|union|orientation", "pii.special"),
    (r"age|sex|gender|marital\w*|nationality|educ\w*", "pii.indirect"),
    (r"income|salary|wage|credit|account|iban", "finance.personal"),
)
_COMPILED = tuple((re.compile(rf"(?:^|_)(?:{words})s?(?:_|$)"), tag) for words, tag in _RULES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """What the values of a column look like; it tells about values, so it is kept sealed."""

    field_id: int
    reason: str  # of TAG_OF_REASON
    percent: int  # of the sampled values, rounded up to tens

    @property
    def tag(self) -> str:
        """The tag it proposes."""
        return TAG_OF_REASON[self.reason]

    @classmethod
    def parse(cls, value: Any) -> Hint:
        """Read `[field id, reason, percent]` of somebody who may say anything; ValueError."""
        field_id, reason, percent = value
        if type(field_id) is not int or reason not in TAG_OF_REASON:
            raise ValueError("not a hint")
        if type(percent) is not int or percent not in range(10, 101, 10):
            raise ValueError("not a share")
        return cls(field_id=field_id, reason=reason, percent=percent)

    def to_list(self) -> list[Any]:
        """Undo `parse`."""
        return [self.field_id, self.reason, self.percent]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A tag for a column and why."""

    tag: str
    reason: str  # of TAG_OF_REASON, or `name`
    percent: int | None = None  # of the sampled values; None for a name


def proposal_for(name: str, field_id: int, hints: Mapping[int, Hint]) -> Proposal | None:
    """What a column could be tagged with: by its values, else by its name."""
    hint = hints.get(field_id)
    by_name = tag_by_name(name)
    # That each value is another one says less than what the column is called.
    if hint is not None and not (hint.reason == "unique" and by_name):
        return Proposal(tag=hint.tag, reason=hint.reason, percent=hint.percent)
    return Proposal(tag=by_name, reason=BY_NAME) if by_name else None


def tag_by_name(column: str) -> str | None:
    """The tag that a column's name suggests."""
    name = re.sub(r"[^a-z0-9]+", "_", column.lower())
    return next((tag for pattern, tag in _COMPILED if pattern.search(name)), None)
