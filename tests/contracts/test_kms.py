"""What every KMS plug must do; one suite for all of them (gateway/ports.py: Kms)."""

from __future__ import annotations

import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gateway import discovery
from gateway.errors import (
    ConfigError,
    ConnectorError,
    IntegrityError,
    InvalidInput,
    KeyUnavailable,
)
from gateway.ports import Kms
from tests.contracts.machines import PIN, Door, Moto

PLUGS = ("file", "file, own directory", "passphrase", "pkcs11", "awskms")
KEY = bytes(range(32))


@pytest.fixture(params=PLUGS)
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    match request.param:
        case "file":
            return "file:"
        case "file, own directory":
            return f"file://{tmp_path}/elsewhere"
        case "passphrase":
            return f"passphrase:?from=file:{secret_file(tmp_path, 'correct horse')}"
        case "pkcs11":
            hsm: str = request.getfixturevalue("hsm")
            return hsm.replace("?", f";object={uuid.uuid4().hex}?")
        case _:
            server: Moto = request.getfixturevalue("moto")
            server.reset()
            return f"awskms:?region=eu-central-1&endpoint={server.url}"


def secret_file(directory: Path, text: str) -> Path:
    path = directory / "secret"
    path.write_text(f"{text}\n")
    path.chmod(0o600)
    return path


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


def test_a_tenant_that_is_no_name_is_refused(kms: Kms) -> None:
    for tenant in ("", ".", "../x", "a/b", "A", "a\n", "x" * 80):
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


def test_destruction_says_when_it_is_beyond_recall_and_may_be_asked_again(kms: Kms) -> None:
    kms.create_root("clinic")
    effective = kms.destroy_root("clinic", 1)
    assert effective is None or effective > time.time() + 6 * 24 * 3600
    assert kms.destroy_root("clinic", 1) == effective
    assert kms.generations("clinic") == ()


def test_threads_may_share_a_plug(kms: Kms) -> None:
    kms.create_root("clinic")

    def use(number: int) -> bool:
        place = b"%d" % number
        wrapped = kms.wrap_key(KEY, tenant="clinic", generation=1, aad=place)
        return kms.unwrap_key(wrapped, tenant="clinic", generation=1, aad=place) == KEY

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(use, range(12)))


def test_custody_is_said_in_words_and_without_a_secret(kms: Kms) -> None:
    assert len(kms.custody) > 20
    assert "correct horse" not in kms.custody


# What only PKCS#11 can get wrong


@pytest.mark.parametrize(
    "bad",
    [
        "pkcs11:token=a?module-path=/x&pin-value=1234",
        "pkcs11:token=a?module-path=/x",
        "pkcs11:object=a?module-path=/x&pin-source=env:PIN",
        "pkcs11:token=a;slot-id=1?module-path=/x&pin-source=env:PIN",
        "pkcs11:token=a?module-path=/x&pin-source=1234",
    ],
)
def test_a_uri_that_names_no_token_or_holds_a_pin_is_refused(bad: str) -> None:
    with pytest.raises(ConfigError) as refused:
        discovery.connect("kms", bad)
    assert "1234" not in f"{refused.value} {refused.value.advice}"


def test_a_wrong_pin_and_a_missing_module_are_unavailable(hsm: str, tmp_path: Path) -> None:
    import pkcs11

    pkcs11.lib(discovery.connect("kms", hsm)._module).reinitialize()  # a login is the process's
    pin = secret_file(tmp_path, "9999")
    wrong = f"{hsm.partition('&')[0]}&pin-source=file:{pin}"
    for uri in (wrong, hsm.replace("libsofthsm2", "nothing"), hsm.replace("token=", "token=no")):
        with pytest.raises(KeyUnavailable):
            discovery.connect("kms", uri).generations("clinic")
    asked: Any = discovery.connect("kms", wrong)
    for _ in range(2):  # tokens lock after a few wrong PINs: one is sent once
        with pytest.raises(KeyUnavailable, match="does not take the PIN"):
            asked.generations("clinic")
        asked._pin = PIN
    assert discovery.connect("kms", hsm).generations("clinic") == ()


