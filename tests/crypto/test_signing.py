"""A signature counts for one key, one use, one text; key files that others can read do not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.crypto import private_files, strict_json
from gateway.crypto.notes import parse_verifier_key, sign_note, verifier_key, verify_note
from gateway.crypto.signing import (
    USES,
    Signer,
    load_or_create,
    open_document,
    sign_document,
    verify,
    verify_text,
)
from gateway.errors import ConfigError, IntegrityError, InvalidInput

LOG = Signer(b"\x01" * 32, "log")
MANIFEST = Signer(b"\x01" * 32, "manifest")  # the same key material on purpose
NOTE = sign_note(LOG, "gateway.example/log", "gateway.example/log\n3\nroot\n")


def test_a_signature_of_one_use_does_not_count_for_another() -> None:
    signature = MANIFEST.sign(b"text")
    for use in set(USES) - {"manifest"}:
        with pytest.raises(IntegrityError):
            verify(MANIFEST.public_key, use, b"text", signature)
    verify(MANIFEST.public_key, "manifest", b"text", signature)


def test_keys_of_other_uses_do_not_sign_bare_text() -> None:
    with pytest.raises(InvalidInput):
        MANIFEST.sign_text(b"text")
    with pytest.raises(InvalidInput):
        LOG.sign_text(b"\x00dataset-gateway/v0 log\x00text")
    with pytest.raises(InvalidInput):
        sign_note(Signer(b"\x01" * 32, "token"), "name", "text\n")


@pytest.mark.parametrize("signature", [b"", b"\x00" * 64, b"\xff" * 64, b"x" * 65])
def test_garbage_is_no_signature(signature: bytes) -> None:
    with pytest.raises(IntegrityError):
        verify(LOG.public_key, "log", b"text", signature)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660, 0o644])
def test_a_key_file_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "keys" / "log.json"
    load_or_create(path, "log")
    path.chmod(mode)
    with pytest.raises(ConfigError, match="reached by others"):
        load_or_create(path, "log")


def test_a_key_file_behind_a_link_or_in_an_open_directory_is_refused(tmp_path: Path) -> None:
    load_or_create(tmp_path / "real.json", "log")
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    with pytest.raises(ConfigError):
        load_or_create(tmp_path / "link.json", "log")
    tmp_path.chmod(0o770)
    with pytest.raises(ConfigError, match="others can write"):
        load_or_create(tmp_path / "real.json", "log")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format":1}', "null", "\x00"])
def test_a_damaged_key_file_is_refused_and_not_replaced(tmp_path: Path, text: str) -> None:
    path = tmp_path / "log.json"
    load_or_create(path, "log")
    path.write_text(text)
    with pytest.raises(ConfigError):
        load_or_create(path, "log")
    assert path.read_text() == text


def test_a_key_of_one_use_is_not_loaded_for_another(tmp_path: Path) -> None:
    load_or_create(tmp_path / "key.json", "log")
    with pytest.raises(ConfigError):
        load_or_create(tmp_path / "key.json", "token")


def test_a_key_is_made_once_and_private(tmp_path: Path) -> None:
    made = load_or_create(tmp_path / "new" / "log.json", "log")
    assert load_or_create(tmp_path / "new" / "log.json", "log").public_key == made.public_key
    assert (tmp_path / "new" / "log.json").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    assert str(made) == f"Signer({made.key_id})"


def test_a_document_with_any_change_is_refused() -> None:
    document = sign_document(MANIFEST, {"rows": 3})
    other = sign_document(MANIFEST, {"rows": 4})
    spaced = {**document, "signature": document["signature"] + "\n"}
    changed = [
        {**document, "payload": other["payload"]},
        {**document, "signature": other["signature"]},
        {**document, "key_id": LOG.key_id},
        {**document, "more": ""},
        {"payload": document["payload"]},
        {**document, "payload": 7},
        spaced,
    ]
    for bad in changed:
        with pytest.raises(IntegrityError):
            open_document(bad, MANIFEST.public_key, "manifest")
    assert open_document(document, MANIFEST.public_key, "manifest") == {"rows": 3}


def test_a_signed_document_that_is_not_canonical_is_refused() -> None:
    import base64

    for text in (b'{"a": 1}', b'{"a":1,"a":1}', b'{"b":1,"a":1}', b"[]", b'{"a":NaN}'):
        document = {
            "payload": base64.b64encode(text).decode(),
            "signature": base64.b64encode(MANIFEST.sign(text)).decode(),
            "key_id": MANIFEST.key_id,
        }
        with pytest.raises(IntegrityError):
            open_document(document, MANIFEST.public_key, "manifest")


@given(st.integers(0, len(NOTE) - 1), st.characters())
def test_a_note_with_any_other_character_is_refused(at: int, other: str) -> None:
    changed = NOTE[:at] + other + NOTE[at + 1 :]
    if changed != NOTE:
        with pytest.raises(IntegrityError):
            verify_note(changed, LOG.public_key, "gateway.example/log")


def test_a_note_of_another_name_or_key_is_refused() -> None:
    with pytest.raises(IntegrityError):
        verify_note(NOTE, LOG.public_key, "gateway.example/other")
    with pytest.raises(IntegrityError):
        verify_note(NOTE, Signer(b"\x02" * 32, "log").public_key, "gateway.example/log")
    with pytest.raises(IntegrityError):
        verify_note(NOTE + NOTE.splitlines()[-1] + "\n", LOG.public_key, "gateway.example/log")


def test_signatures_of_witnesses_beside_ours_do_not_disturb() -> None:
    witness = sign_note(Signer(b"\x03" * 32, "log"), "witness", NOTE.rpartition("\n\n")[0] + "\n")
    both = NOTE + witness.splitlines()[-1] + "\n"
    assert verify_note(both, LOG.public_key, "gateway.example/log").endswith("root\n")


def test_a_text_that_is_no_note_is_not_signed() -> None:
    for text in ("", "\n", "no newline", "tab\there\n", "nul\x00\n"):
        with pytest.raises(InvalidInput):
            sign_note(LOG, "name", text)
    with pytest.raises(InvalidInput):
        sign_note(LOG, "a name", "text\n")


def test_the_note_of_the_specification_verifies() -> None:
    # golang.org/x/mod/sumdb/note, the example of the package documentation.
    name, key = parse_verifier_key(
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    )
    text = (
        "If you think cryptography is the answer to your problem,\n"
        "then you don't know what your problem is.\n"
    )
    sealed = (
        "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZIn"
        "NIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
    )
    note = f"{text}\n\u2014 PeterNeumann {sealed}\n"
    assert verify_note(note, key, name) == text
    assert verifier_key(name, key).startswith("PeterNeumann+c74f20a3+")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "name+00000000+AAAA",
        "a+b+c",
        "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    ],
)
def test_what_is_no_verifier_key_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_verifier_key(text)


def test_the_private_key_does_not_show_in_the_file_of_another_use(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    load_or_create(path, "log")
    assert json.loads(path.read_text())["use"] == "log"


def test_what_is_no_key_makes_no_signer() -> None:
    for seed, use in ((b"short", "log"), (b"\x01" * 32, "other")):
        with pytest.raises(InvalidInput):
            Signer(seed, use)
    with pytest.raises(InvalidInput):
        verifier_key("a name", LOG.public_key)
    with pytest.raises(IntegrityError):
        verify_text(LOG.public_key, b"\x00", bytes(64))


def test_base64_with_stray_bits_is_refused() -> None:
    document = sign_document(MANIFEST, {"a": 1})
    for name, bad in (("signature", document["signature"][:-3] + "B=="), ("payload", "QR==")):
        with pytest.raises(IntegrityError):
            open_document({**document, name: bad}, MANIFEST.public_key, "manifest")


def test_a_note_that_is_too_long_or_has_odd_lines_is_refused() -> None:
    name, key = "gateway.example/log", LOG.public_key
    text, line = NOTE.rsplit("\n", 2)[:2]
    for bad in (
        NOTE + "x" * 70_000,
        f"{text}\n{line}\n" + f"{line}\n" * 20,
        f"{text}\n\u2014 other ====\n{line}\n",
        f"{text}\n\u2014 other AAA=\n{line}\n",
        f"{text}\n\u2014 other AAAAA\n{line}\n",
        f"{text}\n\u2014 other AAAAAAAB\nnoise\n{line}\n",
        "\ud800" + NOTE,
        "\n\n" + line + "\n",
        "",
    ):
        with pytest.raises(IntegrityError):
            verify_note(bad, key, name)


def test_of_two_processes_that_make_a_key_the_first_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log.json"
    create = private_files.create_private

    def second(target: Path, data: bytes) -> None:
        create(target, strict_json.encode(json.loads(data) | {"private_key": FIRST}))
        create(target, data)

    monkeypatch.setattr(private_files, "create_private", second)
    assert load_or_create(path, "log").public_key == Signer(bytes(32), "log").public_key


FIRST = "A" * 43 + "="  # a seed of zeros
