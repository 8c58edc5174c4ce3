"""An EvidencePack verifies offline, and whatever is left out, changed or made up is noticed."""

from __future__ import annotations

import ast
import asyncio
import hashlib
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import gateway.wire as W
from gateway.crypto.notes import sign_note, verifier_key
from gateway.crypto.signing import Signer
from gateway.domain.manifest import Manifest
from gateway.errors import AccessDenied
from gateway.journal import verify_pack
from gateway.services import evidence, request_access
from gateway.services.house import House
from gateway.services.request_access import Ask
from gateway.services.storage import seal_manifest
from tests.services.registrations import ended
from tests.services.simulator import add_rules, add_tenant, add_version, caller
from tests.services.test_access import ASK, RULES, TRAINER, run
from tests.services.test_derivation import erase as erased

VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "manifest-v1"
MANIFEST = next(iter(sorted(VECTORS.glob("ok-*.json")))).read_bytes()
DIGEST = hashlib.sha256(MANIFEST).hexdigest()
AUDITOR = caller("clinic", "auditor", "auditor")
LOG = "dataset-gateway/node-1"


@pytest.fixture
def shared(house: House) -> House:
    """As in test_access.py, but the version's Manifest is really stored."""

    async def arrange() -> None:
        await add_tenant(house, "clinic", ("owner", "owner"))
        await add_tenant(house, "startup", ("ml", "trainer"))
        await add_tenant(house, "rival", ("spy", "trainer"))
        sealed = seal_manifest(house.signers.manifest, Manifest.from_bytes(MANIFEST, digest=DIGEST))
        house.store.put_bytes_new("manifests/x.json", sealed)
        names = ["age", "hr", "name"]
        add_version(house, "clinic", "icu", names, manifest_digest=DIGEST)
        await add_rules(house, "clinic", RULES)

    run(arrange())
    return house


def packed(house: House, who: Any = AUDITOR, **wanted: Any) -> bytes:
    async def made() -> bytes:
        operation = await evidence.export(house, who, W.EvidenceRequest(**wanted))
        result = await ended(operation)
        data = b""
        while len(data) < result["bytes"]:
            data += await evidence.part(house, who, result["pack"], len(data))
        return data

    return asyncio.run(made())


@pytest.fixture
def pack(shared: House) -> bytes:
    run(request_access.request_grant(shared, TRAINER, ASK))
    with pytest.raises(AccessDenied):
        run(
            request_access.request_grant(
                shared, TRAINER, Ask(dataset="clinic/icu", purpose="marketing")
            )
        )
    return packed(shared)


def key_of(house: House, tmp_path: Path) -> str:
    path = tmp_path / "log.vkey"
    path.write_text(verifier_key(LOG, house.signers.log.public_key))
    return str(path)


def verified(data: bytes, tmp_path: Path, *arguments: str) -> int:
    path = tmp_path / "pack.zip"
    path.write_bytes(data)
    return verify_pack.main([str(path), *arguments])


def changed(data: bytes, edit: Callable[[dict[str, bytes]], object]) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    edit(members)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def about(members: dict[str, bytes], **facts: Any) -> None:
    members["pack.json"] = json.dumps({**json.loads(members["pack.json"]), **facts}).encode()


def drop(line: int) -> Callable[[dict[str, bytes]], object]:
    def edit(members: dict[str, bytes]) -> None:
        lines = members["events.jsonl"].splitlines(keepends=True)
        del lines[line]
        members["events.jsonl"] = b"".join(lines)

    return edit


def replace(name: str, old: bytes, new: bytes) -> Callable[[dict[str, bytes]], object]:
    def edit(members: dict[str, bytes]) -> None:
        assert old in members[name], name
        members[name] = members[name].replace(old, new, 1)

    return edit


def swap_first_two(members: dict[str, bytes]) -> None:
    lines = members["events.jsonl"].splitlines(keepends=True)
    members["events.jsonl"] = b"".join([lines[1], lines[0], *lines[2:]])


