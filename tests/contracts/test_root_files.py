"""Root keys in files: plain, or sealed with a passphrase."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway import discovery
from gateway.errors import ConfigError, GatewayError, KeyUnavailable
from gateway.ports import Kms
from tests.contracts.test_kms import KEY, secret_file


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


def passphrase_kms(directory: Path, text: str) -> Kms:
    uri = f"passphrase:?from=file:{secret_file(directory, text)}"
    return discovery.connect("kms", uri, config_dir=directory)


def test_another_passphrase_opens_nothing_and_is_never_repeated(tmp_path: Path) -> None:
    passphrase_kms(tmp_path, "correct horse").create_root("clinic")
    with pytest.raises(KeyUnavailable) as refused:
        passphrase_kms(tmp_path, "battery staple")
    assert "staple" not in f"{refused.value} {refused.value.advice}"


@pytest.mark.parametrize("source", ["env:GATEWAY_PASSPHRASE", "credential:passphrase"])
def test_a_passphrase_comes_from_the_environment_or_from_systemd(
    source: str, tmp_path: Path
) -> None:
    variables = {"GATEWAY_PASSPHRASE": "correct horse", "CREDENTIALS_DIRECTORY": str(tmp_path)}
    secret_file(tmp_path, "correct horse").rename(tmp_path / "passphrase")
    given = {"config_dir": tmp_path, "variables": variables.get}
    discovery.connect("kms", f"passphrase:?from={source}", **given).create_root("clinic")
    assert passphrase_kms(tmp_path, "correct horse").generations("clinic") == (1,)
    with pytest.raises(KeyUnavailable):
        discovery.connect("kms", f"passphrase:?from={source}", config_dir=tmp_path)


@pytest.mark.parametrize(
    "query", ["", "?from=", "?from=secret", "?from=file:x", "?from=env:A=B", "?from=env:A&x=1"]
)
def test_a_uri_that_says_no_place_of_the_passphrase_is_refused(query: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        discovery.connect("kms", f"passphrase:{query}", config_dir=tmp_path)


def test_a_passphrase_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = secret_file(tmp_path, "correct horse")
    path.chmod(0o644)
    with pytest.raises(ConfigError):
        discovery.connect("kms", f"passphrase:?from=file:{path}", config_dir=tmp_path)


@pytest.mark.parametrize(("cost", "value"), [("memory_kib", 1 << 30), ("passes", 1), ("lanes", 1)])
def test_costs_outside_the_limits_are_refused_before_they_are_paid(
    cost: str, value: int, tmp_path: Path
) -> None:
    passphrase_kms(tmp_path, "correct horse")
    keyring = tmp_path / "roots" / "keyring.json"
    keyring.write_text(json.dumps({**json.loads(keyring.read_text()), cost: value}))
    with pytest.raises(KeyUnavailable, match="costs"):
        passphrase_kms(tmp_path, "correct horse")


def test_a_sealed_root_is_opened_at_its_own_place_only(tmp_path: Path) -> None:
    kms = passphrase_kms(tmp_path, "correct horse")
    kms.create_root("clinic")
    kms.create_root("startup")
    roots = tmp_path / "roots"
    (roots / "startup.1.root").write_bytes((roots / "clinic.1.root").read_bytes())
    with pytest.raises(KeyUnavailable):
        kms.wrap_key(KEY, tenant="startup", generation=1, aad=b"")
    file: Kms = discovery.connect("kms", "file:", config_dir=tmp_path)
    with pytest.raises(KeyUnavailable):
        file.wrap_key(KEY, tenant="clinic", generation=1, aad=b"")


def test_roots_in_plain_files_are_not_taken_for_sealed_ones(tmp_path: Path) -> None:
    discovery.connect("kms", "file:", config_dir=tmp_path).create_root("clinic")
    with pytest.raises(ConfigError):
        passphrase_kms(tmp_path, "correct horse")