def test_a_root_made_in_the_token_shows_its_value_to_nobody(hsm: str) -> None:
    import pkcs11

    kms = discovery.connect("kms", hsm.replace("?", ";object=secrecy?"))
    kms.create_root("clinic")
    with pytest.raises(pkcs11.AttributeSensitive):
        kms._root(kms._session, "clinic", 1)[pkcs11.Attribute.VALUE]
    with pytest.raises(pkcs11.AttributeReadOnly):
        kms._root(kms._session, "clinic", 1)[pkcs11.Attribute.EXTRACTABLE] = True


def test_a_root_that_could_leave_the_token_is_not_used(hsm: str) -> None:
    import pkcs11

    kms = discovery.connect("kms", hsm.replace("?", ";object=loose?"))
    kms.generations("clinic")
    kms._session.generate_key(
        pkcs11.KeyType.AES,
        256,
        id=b"dataset-gateway",
        label="loose/clinic.1",
        store=True,
        template={pkcs11.Attribute.EXTRACTABLE: True},
    )
    with pytest.raises(KeyUnavailable, match="extractable"):
        kms.wrap_key(KEY, tenant="clinic", generation=1, aad=b"")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the library's
def test_a_security_module_that_forgot_its_sessions_is_used_again(hsm: str) -> None:
    import pkcs11

    kms = discovery.connect("kms", hsm.replace("?", f";object={uuid.uuid4().hex}?"))
    kms.create_root("clinic")
    pkcs11.lib(kms._module).reinitialize()  # as after its reset
    assert kms.generations("clinic") == (1,)


# What only AWS KMS can get wrong


def aws(url: str) -> Any:
    return discovery.connect("kms", f"awskms:?region=eu-central-1&endpoint={url}")


@pytest.mark.parametrize(
    "bad", ["awskms://host", "awskms:a/b", "awskms:?x=1", "awskms:?waiting_days=1"]
)
def test_a_uri_that_names_no_aws_keys_is_refused(bad: str) -> None:
    with pytest.raises(ConfigError):
        discovery.connect("kms", bad)


def test_a_disabled_key_is_refused_even_when_the_service_would_use_it(moto: Moto) -> None:
    moto.reset()
    kms = aws(moto.url)
    kms.create_root("clinic")
    wrapped = kms.wrap_key(KEY, tenant="clinic", generation=1, aad=b"")
    key_id = kms._client.list_keys()["Keys"][0]["KeyId"]
    kms._client.disable_key(KeyId=key_id)
    with pytest.raises(KeyUnavailable, match="Disabled"):
        kms.unwrap_key(wrapped, tenant="clinic", generation=1, aad=b"")
    assert kms.generations("clinic") == ()
    kms._client.enable_key(KeyId=key_id)
    assert kms.unwrap_key(wrapped, tenant="clinic", generation=1, aad=b"") == KEY


def test_a_service_that_is_gone_or_silent_is_unavailable_and_used_again_when_back(
    moto: Moto,
) -> None:
    moto.reset()
    door = Door(moto.url)
    kms = aws(door.url)
    kms.create_root("clinic")
    door.shut()
    with pytest.raises(KeyUnavailable):
        kms.generations("clinic")
    door.unlock()
    assert kms.generations("clinic") == (1,)
    kms.seconds_max = 0.3
    with moto.silent(), pytest.raises(KeyUnavailable, match="did not answer"):
        kms.generations("clinic")
    kms.seconds_max = 8.0
    assert kms.generations("clinic") == (1,)
    door.shut()


@pytest.mark.parametrize(
    ("uri", "library", "extra"),
    [("awskms:", "boto3", "aws"), ("pkcs11:token=a", "pkcs11", "pkcs11")],
)
def test_without_its_library_a_plug_says_what_to_install(
    uri: str, library: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConnectorError) as refused:
        discovery.connect("kms", uri)
    assert refused.value.advice == f"pip install 'dataset-gateway[{extra}]'"
