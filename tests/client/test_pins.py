"""What an account pins of a log, against real journals that were rolled back, forked, re-signed."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import gateway.wire as W
from gateway.client.pins import Pins
from gateway.client.proofs import check_chain, check_event
from gateway.crypto.notes import parse_verifier_key, verifier_key
from gateway.crypto.signing import Signer
from gateway.errors import ConfigError, IntegrityError, LogForked
from gateway.journal.checkpoint import LogCheckpoint, origin_of
from gateway.journal.journal import Journal
from gateway.journal.reader import parse_checkpoint
from tests.client.conftest import Login
from tests.journal.places import LOG, NODE, fill, opened, refused_request

SERVER = "https://gateway.example:8787"


def shown(journal: Journal, since: int | None, signer: Signer = LOG) -> W.CheckpointView:
    """What the gateway of this journal answers."""
    note = journal.checkpoint()
    size, root = parse_checkpoint(note)
    known = since if since is not None and since <= size else None
    path = () if known is None else journal.consistency(known, size)
    return W.CheckpointView(
        note=note,
        size=size,
        root=root.hex(),
        witnessed="none",
        log_key=verifier_key(origin_of(NODE), signer.public_key),
        since=known,
        consistency=tuple(h.hex() for h in path),
    )


def look(pins: Pins, base: Path, events: int = 0, signer: Signer = LOG) -> int:
    """Open the gateway of `base`, let it record some events, and look at its log."""
    with opened(base, signer=signer) as journal:
        fill(journal, events, commits=3) if events else None
        before = pins.read()
        view = shown(journal, None if before is None else before.size, signer)
        assert pins.accept(view, before)
    return view.size


@pytest.fixture
def pins(tmp_path: Path) -> Pins:
    return Pins(tmp_path / "state", SERVER)


def file_of(tmp_path: Path) -> Path:
    (path,) = (tmp_path / "state" / "pins").glob("*.json")
    return path


def copied(base: Path, name: str) -> Path:
    """A backup of everything that the gateway knows, its anchor too."""
    return Path(shutil.copytree(base, base.parent / name))


def test_a_log_rolled_back_with_its_anchor_is_refused_and_says_what_to_do(
    pins: Pins, tmp_path: Path
) -> None:
    look(pins, tmp_path / "a", 5)
    backup = copied(tmp_path / "a", "backup")
    seen = look(pins, tmp_path / "a", 9)
    with pytest.raises(LogForked, match=f"and {seen} were seen") as refused:
        look(pins, backup)
    assert str(file_of(tmp_path)) in refused.value.advice
    assert pins.read().size == seen  # type: ignore[union-attr]


def test_a_fork_that_has_grown_beyond_the_pin_is_refused(pins: Pins, tmp_path: Path) -> None:
    look(pins, tmp_path / "a", 5)
    backup = copied(tmp_path / "a", "backup")
    look(pins, tmp_path / "a", 9)
    with pytest.raises(LogForked, match="are others than before"):
        look(pins, backup, 40)


def test_a_complete_false_history_signed_by_the_true_key_is_refused(
    pins: Pins, tmp_path: Path
) -> None:
    look(pins, tmp_path / "a", 5)
    with pytest.raises(LogForked, match="are others than before"):
        look(pins, tmp_path / "false", 30)


def test_a_log_of_another_key_is_refused_whatever_key_the_gateway_names(
    pins: Pins, tmp_path: Path
) -> None:
    look(pins, tmp_path / "a", 5)
    with pytest.raises(LogForked, match="not signed by the pinned key"):
        look(pins, tmp_path / "other", 30, Signer(b"o" * 32, "log"))


def test_a_gateway_that_leaves_the_proof_out_is_refused(pins: Pins, tmp_path: Path) -> None:
    look(pins, tmp_path / "a", 5)
    with opened(tmp_path / "a") as journal:
        fill(journal, 5)
        with pytest.raises(LogForked, match="does not show"):
            pins.accept(shown(journal, None), pins.read())


def test_a_key_from_elsewhere_is_not_replaced_by_the_one_that_the_gateway_names(
    pins: Pins, tmp_path: Path
) -> None:
    true_key = parse_verifier_key(verifier_key(origin_of(NODE), LOG.public_key))
    false = Signer(b"o" * 32, "log")
    with opened(tmp_path / "false", signer=false) as journal:
        view = shown(journal, None, false)
        with pytest.raises(IntegrityError):
            pins.accept(view, None, true_key)
        assert pins.read() is None
        pins.accept(view, None)
    with pytest.raises(LogForked, match="another than the one of the key you named"):
        pins.accept(view, pins.read(), true_key)


def test_two_histories_of_one_size_are_noticed_between_two_processes(
    pins: Pins, tmp_path: Path
) -> None:
    with opened(tmp_path / "a") as journal:
        fill(journal, 3)
        first = shown(journal, None)
    other = LogCheckpoint(origin=origin_of(NODE), size=first.size, root=b"o" * 32)
    pins.accept(first, None)
    with pytest.raises(LogForked, match="two histories"):
        pins.accept(replace(first, note=other.signed(LOG), root=other.root.hex()), None)


def test_a_log_that_only_grew_is_pinned_and_the_pin_never_goes_back(
    pins: Pins, tmp_path: Path
) -> None:
    sizes = [look(pins, tmp_path / "a", count) for count in (0, 1, 7, 40)]
    assert sizes == sorted(sizes)
    assert pins.read().size == sizes[-1]  # type: ignore[union-attr]
    before = pins.read()
    with opened(tmp_path / "a") as journal:
        old = shown(journal, before.size)  # type: ignore[union-attr]
        fill(journal, 3)
        pins.accept(shown(journal, before.size), before)  # type: ignore[union-attr]
        newest = pins.read()
        pins.accept(old, before)  # a slower process
    assert pins.read() == newest
    assert stat.S_IMODE(file_of(tmp_path).stat().st_mode) == 0o600


def test_a_damaged_pin_is_not_passed_over(pins: Pins, tmp_path: Path) -> None:
    look(pins, tmp_path / "a", 5)
    path = file_of(tmp_path)
    whole = path.read_bytes()
    for damaged in (b"", b"{}", whole[:-40], whole.replace(b'"note": "', b'"note": "x')):
        path.write_bytes(damaged)
        with pytest.raises(ConfigError, match="does not hold a pinned LogCheckpoint"):
            pins.read()
    path.write_bytes(whole)
    path.chmod(0o666)
    with pytest.raises(ConfigError, match="reached by others"):
        pins.read()


def test_an_account_that_can_keep_nothing_still_gets_its_answers(tmp_path: Path) -> None:
    nowhere = Pins(Path("/dev/null"), SERVER)
    assert nowhere.read() is None
    with opened(tmp_path / "a") as journal:
        assert not nowhere.accept(shown(journal, None), None)


def test_an_answer_without_a_checkpoint_is_refused_once_one_is_pinned(
    login: Login, tmp_path: Path
) -> None:
    auditor = login("clinic/owner")
    assert auditor.lineage.ask("who-read", dataset="clinic/icu")
    look(Pins(tmp_path, auditor.transport.server), tmp_path / "a", 3)
    for act in (
        lambda: auditor.lineage.ask("who-read", dataset="clinic/icu"),
        lambda: auditor.lineage.query("SELECT 1"),
        lambda: auditor.lineage.report("art30"),
    ):
        with pytest.raises(IntegrityError, match="no LogCheckpoint"):
            act()
    with pytest.raises(IntegrityError):
        auditor.lineage.verify()


def proved(journal: Journal, tenant: str) -> W.ChainProof:
    """As services/proofs.py answers."""
    head, view = journal.head(tenant), shown(journal, None)
    index, first = next(journal.chain(tenant, head.index))
    return W.ChainProof(
        tenant=tenant,
        tag=journal.tags.chain(tenant),
        events=head.seq + 1,
        leaf=head.leaf,
        place=head.place,
        chains=head.chains,
        path=tuple(h.hex() for h in head.path),
        index=head.index,
        heads=journal.event_bytes(head.index).decode(),
        hashes=tuple(h.hex() for h in journal.inclusion(head.index, view.size)),
        first=first.decode(),
        first_hashes=tuple(h.hex() for h in journal.inclusion(index, view.size)),
        checkpoint=view,
    )


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[tuple[W.ChainProof, bytes]]:
    with opened(tmp_path) as journal:
        for number in range(7):
            journal.append(refused_request(number, f"tenant-{number % 3}"))
        journal.wait_durable(journal.size - 1)
        proof = proved(journal, "tenant-1")
        yield proof, bytes.fromhex(proof.checkpoint.root)


def test_the_log_fixes_how_many_events_concern_a_tenant(chain: tuple[W.ChainProof, bytes]) -> None:
    proof, root = chain
    check_chain(proof, root)
    assert proof.events == 2


@pytest.mark.parametrize(
    "lie",
    [
        {"events": 1},
        {"events": 3},
        {"leaf": "00" * 32},
        {"leaf": "no hex"},
        {"tag": "ab" * 16},
        {"place": 0},
        {"place": 9},
        {"chains": 2},
        {"path": ()},
        {"hashes": ("00" * 32,)},
        {"index": 1},
        {"heads": "{}"},
        {"tenant": "tenant-2"},
        {"first": "{}"},
        {"first": "no event"},
        {"first_hashes": ()},
    ],
    ids=str,
)
def test_a_chain_that_was_shortened_or_made_up_is_refused(
    chain: tuple[W.ChainProof, bytes], lie: dict[str, object]
) -> None:
    proof, root = chain
    with pytest.raises(IntegrityError):
        check_chain(replace(proof, **lie), root)  # type: ignore[arg-type]


def test_the_chain_of_another_tenant_does_not_pass_for_ones_own(tmp_path: Path) -> None:
    """Whole and proven, and shorter than one's own: only its first event tells."""
    with opened(tmp_path) as journal:
        for number in range(7):
            journal.append(refused_request(number, f"tenant-{number % 3}"))
        journal.wait_durable(journal.size - 1)
        proof = proved(journal, "tenant-2")
        own = proved(journal, "tenant-0")
    root = bytes.fromhex(proof.checkpoint.root)
    check_chain(proof, root)
    first = {"first": own.first, "first_hashes": own.first_hashes}
    for lie in ({"tenant": "tenant-0"}, {"tenant": "tenant-0", **first}):
        with pytest.raises(IntegrityError):
            check_chain(replace(proof, **lie), root)  # type: ignore[arg-type]


def test_another_event_does_not_pass_for_the_one_that_fixes_the_chains(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        fill(journal, 3)
        proof, view = proved(journal, "clinic"), shown(journal, None)
        other = journal.event_bytes(1).decode()
        hashes = tuple(h.hex() for h in journal.inclusion(1, view.size))
        with pytest.raises(IntegrityError):
            check_chain(
                replace(proof, heads=other, index=1, hashes=hashes), bytes.fromhex(view.root)
            )


def test_one_event_stands_in_the_log_or_it_does_not(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        fill(journal, 5)
        view = shown(journal, None)
        hashes = tuple(h.hex() for h in journal.inclusion(2, view.size))
        proof = W.Proof(
            kind="inclusion", first=2, second=view.size, hashes=hashes, leaf=journal.leaf(2).hex()
        )
        check_event(proof, bytes.fromhex(view.root))
        for lie in ({"first": 3}, {"leaf": journal.leaf(3).hex()}, {"leaf": None}, {"hashes": ()}):
            with pytest.raises(IntegrityError):
                check_event(replace(proof, **lie), bytes.fromhex(view.root))  # type: ignore[arg-type]
