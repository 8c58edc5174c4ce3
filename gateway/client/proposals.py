"""Tags proposed from column names: a start for `dataset classify`, never a decision.

Only names are looked at; the gateway never looks into values to classify them. A column that
fits nothing stays unclassified and therefore `restricted`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

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


def propose(columns: Iterable[str]) -> dict[str, str]:
    """Return column → tag for the names that say something."""
    found = {}
    for column in columns:
        name = re.sub(r"[^a-z0-9]+", "_", column.lower())
        tag = next((tag for pattern, tag in _COMPILED if pattern.search(name)), None)
        if tag is not None:
            found[column] = tag
    return found
