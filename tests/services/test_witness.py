"""Witnesses against a real little one, over HTTP, written from the specification."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import gateway.wire as W
from gateway import bootstrap
from gateway.client.pins import witnessed
from gateway.config import Settings
from gateway.crypto.notes import verifier_key
from gateway.errors import ConfigError, IntegrityError
from gateway.journal import verify_pack
from gateway.journal.checkpoint import origin_of
from gateway.services import evidence, proofs, witness
from gateway.services.house import NODE, House
from gateway.services.witness import Witnesses
from tests.journal.places import refused_request
from tests.services.conftest import open_house
from tests.services.registrations import ended
from tests.services.simulator import add_tenant, caller
from tests.services.witness_server import LittleWitness, served

AUDITOR = caller("clinic", "auditor", "auditor")


def enrol(settings: Settings, url: str, *witnesses: LittleWitness) -> None:
    rows = [f'[[witness]]\nurl = "{url}"\nkey = "{w.vkey}"\nloopback = true\n' for w in witnesses]
    settings.config_dir.mkdir(exist_ok=True)
    (settings.config_dir / "witnesses.toml").write_text("".join(rows))


@pytest.fixture
def little(settings: Settings) -> Iterator[LittleWitness]:
    """A witness that knows the log of `settings`, and that its gateway asks."""
    made = LittleWitness()
    with served(made) as url:
        enrol(settings, url, made)
        yield made


@pytest.fixture
def watched(little: LittleWitness, settings: Settings) -> Iterator[House]:
    little.trust(bootstrap.init(settings)["log_key"])
    opened = open_house(settings)
    asyncio.run(add_tenant(opened, "clinic", ("auditor", "auditor")))
    yield opened
    opened.journal.close()


def asked(house: House, events: int = 0) -> Witnesses:
    """The gateway's witnesses after it has recorded something and asked them once."""
    for number in range(events):
        house.record(refused_request(number))
    asyncio.run(_ask(house))
    return house.witnesses


async def _ask(house: House) -> None:
    await house.settled()
    await house.witnesses.ask(house.journal)


def exported(house: House) -> tuple[bytes, str]:
    async def made() -> tuple[bytes, str]:
        operation = await evidence.export(house, AUDITOR, W.EvidenceRequest())
        result = await ended(operation)
        return await evidence.part(house, AUDITOR, result["pack"], 0), result["witnessed"]

    return asyncio.run(made())


def verified(pack: bytes, tmp_path: Path, log_key: str, *witness_keys: str) -> int:
    path = tmp_path / "pack.zip"
    path.write_bytes(pack)
    keys = [word for key in witness_keys for word in ("--witness-key", key)]
    return verify_pack.main([str(path), "--log-key", log_key, *keys])


def log_key(house: House) -> str:
    return verifier_key(origin_of(NODE), house.signers.log.public_key)


def test_a_pack_is_cosigned_and_a_false_history_of_the_true_log_key_is_refused(
    watched: House, little: LittleWitness, settings: Settings, tmp_path: Path
) -> None:
    pack, told = exported(watched)
    assert told == f"1 of 1 up to size {watched.journal.durable_size}"
    key = log_key(watched)
    assert verified(pack, tmp_path, key, little.vkey) == 0
    assert verified(pack, tmp_path, key, LittleWitness().vkey) == 1
    # The operator, who has every key, tells another story from the first event on.
    false = Settings(state_dir=tmp_path / "false", config_dir=settings.config_dir)
    shutil.copytree(settings.state_dir / "vault", false.state_dir / "vault")
    shutil.rmtree(settings.config_dir / "anchor")
    liar = open_house(false)
    asyncio.run(add_tenant(liar, "clinic", ("auditor", "auditor")))
    forged, told = exported(liar)
    liar.journal.close()
    assert told.startswith("0 of 1; witness.example/w1 refuses: ")
    assert verified(forged, tmp_path, key) == 0
    assert verified(forged, tmp_path, key, little.vkey) == 1


def test_each_log_checkpoint_is_proved_to_continue_the_one_before(
    watched: House, little: LittleWitness
) -> None:
    sizes = []
    for events in (0, 1, 6, 40):
        newest = asked(watched, events).newest
        assert newest is not None
        sizes.append(newest.size)
    assert sizes == sorted(set(sizes))
    assert little.asked == [200] * 4
    asked(watched)  # nothing has grown: nobody is asked
    assert little.asked == [200] * 4


def test_a_gateway_that_forgot_what_was_signed_learns_it_by_the_refusal(
    watched: House, little: LittleWitness, settings: Settings
) -> None:
    asked(watched, 5)
    first = watched.witnesses.newest
    watched.journal.close()
    again = open_house(settings)
    assert again.witnesses.newest == first  # kept over the restart
    asked(again, 3)
    assert little.asked == [200, 409, 200]
    again.journal.close()


def test_a_client_checks_the_witness_itself(watched: House, little: LittleWitness) -> None:
    view = asyncio.run(proofs.checkpoint(watched, AUDITOR, None))
    with pytest.raises(IntegrityError, match="no LogCheckpoint was witnessed"):
        witnessed(view, little.vkey)
    asked(watched, 3)
    view = asyncio.run(proofs.checkpoint(watched, AUDITOR, None))
    assert witnessed(view, little.vkey).size == watched.journal.durable_size
    with pytest.raises(IntegrityError, match="did not cosign"):
        witnessed(view, LittleWitness().vkey)


