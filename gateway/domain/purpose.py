"""The tree of purposes; a request's purpose must be the allowed one or one below it.

Vocabulary after the GA4GH Data Use Ontology (codes in the comments) and W3C DPV.
"""

from __future__ import annotations

from functools import cache

from gateway.errors import InvalidInput

# child -> parent
PURPOSES: dict[str, str | None] = {
    "any": None,
    "research": "any",  # GRU
    "health-research": "research",  # HMB
    "disease-research": "health-research",  # DS
    "population-ancestry-research": "research",  # POA
    "methods-research": "research",
    "clinical-care": "any",  # CC
    "product-training": "any",
    "model-evaluation": "any",
    "fraud-detection": "any",
    "credit-risk": "any",
    "safety": "any",
    "analytics": "any",
    "marketing": "any",
    "audit": "any",
    "legal-obligation": "any",
}
_DUO = {
    "GRU": "research",
    "HMB": "health-research",
    "DS": "disease-research",
    "POA": "population-ancestry-research",
    "CC": "clinical-care",
}


def parse_purpose(text: str) -> str:
    """Return the purpose named by `text` (a name or a DUO code); raises InvalidInput."""
    name = _DUO.get(text, text) if isinstance(text, str) else None
    if name is None or name not in PURPOSES:
        raise InvalidInput(
            f"`{str(text)[:80]}` is not a purpose", advice=f"use one of: {', '.join(PURPOSES)}"
        )
    return name


def is_within(purpose: str, allowed: str) -> bool:
    """Whether `purpose` is `allowed` or lies below it in the tree."""
    return allowed in and_above(purpose)


@cache
def and_above(purpose: str) -> frozenset[str]:
    """The purpose and all that it lies below; KeyError for what is no purpose."""
    above = PURPOSES[purpose]
    return frozenset({purpose}) | (and_above(above) if above is not None else frozenset())
