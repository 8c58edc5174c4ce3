"""What is erased is gone for readers, in the vault, in the store, and in every backup of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import gateway.wire as W
from gateway import failpoints
from gateway.config import Settings
from gateway.crypto import certificate
from gateway.domain.dataset import DatasetRef
from gateway.domain.events import EventKind
from gateway.errors import (
    AccessDenied,
    Conflict,
    GatewayError,
    IntegrityError,
    InvalidInput,
    KeyUnavailable,
    NotFound,
)
from gateway.services import describe, erase, export, preview, request_access, update
from gateway.services.house import House
from gateway.services.request_access import Ask
from gateway.services.storage import open_keys
from gateway.wire import ErasureRequest
from tests.services import vaults as v
from tests.services.registrations import ended, manifest_of, registered, rows_of
from tests.services.vaults import OWNER, TRAINER, opened, run

STEPS = [name for name in failpoints.STEPS if name.startswith("erase.")]
ROTATION = ["rotate.ring", "rotate.recorded", "rotate.root-gone"]


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return v.furnish(tmp_path_factory.mktemp("furnished"))


@pytest.fixture
def home(furnished: Settings, tmp_path: Path) -> Iterator[Settings]:
    yield v.copied(furnished, tmp_path)
    failpoints.arm(None)


async def erased(house: House, ref: str, *columns: str, yes: bool = True) -> dict[str, Any]:
    wanted = ErasureRequest(columns=columns, yes=yes, reason="the consent ended")
    operation = await erase.erase(house, OWNER, DatasetRef.parse(ref), wanted)
    result = await ended(operation)
    assert operation.task is not None
    await operation.task  # tells of a kill
    return result


def objects(settings: Settings) -> set[str]:
    root = settings.state_dir / "objects"
    return {str(path.relative_to(root)) for path in root.rglob("*.*") if path.is_file()}


def test_only_the_owner_erases_and_the_dry_run_changes_nothing(home: Settings) -> None:
    with opened(home) as house:
        run(
            request_access.request_grant(
                house, TRAINER, Ask(dataset="clinic/icu@1", purpose="research")
            )
        )
        for who, error in ((TRAINER, AccessDenied), (v.caller("rival", "spy"), NotFound)):
            with pytest.raises(error):
                run(erase.erase(house, who, DatasetRef("clinic", "icu"), ErasureRequest(yes=True)))
        before = objects(home)
        plan = run(erased(house, "clinic/icu@1", yes=False))
        assert plan["versions"] == [1]
        assert len(plan["grants"]) == 1
        assert plan["recipients"] == ["startup/ml"]
        (kept,) = plan["shards_kept"].values()
        assert (kept, plan["shards"], plan["keys"]) == ([2], [], 0)
        with pytest.raises(InvalidInput, match="no column"):
            run(erased(house, "clinic/icu", "nothing", yes=False))
        assert objects(home) == before
        assert rows_of(house, "clinic/icu@1").num_rows == 3


def test_the_dry_run_lists_what_was_made_from_it_whatever_its_card_says_now(
    home: Settings,
) -> None:
    with opened(home) as house:
        run(registered(house, OWNER, "clinic/adults", v.OTHER, derived_from=("clinic/icu@1",)))
        bare = W.DatasetChanges(card={"title": "from nowhere"})
        run(update.update(house, OWNER, DatasetRef("clinic", "adults"), bare, None))
        for ref in ("clinic/icu@1", "clinic/icu"):
            assert run(erased(house, ref, yes=False))["derived"] == ["clinic/adults@1"]
        assert run(erased(house, "clinic/icu@2", yes=False))["derived"] == []


def test_a_version_takes_only_shards_that_no_other_needs(home: Settings) -> None:
    with opened(home) as house:
        newest, first = (manifest_of(house, f"clinic/icu@{n}") for n in (2, 1))
        done = run(erased(house, "clinic/icu@2"))
        assert (done["shards"], done["shards_kept"]) == (1, 1)
        assert rows_of(house, "clinic/icu@1").to_pydict() == v.ICU.to_pydict()
        (gone,) = {shard.id for shard in newest.shards} - {shard.id for shard in first.shards}
        assert not any(gone in name for name in objects(home))
        with pytest.raises(NotFound):
            manifest_of(house, "clinic/icu@2")
        again = run(registered(house, OWNER, "clinic/icu", v.MORE, append=True))
        assert again["version"] == 3


def test_an_erased_column_is_gone_and_does_not_come_back(home: Settings) -> None:
    with opened(home) as house:
        _, grant = run(
            request_access.request_grant(
                house, TRAINER, Ask(dataset="clinic/icu@2", purpose="research", columns=("age",))
            )
        )
        manifest, version = manifest_of(house, "clinic/icu@2"), DatasetRef("clinic", "icu", 2)
        done = run(erased(house, "clinic/icu", "age"))
        assert [column["name"] for column in done["columns"]] == ["age"]
        assert house.catalog.grant(grant.id).revoked
        leaves = manifest.shards[0].leaves
        with pytest.raises(IntegrityError, match="lacks"):
            open_keys(house, house.catalog.version(version), leaves[1:2])
        assert open_keys(house, house.catalog.version(version), [leaves[0], *leaves[2:]])
        decision = run(
            request_access.check(
                house, TRAINER, Ask(dataset="clinic/icu", purpose="research", columns=("age",))
            )
        )
        assert not decision.is_allowed
        rest = run(
            request_access.check(house, TRAINER, Ask(dataset="clinic/icu", purpose="research"))
        )
        assert rest.plan is not None
        assert rest.plan.names == ("hr",)
        with pytest.raises(Conflict, match="was erased"):
            run(registered(house, OWNER, "clinic/icu", v.MORE.drop(["age"]), append=True))
        run(registered(house, OWNER, "clinic/icu", v.ICU))
        (column,) = (
            c for c in house.catalog.version(DatasetRef("clinic", "icu")).columns if c.name == "age"
        )
        assert column.field_id == 4
        assert column.renewed


def test_a_name_that_was_erased_can_be_given_to_another_dataset(home: Settings) -> None:
    with opened(home) as house:
        old = house.catalog.dataset("clinic", "icu").dataset_id
        done = run(erased(house, "clinic/icu"))
        assert done["dataset_id"] == old
        assert run(erased(house, "clinic/icu"))["certificate"] == done["certificate"]
        made = run(registered(house, OWNER, "clinic/icu", pa.table({"other": [1]})))
        assert made["version"] == 3
        assert house.catalog.dataset("clinic", "icu").dataset_id != old
        with pytest.raises(NotFound):
            run(erase.erase(house, TRAINER, DatasetRef("clinic", "icu", 1), ErasureRequest()))


def test_an_old_rule_does_not_release_columns_of_another_dataset_of_that_name(
    home: Settings,
) -> None:
    ask = Ask(dataset="clinic/icu", purpose="research")
    with opened(home) as house:
        assert run(request_access.check(house, TRAINER, ask)).is_allowed
        run(erased(house, "clinic/icu@1"))
        run(erased(house, "clinic/icu"))
        run(registered(house, OWNER, "clinic/icu", v.ICU))
        assert not run(request_access.check(house, TRAINER, ask)).is_allowed
        run(registered(house, OWNER, "clinic/icu", v.MORE, append=True))  # nor does its next one
        assert not run(request_access.check(house, TRAINER, ask)).is_allowed
        tags = {"age": ["pii.indirect"]}
        run(describe.classify(house, OWNER, DatasetRef("clinic", "icu"), tags))
        plan = run(request_access.check(house, TRAINER, ask)).plan
        assert plan is not None
        assert [column.name for column in plan.columns] == ["age"]


def test_keys_that_left_stand_in_the_dry_run_and_in_the_certificate(home: Settings) -> None:
    with opened(home) as house:
        ask = Ask(dataset="clinic/icu@1", purpose="research", columns=("age",))
        left = run(export.release(house, TRAINER, ask))
        line = {"grant": left.id, "tenant": "startup", "version": 1, "columns": [1],
                "shards": 1, "keys": 2}  # fmt: skip
        for ref, columns, listed in (
            ("clinic/icu@1", (), [line]),
            ("clinic/icu@2", (), [line]),  # it refers to the same shard
            ("clinic/icu", ("age",), [line]),
            ("clinic/icu", ("hr",), []),
            ("clinic/other", (), []),
        ):
            assert run(erased(house, ref, *columns, yes=False))["keys_released"] == listed
        assert run(erased(house, "clinic/icu", "hr"))["released"]["keys"] == []
        done = run(erased(house, "clinic/icu"))
        assert done["released"]["keys"] == [line]
        data = json.dumps(done["certificate"], sort_keys=True, separators=(",", ":")).encode()
        facts = certificate.verify(data, bytes.fromhex(done["public_key"]))
        assert facts["format"] == "erasure-certificate-v2"
        assert facts["released"]["keys"] == [line]


@pytest.mark.parametrize(
    ("ref", "columns", "gone", "columns_gone", "rest"),
    [
        ("clinic/icu", (), "clinic/icu@1", None, None),
        ("clinic/icu@1", (), "clinic/icu@1", None, "clinic/icu"),
        ("clinic/icu", ("age",), "clinic/icu", ("age",), "clinic/icu@1"),
    ],
)
def test_what_is_erased_is_neither_exported_nor_previewed(
    home: Settings,
    ref: str,
    columns: tuple[str, ...],
    gone: str,
    columns_gone: tuple[str, ...] | None,
    rest: str | None,
) -> None:
    with opened(home) as house:
        before = run(export.release(house, TRAINER, Ask(dataset=gone, purpose="research")))
        assert run(export.part(house, TRAINER, before.id, 0, 0))[:4] == b"PARE"
        run(erased(house, ref, *columns))
        ask = Ask(dataset=gone, purpose="research", columns=columns_gone)
        for act in (export.release(house, TRAINER, ask), preview.preview(house, TRAINER, ask, 5)):
            with pytest.raises((AccessDenied, NotFound)):
                run(act)
        with pytest.raises((AccessDenied, NotFound)):  # its Grant ended with what it needed
            run(export.part(house, TRAINER, before.id, 0, 0))
        if rest is None:
            return
        ask = Ask(dataset=rest, purpose="research")
        left = {column.name for column in run(export.release(house, TRAINER, ask)).columns}
        assert left == {"age", "hr"} - set(columns)
        assert run(preview.preview(house, TRAINER, ask, 5)).rows > 0


def test_the_certificate_verifies_offline_and_says_what_was_released(home: Settings) -> None:
    with opened(home) as house:
        ask = Ask(dataset="clinic/icu@1", purpose="research", run="sepsis")
        _, grant = run(request_access.request_grant(house, TRAINER, ask))
        start = house.journal.durable_size
        done = run(erased(house, "clinic/icu"))
        (event,) = [e for e in house.journal.read(start) if e.kind == EventKind.ErasureCertified]
        data = house.store.read(event.facts["certificate_key"])
        assert certificate.digest_of(data) == event.facts["certificate"]
        facts = certificate.verify(data, bytes.fromhex(done["public_key"]))
        assert [g["grant"] for g in facts["released"]["grants"]] == [grant.id]
        assert [r["run"] for r in facts["released"]["runs"]] == ["startup:sepsis"]
        assert facts["roots"] == {"tenant": "clinic", "destroyed_upto": 1}
        forged = json.loads(data)
        forged["payload"] = forged["payload"][:-8] + "AAAAAAA="
        for bad in (data[:-1], json.dumps(forged).encode(), b"{}"):
            with pytest.raises(IntegrityError):
                certificate.verify(bad, bytes.fromhex(done["public_key"]))
        with pytest.raises(IntegrityError):
            certificate.verify(data, house.signers.manifest.public_key)


@pytest.mark.parametrize("ref", ["clinic/icu@2", "clinic/icu"])
@pytest.mark.parametrize("step", [*STEPS, *ROTATION])
def test_an_erasure_killed_at_any_step_is_finished_at_the_next_start(
    step: str, ref: str, home: Settings
) -> None:
    if (step, ref) == ("erase.keks", "clinic/icu"):
        return  # nothing survives that would need new KEKs
    house = v.open_house(home)
    v.kill_at(step)
    with pytest.raises(v.Killed):
        run(erased(house, ref))
    failpoints.arm(None)
    house.journal.close()
    with opened(home) as again:
        (erasure,) = again.catalog.erasures()
        assert erasure.certificate is not None
        assert again.kms.generations("clinic") == (2,)
        assert rows_of(again, "clinic/other@1").num_rows == 2
        with pytest.raises(NotFound):
            manifest_of(again, "clinic/icu@2")
        left = {name for name in objects(home) if name.startswith("shards/")}
        expected = [again.catalog.version(DatasetRef("clinic", "other", 1))]
        if ref == "clinic/icu@2":
            assert rows_of(again, "clinic/icu@1").num_rows == 3
            expected.append(again.catalog.version(DatasetRef("clinic", "icu", 1)))
        assert len(left) == 2 * sum(version.shards for version in expected)


def put_back(backup: Settings, home: Settings, *names: str) -> None:
    for name in names:
        shutil.rmtree(home.state_dir / name)
        shutil.copytree(backup.state_dir / name, home.state_dir / name)


@pytest.mark.parametrize(
    "what", [("clinic/icu", ()), ("clinic/icu@2", ()), ("clinic/icu", ("age",))]
)
def test_every_backup_put_back_under_the_present_roots_stays_unreadable(
    what: tuple[str, tuple[str, ...]], home: Settings, tmp_path: Path
) -> None:
    ref, columns = what
    backup = v.copied(home, tmp_path / "backup")
    with opened(home) as house:
        version = house.catalog.version(DatasetRef("clinic", "icu", 2))
        leaves = [
            leaf for shard in manifest_of(house, "clinic/icu@2").shards for leaf in shard.leaves
        ]
        run(erased(house, ref, *columns))
    # (1) vault, journal, snapshots and bucket of before, with the roots as they are now
    everything = replace(home, state_dir=tmp_path / "restored" / "state")
    shutil.copytree(backup.state_dir, everything.state_dir)
    with pytest.raises(GatewayError), opened(everything):
        pass
    # (2) even with the anchor of before, so that the journal is not refused
    rolled = replace(everything, config_dir=tmp_path / "restored" / "config")
    shutil.copytree(home.config_dir, rolled.config_dir)
    shutil.rmtree(rolled.config_dir / "anchor")
    shutil.copytree(backup.config_dir / "anchor", rolled.config_dir / "anchor")
    with opened(rolled) as house:
        for old in ("clinic/icu@1", "clinic/icu@2", "clinic/other@1"):
            with pytest.raises(KeyUnavailable):
                rows_of(house, old)
    # (3) vault and bucket of before beside the journal of now
    put_back(backup, home, "vault", "objects")
    with pytest.raises((KeyUnavailable, IntegrityError)), opened(home):
        pass
    # (4) every key file of the old vault, by hand, with the roots of now
    kms = v.LocalFileKms(home.config_dir / "roots")
    vault = v.KeyVault(backup.state_dir / "vault", kms)
    for leaf in leaves:
        with pytest.raises(KeyUnavailable):
            vault.open_deks("clinic", version.dataset_id, 2, 1, [leaf.dek])


def test_an_erasure_that_the_key_service_stops_is_finished_when_it_is_asked_for_again(
    home: Settings,
) -> None:
    with opened(home) as house:
        roots = home.config_dir / "roots"
        away = roots.with_name("away")
        failpoints.arm(lambda name: name == "erase.recorded" and roots.rename(away))
        with pytest.raises(KeyUnavailable):
            run(erased(house, "clinic/icu"))
        failpoints.arm(None)
        with pytest.raises(NotFound):
            manifest_of(house, "clinic/icu@1")
        away.rename(roots)
        done = run(erased(house, "clinic/icu"))
        assert done["certificate"]
        assert house.kms.generations("clinic") == (2,)


def test_a_registration_prepared_before_an_erasure_brings_nothing_back(home: Settings) -> None:
    with opened(home) as house:

        async def race() -> None:
            from gateway.services import register
            from tests.services.registrations import uploaded

            begun = await uploaded(house, OWNER, "clinic/icu", v.MORE, append=True)
            operation = await register.commit(house, OWNER, begun.id)
            await erased(house, "clinic/icu@2")
            await ended(operation)

        with pytest.raises(GatewayError):
            run(race())
        assert house.catalog.dataset("clinic", "icu").newest.ref.version == 1


def test_no_wrapped_key_is_outside_the_vault(home: Settings) -> None:
    """Footers, manifests, journal: none of the sealed bytes of ring or sheet is in them."""
    needles = set()
    for path in (home.state_dir / "vault").rglob("*.json"):
        record = json.loads(path.read_bytes())
        needles |= {e["wrapped"] for e in record.get("entries", {}).values()}
        needles |= {record[name] for name in ("wrapped", "sealed") if name in record}
    assert len(needles) > 20
    raw = {v.b64(text) for text in needles}
    for path in home.state_dir.rglob("*"):
        if path.is_file() and "vault" not in path.parts:
            data = path.read_bytes()
            assert not any(text.encode() in data for text in needles), path
            assert not any(piece in data for piece in raw), path
