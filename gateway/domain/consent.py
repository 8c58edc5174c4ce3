"""Consent that persons gave or withdrew, as the journal keeps it: who as a keyed tag, for what.

Consent to a purpose covers what lies below it in the tree of purposes; so does its withdrawal.
"""

from __future__ import annotations

from gateway.domain import facts as f

PERSONS_MAX = 1000  # of one event
_PERSON = f.record_of(person=f.HEX, at=f.COUNT)  # keyed tag; Unix seconds from which it holds

FACTS: f.Schema = {
    "purpose": f.NAME,
    "dataset": f.DATASET | None,  # None: all of the tenant's
    "persons": f.list_of(_PERSON, at_most=PERSONS_MAX),
}