def first_rules(members: dict[str, bytes]) -> str:
    return next(name for name in members if name.startswith("policies/"))


BROKEN: dict[str, Callable[[dict[str, bytes]], object]] = {
    "an event in the middle is left out": drop(3),
    "the first event is left out": drop(0),
    "the newest event is left out": drop(-1),
    "two events change places": swap_first_two,
    "an event says something else": replace("events.jsonl", b'"deny"', b'"allow"'),
    "a line is no event": replace("events.jsonl", b'"v":0', b'"v":1'),
    "the proof is cut": lambda m: m.update({"proof.bin": m["proof.bin"][:-32]}),
    "the proof is longer": lambda m: m.update({"proof.bin": m["proof.bin"] + bytes(32)}),
    "the LogCheckpoint says another size": replace("checkpoint.txt", b"node-1\n", b"node-1\n1"),
    "the LogCheckpoint is missing": lambda m: m.pop("checkpoint.txt"),
    "the LogCheckpoint is of another node": lambda m: about(m, node="node-2"),
    "the rules were changed": lambda m: m.update({first_rules(m): b"{}"}),
    "a manifest was changed": replace(f"manifests/{DIGEST}.json", b"clinic", b"clinig"),
    "a manifest is missing": lambda m: m.pop(f"manifests/{DIGEST}.json"),
    "the rules are missing": lambda m: m.pop(first_rules(m)),
    "it claims another tenant": lambda m: about(m, tenant="startup"),
    "whose chain it is stands nowhere": lambda m: m.pop("first.jsonl"),
    "another event is called the first": lambda m: m.update(
        {"first.jsonl": m["events.jsonl"].splitlines()[1]}
    ),
    "it claims another chain": lambda m: about(m, tag="0" * 32),
    "it claims another newest event": lambda m: about(
        m, head={**json.loads(m["pack.json"])["head"], "seq": 1}
    ),
    "a key opens nothing": replace("keys.jsonl", b'"key":"', b'"key":"00'),
    "a key is for an event that is not there": lambda m: m.update(
        {"keys.jsonl": m["keys.jsonl"] + b'{"index":999999,"key":"00"}\n'}
    ),
    "it is of another format": lambda m: about(m, format="gateway-evidence-v9"),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_a_pack_is_broken_when(
    what: str, pack: bytes, shared: House, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = key_of(shared, tmp_path)
    assert verified(changed(pack, BROKEN[what]), tmp_path, "--log-key", key) == 1
    said = capsys.readouterr().out
    assert said.startswith("BROKEN: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize("data", [b"", b"PK", b"no zip at all" * 100])
def test_what_is_no_pack_is_broken(data: bytes, tmp_path: Path) -> None:
    assert verified(data, tmp_path) == 1


@pytest.mark.parametrize("member", ["events.jsonl", "keys.jsonl", "proof.bin", "pack.json"])
def test_bytes_that_do_not_unpack_are_broken_and_no_traceback(
    member: str, pack: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with zipfile.ZipFile(io.BytesIO(pack)) as archive:
        found = archive.getinfo(member)
    data = bytearray(pack)
    begin = found.header_offset + 30 + len(member)
    data[begin + 20 : begin + 40] = b"\xff" * 20
    assert verified(bytes(data), tmp_path) == 1
    assert capsys.readouterr().out.startswith("BROKEN: ")


@pytest.mark.parametrize("text", [b"[]", b"null", b"{}", b"\xff", b"[" * 100_000])
def test_a_pack_that_is_about_nothing_is_broken(text: bytes, pack: bytes, tmp_path: Path) -> None:
    assert verified(changed(pack, lambda m: m.update({"pack.json": text})), tmp_path) == 1


def test_the_program_is_short_enough_to_be_read() -> None:
    assert len(Path(verify_pack.__file__).read_text().splitlines()) < 250


def test_a_pack_that_lacks_a_field_says_that_it_is_unreadable(
    pack: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lacking = changed(pack, lambda files: files.update({"pack.json": b"{}"}))
    assert verified(lacking, tmp_path) == 1
    assert capsys.readouterr().out.startswith("BROKEN: unreadable, KeyError: ")


def test_a_whole_pack_verifies(
    pack: bytes, shared: House, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verified(pack, tmp_path, "--log-key", key_of(shared, tmp_path)) == 0
    assert capsys.readouterr().out.endswith("VERIFIED\n")


def complete(said: str) -> list[str]:
    """The two ends of the time that a verified pack is complete for."""
    (line,) = [line for line in said.splitlines() if line.startswith("complete: ")]
    return line.removeprefix("complete: ").split(" to ")


def test_a_pack_that_is_made_narrower_says_so(
    pack: bytes, shared: House, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever hands it on may cut it: what is left is all of a shorter time, and that is told."""
    key = key_of(shared, tmp_path)
    with zipfile.ZipFile(io.BytesIO(pack)) as archive:
        first = json.loads(archive.read("events.jsonl").splitlines()[0])
    narrow = changed(pack, lambda m: about(m, since=first["time"] + 1, until=86_400_000_000))
    assert verified(narrow, tmp_path, "--log-key", key) == 0
    said = capsys.readouterr().out
    assert complete(said) == [
        str(datetime.fromtimestamp((first["time"] + 1) // 10**6, UTC)), "1970-01-02 00:00:00+00:00",
    ]  # fmt: skip


def test_a_newer_log_shown_with_older_heads_is_complete_only_up_to_them(
    pack: bytes, shared: House, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Events between them and the LogCheckpoint may be hidden: their time is what is told."""
    key = key_of(shared, tmp_path)
    assert verified(pack, tmp_path, "--log-key", key) == 0
    before = complete(capsys.readouterr().out)
    run(request_access.check(shared, TRAINER, ASK))
    with zipfile.ZipFile(io.BytesIO(pack)) as archive:
        lines = [*archive.read("events.jsonl").splitlines(), archive.read("heads.jsonl")]
    note = shared.journal.checkpoint()
    size = int(note.split("\n")[1])
    proof = shared.journal.multiproof([json.loads(line)["index"] for line in lines], size)
    older = {"checkpoint.txt": note.encode(), "proof.bin": b"".join(proof)}
    assert verified(changed(pack, lambda m: m.update(older)), tmp_path, "--log-key", key) == 0
    said = capsys.readouterr().out
    assert f", {size} events," in said
    assert complete(said) == before


def test_a_pack_of_a_range_says_whose_chain_it_is(shared: House, tmp_path: Path) -> None:
    run(request_access.check(shared, TRAINER, ASK))
    times = [event.time for event in shared.journal.read(0) if event.owner_tenant == "clinic"]
    data, key = packed(shared, since=_text(times[2])), key_of(shared, tmp_path)
    assert verified(data, tmp_path, "--log-key", key) == 0
    for name in ("startup", "platform", ""):
        other = changed(data, lambda m, name=name: about(m, tenant=name))  # type: ignore[misc]
        assert verified(other, tmp_path, "--log-key", key) == 1


def test_without_a_key_from_elsewhere_it_is_only_consistent(pack: bytes, tmp_path: Path) -> None:
    assert verified(pack, tmp_path) == 2


@pytest.mark.parametrize("text", ["", "\n", "no key", "a+b"])
def test_a_file_without_a_key_is_not_called_a_broken_signature(
    text: str, pack: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "log.vkey").write_text(text)
    assert verified(pack, tmp_path, "--log-key", str(tmp_path / "log.vkey")) == 1
    assert "no verifier key" in capsys.readouterr().out


def test_a_history_that_somebody_signed_anew_does_not_verify(
    pack: bytes, shared: House, tmp_path: Path
) -> None:
    """Everything in it fits together; only the signer is another one."""
    forger = Signer(b"\x01" * 32, "log")

    def forged(members: dict[str, bytes]) -> None:
        text = members["checkpoint.txt"].decode().rpartition("\n\n")[0] + "\n"
        members["checkpoint.txt"] = sign_note(forger, LOG, text).encode()
        members["log.vkey"] = verifier_key(LOG, forger.public_key).encode()

    made = changed(pack, forged)
    assert verified(made, tmp_path) == 2
    assert verified(made, tmp_path, "--log-key", key_of(shared, tmp_path)) == 1


def test_a_witness_counts_only_when_it_signed(pack: bytes, shared: House, tmp_path: Path) -> None:
    witness = Signer(b"\x02" * 32, "log")
    name, kind = "witness.example", b"\x04"
    from base64 import b64encode
    from hashlib import sha256

    digest = sha256(name.encode() + b"\n" + kind + witness.public_key).digest()[:4]
    key = f"{name}+{digest.hex()}+{b64encode(kind + witness.public_key).decode()}"

    def cosigned(members: dict[str, bytes]) -> None:
        note = members["checkpoint.txt"].decode()
        text = note.rpartition("\n\n")[0] + "\n"
        signature = witness.sign_text(f"cosignature/v1\ntime 7\n{text}".encode())
        blob = b64encode(digest + (7).to_bytes(8, "big") + signature).decode()
        members["checkpoint.txt"] = f"{note}\u2014 {name} {blob}\n".encode()

    log = key_of(shared, tmp_path)
    assert verified(pack, tmp_path, "--log-key", log, "--witness-key", key) == 1
    made = changed(pack, cosigned)
    assert verified(made, tmp_path, "--log-key", log, "--witness-key", key) == 0


def test_a_range_has_its_neighbours_and_all_between_them(
    shared: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(request_access.check(shared, TRAINER, ASK))
    run(add_rules(shared, "clinic", RULES.replace("hr]", "hr, name]")))
    times = [event.time for event in shared.journal.read(0) if event.owner_tenant == "clinic"]
    since, until = (_text(times[n]) for n in (2, -1))
    data = packed(shared, since=since, until=until)
    assert verified(data, tmp_path, "--log-key", key_of(shared, tmp_path)) == 0
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        facts = json.loads(archive.read("pack.json"))
        lines = archive.read("events.jsonl").splitlines()
    assert (facts["before"], facts["after"]) == (True, True)
    assert len(lines) == facts["events"] + 2
    for line in (0, -1):
        key = key_of(shared, tmp_path)
        assert verified(changed(data, drop(line)), tmp_path, "--log-key", key) == 1


def _text(moment: float) -> str:
    return datetime.fromtimestamp(moment, tz=UTC).isoformat()


def test_the_program_needs_nothing_but_cryptography_and_is_short(
    pack: bytes, shared: House, tmp_path: Path
) -> None:
    with zipfile.ZipFile(io.BytesIO(pack)) as archive:
        program = archive.read("verify.py").decode()
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).split(".")[0]
        for node in ast.walk(ast.parse(program))
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert imported - sys.stdlib_module_names == {"cryptography"}
    assert len(program.splitlines()) < 250
    (tmp_path / "verify.py").write_text(program)
    (tmp_path / "pack.zip").write_bytes(pack)
    key = key_of(shared, tmp_path)
    done = subprocess.run(
        [sys.executable, "-I", "verify.py", "pack.zip", "--log-key", key],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "VERIFIED"), done.stderr


def test_a_manifest_that_cannot_be_read_is_not_called_erased(
    shared: House, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The version is in the catalogue and its manifest is not in the store: somebody removed it."""
    shared.store.delete("manifests/x.json")
    data = packed(shared)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert json.loads(archive.read("pack.json"))["erased"] == []
    assert verified(data, tmp_path, "--log-key", key_of(shared, tmp_path)) == 1
    assert "manifests/" in capsys.readouterr().out


def test_a_pack_about_what_was_erased_still_verifies(shared: House, tmp_path: Path) -> None:
    erased(shared, "clinic/icu")
    data = packed(shared)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert json.loads(archive.read("pack.json"))["erased"] == [DIGEST]
    assert verified(data, tmp_path, "--log-key", key_of(shared, tmp_path)) == 0
