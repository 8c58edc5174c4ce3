"""What may change from one version's columns to the next."""

from __future__ import annotations

import pytest

from gateway.domain.dataset import Column
from gateway.errors import Conflict
from gateway.services.schema import Previous, diff, next_columns

AGE = Column(field_id=1, name="age", type="int64")
NOTE = Column(field_id=2, name="note", type="string")
BEFORE = Previous(dataset_id="d", version=1, columns=(AGE, NOTE), next_field_id=3)


def test_a_removed_column_needs_leave() -> None:
    with pytest.raises(Conflict, match="note removed"):
        next_columns(BEFORE, (AGE,), allow_change=False)


def test_a_retyped_column_needs_leave() -> None:
    retyped = Column(field_id=1, name="age", type="string")
    with pytest.raises(Conflict, match="age: int64 -> string"):
        next_columns(BEFORE, (retyped, NOTE), allow_change=False)
    assert next_columns(BEFORE, (retyped, NOTE), allow_change=True).retyped


def test_a_new_column_needs_no_leave_and_is_named() -> None:
    new = Column(field_id=3, name="hr", type="double")
    assert next_columns(BEFORE, (AGE, NOTE, new), allow_change=False).added == ("hr",)


def test_a_first_version_adds_everything() -> None:
    assert next_columns(Previous(), (AGE, NOTE), allow_change=False).added == ("age", "note")


def test_order_of_columns_is_no_change() -> None:
    assert not diff((AGE, NOTE), (NOTE, AGE)).is_breaking
