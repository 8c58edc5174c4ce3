"""The strict codec: refusals first."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gateway.wire as W
from gateway.errors import InvalidInput
from gateway.wire import codec, times, tokens

ASK: dict[str, Any] = {"dataset": "clinic/icu", "columns": ["age"], "max_rows": 5}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"max_rows": True}, "max_rows"),
        ({"max_rows": "5"}, "max_rows"),
        ({"max_rows": 1.0}, "max_rows"),
        ({"max_rows": 1 << 53}, "max_rows"),
        ({"columns": "age"}, "columns"),
        ({"columns": [1]}, "columns[0]"),
        ({"dataset": None}, "dataset"),
        ({"tenant": "other"}, "tenant"),
    ],
)
def test_a_field_of_another_type_or_name_is_refused(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        codec.decode(W.AccessAsk, {**ASK, **change})
    assert refusal.value.facts["field"] == field


def test_a_missing_field_and_a_body_that_is_no_object_are_refused() -> None:
    with pytest.raises(InvalidInput, match="is missing"):
        codec.decode(W.AccessAsk, {})
    with pytest.raises(InvalidInput, match="must be an object"):
        codec.decode(W.AccessAsk, [])


@pytest.mark.parametrize(
    "text",
    ['{"a":1,"a":1}', "NaN", "[Infinity]", "[" * 100_000, "", b"\xff", '{"a":{"b":1,"b":2}}'],
)
def test_text_that_is_not_one_clean_json_value_is_refused(text: str | bytes) -> None:
    with pytest.raises(InvalidInput):
        codec.loads(text)


def test_a_reply_may_say_more_than_this_client_knows() -> None:
    value = {"code": "a", "text": "b", "rule": None, "severity": 3}
    assert codec.decode_reply(W.ReasonView, value) == W.ReasonView(code="a", text="b")


def test_authorization_details_name_one_dataset_or_one_grant() -> None:
    for bad in (
        '[{"type":"dataset_access"}]',
        '[{"type":"dataset_access","dataset":"a/b","grant":"grant_x"}]',
        '[{"type":"account","dataset":"a/b"}]',
        '[{"type":"dataset_access","dataset":"a/b","actions":["stream","export"]}]',
        "[]",
        '{"type":"dataset_access","dataset":"a/b"}',
    ):
        with pytest.raises(InvalidInput):
            tokens.parse_details(bad)
    detail = tokens.parse_details('[{"type":"dataset_access","dataset":"a/b","max_rows":3}]')
    assert detail.ask() == W.AccessAsk(dataset="a/b", max_rows=3)


@given(
    st.builds(
        W.AccessAsk,
        dataset=st.text(),
        purpose=st.none() | st.text(),
        columns=st.none() | st.lists(st.text()).map(tuple),
        max_rows=st.none() | st.integers(0, 2**53 - 1),
    )
)
def test_what_is_encoded_is_decoded_unchanged(ask: W.AccessAsk) -> None:
    assert codec.decode(W.AccessAsk, codec.encode(ask)) == ask


def test_times_are_utc_and_spans_count_back() -> None:
    assert times.iso(1767225600) == "2026-01-01T00:00:00Z"
    assert times.unix("2026-01-01") == times.unix("2026-01-01T01:00:00+01:00") == 1767225600
    assert times.moment("2d", now=1767225600) == times.unix("2025-12-30")
    unwritable = ("9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00", "999999w")
    for bad in ("yesterday", "0d", "3y", "٣d", *unwritable):
        with pytest.raises(InvalidInput):
            times.moment(bad, now=0)
