"""Masks: what is no mask is refused, and strictness is a lattice."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.masks import (
    DROP,
    NULL,
    applies_to,
    is_at_least,
    mask_names,
    parse_mask,
    strictest,
)
from gateway.errors import InvalidInput

NAMES = [name for name in mask_names() if name != "x-bucket"]
MASKS = st.one_of(
    st.sampled_from([None, *NAMES]),
    st.integers(1, 10**12).map(lambda width: f"x-bucket:{width}"),
    st.sampled_from([2, 3, 4, 6, 12]).map(lambda width: f"x-bucket:{width}"),
)


@pytest.mark.parametrize(
    "text",
    ["", "none", "X-Drop", "x-bucket", "x-bucket:", "x-bucket:0", "x-bucket:-1", "x-bucket:1.5",
     "x-bucket:٣", "x-bucket:1\n", "x-bucket:10000000000001", "x-drop:1", "sha-256", "x-drop\n"],
)  # fmt: skip
def test_what_is_no_mask_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_mask(text)


def test_the_vocabulary_is_icebergs_nine_and_three_of_ours() -> None:
    assert len(mask_names()) == 12
    assert sum(name.startswith("x-") for name in mask_names()) == 3


@pytest.mark.parametrize(
    ("mask", "kind", "fits"),
    [
        ("mask-alphanum", "string", True),
        ("mask-alphanum", "int64", False),
        ("show-last-4", "large_string", True),
        ("truncate-to-year", "date32[day]", True),
        ("truncate-to-year", "timestamp[us, tz=Europe/Zurich]", True),
        ("truncate-to-year", "string", False),
        ("truncate-to-month", "time64[us]", False),
        ("x-bucket:10", "double", True),
        ("x-bucket:10", "uint8", True),
        ("x-bucket:10", "bool", False),
        ("x-bucket:10", "fixed_size_list<item: int32>[4]", False),
        ("x-hmac-tenant", "int64", True),
        ("x-hmac-tenant", "int32", False),
        ("sha-256-global", "int64", False),
        ("sha-256-global", "dictionary<values=string, indices=int32, ordered=0>", True),
        ("mask-to-fixed-value", "timestamp[ns]", True),
        ("mask-to-fixed-value", "list<item: int64>", False),
        (NULL, "struct<a: int64>", True),
        (DROP, "anything", True),
    ],
)
def test_a_mask_applies_to_the_types_it_can_keep(mask: str, kind: str, fits: bool) -> None:  # noqa: FBT001
    assert applies_to(mask, kind) is fits


@pytest.mark.parametrize(
    ("masks", "expected"),
    [
        ([], None),
        ([None, None], None),
        ([None, "x-bucket:5"], "x-bucket:5"),
        (["x-bucket:4", "x-bucket:6"], "x-bucket:12"),
        (["x-bucket:999999999989", "x-bucket:999999999961"], NULL),
        (["truncate-to-month", "truncate-to-year"], "truncate-to-year"),
        (["sha-256-global", "x-hmac-tenant"], "x-hmac-tenant"),
        (["show-first-4", "show-last-4"], NULL),
        (["show-first-4", "mask-to-fixed-value"], NULL),
        ([NULL, "x-bucket:5"], NULL),
        ([NULL, DROP, None], DROP),
    ],
)
def test_the_strictest_mask_is_known(masks: list[str | None], expected: str | None) -> None:
    assert strictest(masks) == expected


@given(MASKS, MASKS, MASKS)
def test_strictness_is_a_lattice(a: str | None, b: str | None, c: str | None) -> None:
    assert strictest([a, b]) == strictest([b, a])
    assert strictest([strictest([a, b]), c]) == strictest([a, strictest([b, c])])
    assert strictest([a, a]) == a
    joined = strictest([a, b])
    assert is_at_least(joined, a)
    assert is_at_least(joined, b)
    assert is_at_least(strictest([joined, c]), joined)  # one more mask never loosens


PAGE = (Path(__file__).parents[2] / "docs/reference/masks.md").read_text("utf-8")
KINDS = {
    "text": ("string",),
    "integers": tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    "int64": ("int64",),
    "uint64": ("uint64",),
    "floats": ("halffloat", "float", "double"),
    "bool": ("bool",),
    "dates": ("date32[day]", "date64[ms]"),
    "timestamps": ("timestamp[s]", "timestamp[ns, tz=UTC]"),
}
OTHERS = (
    "decimal128(9, 2)", "time32[s]", "time64[us]", "duration[us]", "binary", "null",
    "fixed_size_binary[16]", "list<item: string>", "struct<a: int64>", "map<string, int64>",
    "fixed_size_list<item: float>[4]", "interval", "",
)  # fmt: skip


def test_the_page_of_masks_names_each_mask_with_the_types_it_applies_to() -> None:
    rows = [line.split(" | ") for line in PAGE.splitlines() if line.startswith("| `")]
    assert [row[0].strip("|` ").partition(":")[0] for row in rows] == list(mask_names())
    for name, said in ((row[0].strip("|` "), row[1]) for row in rows):
        mask = name.replace("WIDTH", "10")
        words = list(KINDS) if said == "every type" else said.split(", ")
        meant = {kind for word in words for kind in KINDS[word]}
        meant |= set(OTHERS) if said == "every type" else set()
        every = {*OTHERS, *(kind for kinds in KINDS.values() for kind in kinds)}
        assert {kind for kind in every if applies_to(mask, kind)} == meant, name
