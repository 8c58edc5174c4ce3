"""Sealing is bound to key and place; canonical bytes are injective."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.crypto.envelope import bound, bound_further, commitment, derive, seal, tag, unseal
from gateway.errors import IntegrityError, InvalidInput

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
PARTS = st.lists(
    st.one_of(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
        st.binary(max_size=8),
        st.integers(),
    ),
    max_size=4,
)


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    for use in (lambda k: seal(k, b"", b""), lambda k: derive(k, "x"), lambda k: tag(k, "x")):
        with pytest.raises(InvalidInput):
            use(b"k" * length)


@pytest.mark.parametrize("part", [True, None, 1.5, ["x"], "\ud800"])
def test_what_has_no_canonical_bytes_is_not_bound(part: object) -> None:
    with pytest.raises(InvalidInput):
        bound("label", part)  # type: ignore[arg-type]


def test_sealed_bytes_open_at_no_other_place_and_under_no_other_key() -> None:
    sealed = seal(KEY, b"row", bound("a", 1))
    for key, aad in ((OTHER, bound("a", 1)), (KEY, bound("a", 2)), (KEY, bound("b", 1))):
        with pytest.raises(IntegrityError):
            unseal(key, sealed, aad)


@given(st.binary(max_size=64), st.data())
def test_any_flipped_bit_is_noticed(plaintext: bytes, data: st.DataObject) -> None:
    sealed = bytearray(seal(KEY, plaintext, b"place"))
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(IntegrityError):
        unseal(KEY, bytes(sealed), b"place")


@given(st.integers(0, 200))
def test_truncated_bytes_are_noticed(cut: int) -> None:
    sealed = seal(KEY, b"x" * 100, b"place")
    if cut < len(sealed):
        with pytest.raises(IntegrityError):
            unseal(KEY, sealed[:cut], b"place")


@given(st.text(max_size=4), PARTS, st.text(max_size=4), PARTS)
def test_canonical_bytes_are_injective(a: str, parts: list, b: str, others: list) -> None:
    def kinds(label: str, items: list) -> list:
        return [label, *((type(item), item) for item in items)]

    same = kinds(a, parts) == kinds(b, others)
    assert (bound(a, *parts) == bound(b, *others)) == same
    assert bound_further(bound(a, *parts), *others) == bound(a, *parts, *others)


def test_borders_between_parts_cannot_be_moved() -> None:
    assert bound("x", "ab", "c") != bound("x", "a", "bc")
    assert bound("x", "1") != bound("x", 1) != bound("x", b"1")
    assert bound("x") != bound("x", "") != bound("x", "", "")


@given(st.binary(max_size=256), st.binary(max_size=32))
def test_what_was_sealed_opens(plaintext: bytes, aad: bytes) -> None:
    assert unseal(KEY, seal(KEY, plaintext, aad), aad) == plaintext


def test_derived_keys_commitments_and_tags_are_independent() -> None:
    made = [
        derive(KEY, "commit").hex(),
        derive(KEY, "tag").hex(),
        derive(KEY, "tag", 1).hex(),
        derive(OTHER, "tag").hex(),
        commitment(KEY),
        commitment(KEY, "tag"),
        commitment(OTHER),
        tag(KEY, "tag"),
    ]
    assert len(set(made)) == len(made)
    assert len(commitment(KEY)) == 64
    assert len(tag(KEY, "a")) == 32
