"""What every KMS plug must do; one suite for all of them (gateway/ports.py: Kms)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gateway import discovery
from gateway.errors import ConfigError, GatewayError, IntegrityError, InvalidInput, KeyUnavailable
from gateway.ports import Kms

PLUGS: dict[str, Callable[[Path], str]] = {
    "file": lambda _: "file:",
    "file, own directory": lambda path: f"file://{path}/elsewhere",
}
KEY = bytes(range(32))


@pytest.fixture(params=PLUGS)
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return PLUGS[request.param](tmp_path)


@pytest.fixture
def kms(uri: str, tmp_path: Path) -> Kms:
    return discovery.connect("kms", uri, config_dir=tmp_path)


def test_a_root_that_was_never_made_wraps_nothing(kms: Kms) -> None:
    with pytest.raises(KeyUnavailable):
        kms.wrap_key(KEY, tenant="clinic", generation=1, aad=b"")
    with pytest.raises(KeyUnavailable):
        kms.destroy_root("clinic", 1)
    assert kms.generations("clinic") == ()


def test_a_wrapped_key_opens_only_with_its_tenant_generation_and_place(kms: Kms) -> None:
    for tenant in ("clinic", "clinic", "startup", "startup"):
        kms.create_root(tenant)
    wrapped = kms.wrap_key(KEY, tenant="clinic", generation=1, aad=b"place")
    for tenant, generation, aad in (
        ("startup", 1, b"place"),
        ("clinic", 2, b"place"),
        ("clinic", 1, b"elsewhere"),
        ("clinic", 1, b""),
    ):
        with pytest.raises(IntegrityError):
            kms.unwrap_key(wrapped, tenant=tenant, generation=generation, aad=aad)
    assert kms.unwrap_key(wrapped, tenant="clinic", generation=1, aad=b"place") == KEY


def test_any_flipped_byte_of_a_wrapped_key_is_refused(kms: Kms) -> None:
    kms.create_root("clinic")
    wrapped = kms.wrap_key(KEY, tenant="clinic", generation=1, aad=b"place")
    for at in range(len(wrapped)):
        changed = wrapped[:at] + bytes([wrapped[at] ^ 0x80]) + wrapped[at + 1 :]
        with pytest.raises(IntegrityError):
            kms.unwrap_key(changed, tenant="clinic", generation=1, aad=b"place")
    for cut in (0, 1, 27, len(wrapped) - 1):
        with pytest.raises(IntegrityError):
            kms.unwrap_key(wrapped[:cut], tenant="clinic", generation=1, aad=b"place")


def test_a_destroyed_generation_is_gone_for_ever(kms: Kms, uri: str, tmp_path: Path) -> None:
    kms.create_root("clinic")
    kms.create_root("clinic")
    wrapped = kms.wrap_key(KEY, tenant="clinic", generation=1, aad=b"")
    kms.destroy_root("clinic", 1)
    for again in (kms, discovery.connect("kms", uri, config_dir=tmp_path)):
        assert again.generations("clinic") == (2,)
        with pytest.raises(KeyUnavailable):
            again.unwrap_key(wrapped, tenant="clinic", generation=1, aad=b"")
        with pytest.raises(KeyUnavailable):
            again.wrap_key(KEY, tenant="clinic", generation=1, aad=b"")


def test_the_number_of_a_destroyed_generation_is_not_used_again(kms: Kms) -> None:
    kms.create_root("clinic")
    kms.destroy_root("clinic", 1)
    assert kms.create_root("clinic") == 2


@pytest.mark.parametrize("tenant", ["", ".", "../x", "a/b", "A", "a\n", "x" * 80])
def test_a_tenant_that_is_no_name_is_refused(kms: Kms, tenant: str) -> None:
    with pytest.raises(InvalidInput):
        kms.create_root(tenant)


def test_only_keys_of_32_bytes_are_wrapped(kms: Kms) -> None:
    kms.create_root("clinic")
    with pytest.raises(InvalidInput):
        kms.wrap_key(b"short", tenant="clinic", generation=1, aad=b"")


def test_roots_survive_a_restart(kms: Kms, uri: str, tmp_path: Path) -> None:
    assert [kms.create_root(t) for t in ("clinic", "clinic", "_gateway")] == [1, 2, 1]
    wrapped = kms.wrap_key(KEY, tenant="clinic", generation=2, aad=b"place")
    again = discovery.connect("kms", uri, config_dir=tmp_path)
    assert again.generations("clinic") == (1, 2)
    assert again.unwrap_key(wrapped, tenant="clinic", generation=2, aad=b"place") == KEY


def test_custody_is_said_in_words(kms: Kms) -> None:
    assert len(kms.custody) > 20


# What only the file plug can get wrong


@pytest.mark.parametrize("bad", ["file://host/x", "file:relative", "file:///x?y=1"])
def test_a_uri_that_names_no_directory_is_refused(bad: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        discovery.connect("kms", bad, config_dir=tmp_path)


def test_a_root_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    kms: Kms = discovery.connect("kms", "file:", config_dir=tmp_path)
    kms.create_root("clinic")
    (tmp_path / "roots" / "clinic.1.root").chmod(0o640)
    with pytest.raises(ConfigError):
        kms.wrap_key(KEY, tenant="clinic", generation=1, aad=b"")


def test_a_restored_key_file_of_a_destroyed_root_is_not_obeyed(tmp_path: Path) -> None:
    kms: Kms = discovery.connect("kms", "file:", config_dir=tmp_path)
    kms.create_root("clinic")
    path = tmp_path / "roots" / "clinic.1.root"
    kept = path.read_bytes()
    wrapped = kms.wrap_key(KEY, tenant="clinic", generation=1, aad=b"")
    kms.destroy_root("clinic", 1)
    path.write_bytes(kept)
    path.chmod(0o600)
    with pytest.raises(KeyUnavailable):
        kms.unwrap_key(wrapped, tenant="clinic", generation=1, aad=b"")
    discovery.connect("kms", "file:", config_dir=tmp_path)
    assert not path.exists()


def test_a_damaged_root_file_is_unavailable(tmp_path: Path) -> None:
    kms: Kms = discovery.connect("kms", "file:", config_dir=tmp_path)
    kms.create_root("clinic")
    (tmp_path / "roots" / "clinic.1.root").write_bytes(b"short")
    with pytest.raises(GatewayError):
        kms.wrap_key(KEY, tenant="clinic", generation=1, aad=b"")