def test_a_log_rolled_back_as_a_whole_is_refused_by_its_witness(
    watched: House, little: LittleWitness, settings: Settings, tmp_path: Path
) -> None:
    asked(watched, 3)
    watched.journal.close()
    for name in ("state", "config"):
        shutil.copytree(tmp_path / name, tmp_path / f"{name}.old")
    later = open_house(settings)
    seen = asked(later, 50).newest
    later.journal.close()
    for name in ("state", "config"):
        shutil.rmtree(tmp_path / name)
        (tmp_path / f"{name}.old").rename(tmp_path / name)
    back = open_house(settings)
    told = asked(back, 2).told
    assert seen is not None
    assert f"refuses: it has seen {seen.size} events, and this log has" in told
    asked(back, 80)  # grown beyond it, and another story
    assert "refuses: this log does not continue" in back.witnesses.told
    assert little.seen[origin_of(NODE)][0] == seen.size
    back.journal.close()


def test_another_log_of_the_same_size_is_refused(watched: House, little: LittleWitness) -> None:
    asked(watched)
    size, _ = little.seen[origin_of(NODE)]
    little.seen[origin_of(NODE)] = (size, b"o" * 32)
    fresh = Witnesses(watched.witnesses.rows, watched.settings.state_dir / "x")
    asyncio.run(fresh.ask(watched.journal))
    assert fresh.told.endswith(f"refuses: it has seen another log of {size} events")


@pytest.mark.parametrize(
    "broken",
    [
        (302, "text/plain", b""),
        (404, "text/plain", b""),
        (500, "text/plain", b"x" * 100_000),
        (200, "text/plain", b""),
        (200, "text/plain", b"\xff\xfe"),
        (200, "text/plain", "— witness.example/w1 AAAAAAAA\n".encode()),
        (200, "text/plain", "— somebody/else AAAAAAAA\n".encode() * 17),
        (409, "text/x.tlog.size", b"-1\n"),
        (409, "text/x.tlog.size", b"1" * 400 + b"\n"),
        (409, "text/x.tlog.size", b"3\n"),
        (409, "text/html", b"<html>"),
    ],
)
def test_whatever_a_witness_answers_nothing_but_its_signature_is_kept(
    watched: House, little: LittleWitness, broken: tuple[int, str, bytes]
) -> None:
    little.broken = broken
    assert asked(watched).told.startswith("0 of 1")
    little.broken = None
    assert asked(watched).told.startswith("1 of 1")


def test_one_witness_that_is_silent_takes_no_signature_of_another_away(
    settings: Settings, watched: House, little: LittleWitness
) -> None:
    silent = LittleWitness(name="silent.example/w")
    with served(little) as url:
        enrol(settings, url, little, silent)  # the second name is not served there
        both = witness.load(settings)
        asyncio.run(both.ask(watched.journal))
    assert both.told == f"1 of 2 up to size {watched.journal.durable_size}"


def test_nobody_waits_for_a_witness_that_does_not_answer(
    watched: House, little: LittleWitness
) -> None:
    little.stall_seconds = 0.5
    found = asyncio.run(watched.witnesses.within(watched.journal, seconds=0.05))
    assert found is None
    little.stall_seconds = 0
    found = asyncio.run(watched.witnesses.within(watched.journal))
    assert found is not None


def test_a_cosigned_checkpoint_that_was_touched_is_not_taken_up(
    watched: House, settings: Settings
) -> None:
    asked(watched, 3)
    watched.journal.close()
    path = settings.state_dir / "cosigned.note"
    path.write_bytes(path.read_bytes().replace(b"\n\n", b"0\n\n"))
    again = open_house(settings)
    assert again.witnesses.told == "0 of 1"
    again.journal.close()


KEY = LittleWitness(key=Ed25519PrivateKey.from_private_bytes(b"k" * 32)).vkey


@pytest.mark.parametrize(
    "table",
    [
        'witness = "x"',
        "[[other]]\nx = 1",
        f'[[witness]]\nkey = "{KEY}"',
        f'[[witness]]\nurl = "https://w.example"\nkey = "{KEY}"\nmore = 1',
        f'[[witness]]\nurl = "https://w.example"\nkey = "{KEY[:-2]}"',
        f'[[witness]]\nurl = "https://w.example"\nkey = "{verifier_key("w", bytes(32))}"',
        f'[[witness]]\nurl = "http://w.example"\nkey = "{KEY}"',
        f'[[witness]]\nurl = "https://me:pass@w.example"\nkey = "{KEY}"',
        f'[[witness]]\nurl = "file:///etc/passwd"\nkey = "{KEY}"',
        f'[[witness]]\nurl = "https://w.example"\nkey = "{KEY}"\n' * 2,
    ],
)
def test_a_table_that_is_not_as_documented_is_refused(settings: Settings, table: str) -> None:
    settings.config_dir.mkdir()
    (settings.config_dir / "witnesses.toml").write_text(table)
    with pytest.raises(ConfigError):
        witness.load(settings)


def test_without_a_table_nobody_is_asked_and_it_is_said(house: House) -> None:
    assert house.witnesses.told == "none"
    assert asyncio.run(house.witnesses.within(house.journal)) is None
    with pytest.raises(ConfigError, match="there is no table"):
        witness.load(Settings(witnesses=Path("/nowhere/witnesses.toml")))
