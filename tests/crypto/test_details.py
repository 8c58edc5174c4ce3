"""A sealed detail opens at its place, under its key, as it was; nowhere else and nothing else."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.kms.local_file import LocalFileKms
from gateway.crypto.details import DETAIL_BYTES_MAX, DetailSealer
from gateway.crypto.envelope import bound, commitment, derive, seal
from gateway.crypto.vault import KeyVault
from gateway.errors import IntegrityError, InvalidInput, KeyUnavailable, TooLarge

PLACE = "n1/boot/17/owner"
VALUE = {"reason": "contract ended", "subject": "startup/ml"}


class FixedKeys:
    """Detail keys without a vault, for many examples."""

    def detail_key(self, tenant: str, month: str) -> bytes:
        return f"{tenant}/{month}".encode().ljust(32, b"\x00")

    known_detail_key = detail_key


SEALER = DetailSealer(FixedKeys())


@pytest.mark.parametrize(
    "elsewhere",
    [("startup", "2026-11", PLACE), ("clinic", "2026-12", PLACE), ("clinic", "2026-11", "n1/x")],
)
def test_a_detail_opens_at_no_other_place(elsewhere: tuple[str, str, str]) -> None:
    sealed = SEALER.seal("clinic", "2026-11", PLACE, VALUE)
    with pytest.raises(IntegrityError):
        SEALER.unseal(*elsewhere, sealed)
    with pytest.raises(IntegrityError):
        SEALER.unseal(*elsewhere, {**sealed, "key": f"{elsewhere[0]}/{elsewhere[1]}"})


def test_a_detail_with_other_members_is_refused() -> None:
    sealed: dict[str, Any] = SEALER.seal("clinic", "2026-11", PLACE, VALUE)
    for bad in (
        {},
        {**sealed, "more": ""},
        {k: v for k, v in sealed.items() if k != "commitment"},
        {**sealed, "commitment": "0" * 64},
        {**sealed, "commitment": None},
        {**sealed, "commitment": sealed["commitment"].upper()},
        {**sealed, "sealed": ""},
        {**sealed, "sealed": 7},
        {**sealed, "sealed": sealed["sealed"] + "\n"},
        {**sealed, "sealed": sealed["sealed"][:-4]},
        {**sealed, "key": "clinic/2026-10"},
    ):
        with pytest.raises(IntegrityError):
            SEALER.unseal("clinic", "2026-11", PLACE, bad)


@given(st.data())
def test_any_other_character_is_refused(data: st.DataObject) -> None:
    sealed = SEALER.seal("clinic", "2026-11", PLACE, VALUE)
    name = data.draw(st.sampled_from(sorted(sealed)))
    at = data.draw(st.integers(0, len(sealed[name]) - 1))
    other = data.draw(st.characters())
    changed = sealed[name][:at] + other + sealed[name][at + 1 :]
    if changed != sealed[name]:
        with pytest.raises(IntegrityError):
            SEALER.unseal("clinic", "2026-11", PLACE, {**sealed, name: changed})


@pytest.mark.parametrize("value", [{"a": float("nan")}, {"a": {1}}, {"a": b"x"}])
def test_what_is_no_json_is_not_sealed(value: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        SEALER.seal("clinic", "2026-11", PLACE, value)


def test_a_detail_without_place_or_over_its_size_is_not_sealed() -> None:
    with pytest.raises(InvalidInput):
        SEALER.seal("clinic", "2026-11", "", VALUE)
    with pytest.raises(TooLarge):
        SEALER.seal("clinic", "2026-11", PLACE, {"a": "x" * DETAIL_BYTES_MAX})


def test_sealed_bytes_that_are_no_object_are_refused() -> None:
    key = derive(FixedKeys().detail_key("clinic", "2026-11"), "detail", PLACE)
    sealed = seal(key, b"[]", bound("detail", "clinic", "2026-11", PLACE))
    made = {
        "sealed": base64.b64encode(sealed).decode(),
        "commitment": commitment(key),
        "key": "clinic/2026-11",
    }
    for bad in (made, {**made, "sealed": made["sealed"][:-3] + "B=="}):
        with pytest.raises(IntegrityError):
            SEALER.unseal("clinic", "2026-11", PLACE, bad)


def test_after_the_root_is_destroyed_details_stay_closed(tmp_path: Path) -> None:
    kms = LocalFileKms(tmp_path / "roots")
    KeyVault(tmp_path / "vault", kms).add_tenant("clinic")
    sealed = DetailSealer(KeyVault(tmp_path / "vault", kms)).seal("clinic", "2026-11", PLACE, VALUE)
    reopened = DetailSealer(KeyVault(tmp_path / "vault", kms))
    assert reopened.unseal("clinic", "2026-11", PLACE, sealed) == VALUE
    kms.destroy_root("clinic", 1)
    with pytest.raises(KeyUnavailable):
        DetailSealer(KeyVault(tmp_path / "vault", kms)).unseal("clinic", "2026-11", PLACE, sealed)


def test_a_month_key_that_was_replaced_is_noticed_by_the_commitment(tmp_path: Path) -> None:
    kms = LocalFileKms(tmp_path / "roots")
    vault = KeyVault(tmp_path / "vault", kms)
    vault.add_tenant("clinic")
    ring = tmp_path / "vault" / "rings" / "clinic.json"
    before = ring.read_bytes()
    sealed = DetailSealer(vault).seal("clinic", "2026-11", PLACE, VALUE)
    ring.write_bytes(before)
    restored = DetailSealer(KeyVault(tmp_path / "vault", kms))
    with pytest.raises(IntegrityError, match="missing"):
        restored.unseal("clinic", "2026-11", PLACE, sealed)
    restored.seal("clinic", "2026-11", PLACE, VALUE)
    with pytest.raises(IntegrityError, match="commits"):
        restored.unseal("clinic", "2026-11", PLACE, sealed)


def test_the_same_detail_never_looks_the_same() -> None:
    first, second = (SEALER.seal("clinic", "2026-11", PLACE, VALUE) for _ in range(2))
    assert first["sealed"] != second["sealed"]
    elsewhere = SEALER.seal("clinic", "2026-11", PLACE + "x", VALUE)
    assert first["commitment"] != elsewhere["commitment"]
    assert "contract" not in str(first)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers()))
def test_what_was_sealed_opens(value: dict[str, int]) -> None:
    sealed = SEALER.seal("clinic", "2026-11", PLACE, value)
    assert SEALER.unseal("clinic", "2026-11", PLACE, sealed) == value
