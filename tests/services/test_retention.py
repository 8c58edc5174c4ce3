"""History expires: what goes, what stays, what is said about it, and kills in between."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import gateway.wire as W
from gateway import bootstrap, failpoints
from gateway.catalog.codec import encode
from gateway.catalog.state import State
from gateway.config import Settings
from gateway.crypto.details import Expired
from gateway.crypto.keyring import Keyring
from gateway.crypto.notes import verifier_key
from gateway.domain.events import EventKind
from gateway.domain.manifest import Manifest
from gateway.domain.retention import DAYS_MIN, end_of, is_over, month_at
from gateway.errors import ConfigError, GatewayError, IntegrityError, InvalidInput, KeyUnavailable
from gateway.journal import verify_pack
from gateway.journal.verification import verify
from gateway.services import (
    doctor,
    evidence,
    request_access,
    retention,
    revoke,
    runs,
    update_tenant,
)
from gateway.services.house import House
from gateway.services.storage import seal_manifest
from tests.services.conftest import open_house
from tests.services.registrations import ended
from tests.services.simulator import add_rules, add_tenant, add_version, caller
from tests.services.test_access import ASK, RULES, TRAINER
from tests.services.test_evidence import DIGEST, MANIFEST

OPERATOR = caller("platform", "operator", "operator")
OWNER = caller("clinic", "owner", "owner")
AUDITOR = caller("clinic", "auditor", "auditor")
DAY = 86_400
STEPS = ("expire.recorded", "expire.base", "expire.key-gone", "rotate.ring", "rotate.recorded")


class Killed(BaseException):
    """The process ends at this step."""


class Clock:
    """The time of every house that is opened in a test."""

    monotonic = staticmethod(time.monotonic)
    days = 0

    def time(self) -> float:
        return time.time() + self.days * DAY


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(bootstrap, "time", made)
    return made


@pytest.fixture
def aged(settings: Settings, clock: Clock) -> Iterator[House]:
    """A house whose clinic did something today, 300 days ago."""
    bootstrap.init(settings)
    house = open_house(settings)
    asyncio.run(_furnish(house))
    clock.days = 300
    yield house
    house.journal.close()


async def _furnish(house: House) -> None:
    await add_tenant(house, "clinic", ("owner", "owner"))
    await add_tenant(house, "startup", ("ml", "trainer"))
    sealed = seal_manifest(house.signers.manifest, Manifest.from_bytes(MANIFEST, digest=DIGEST))
    house.store.put_bytes_new("manifests/x.json", sealed)
    add_version(house, "clinic", "icu", ["age", "hr", "name"], manifest_digest=DIGEST)
    await add_rules(house, "clinic", RULES)
    await request_access.request_grant(house, TRAINER, ASK)
    (grant,) = house.catalog.grants(owner="clinic")
    await revoke.revoke(house, OWNER, revoke.Selector(grant=grant.id), "a secret reason")


def limit(house: House, tenant: str = "clinic", **wanted: object) -> W.TenantView:
    changes = W.TenantChanges(**wanted)  # type: ignore[arg-type]
    return asyncio.run(update_tenant.update_tenant(house, OPERATOR, tenant, changes))


def expire(house: House) -> dict[str, list[str]]:
    return asyncio.run(retention.expire(house))


def this_month() -> str:
    return month_at(time.time())


def reopened(house: House, settings: Settings) -> House:
    house.journal.close()
    return open_house(settings)


def state_of(house: House) -> object:
    known = house.catalog.state.copy()
    known.index = known.newest_us = 0  # a start writes an event
    return encode(State, known)


def test_months_are_whole_and_counted_from_their_end() -> None:
    assert end_of("2026-12") == end_of("2027-01") - 31 * DAY
    over = end_of("2026-01") + DAYS_MIN * DAY
    assert is_over("2026-01", DAYS_MIN, over)
    assert not is_over("2026-01", DAYS_MIN, over - 1)


def test_less_than_half_a_year_is_refused_for_one_tenant_and_for_all(aged: House) -> None:
    for days in (0, 1, DAYS_MIN - 1):
        with pytest.raises(InvalidInput, match="at least 183 days"):
            limit(aged, retention_days=days)
    with pytest.raises(ConfigError, match="retention_days"):
        retention.check(Settings(retention_days=DAYS_MIN - 1))
    retention.check(Settings(retention_days=DAYS_MIN))


def test_by_default_nothing_expires(aged: House) -> None:
    assert expire(aged) == {}


def test_a_dry_run_says_what_would_go_and_nothing_goes(aged: House) -> None:
    size = aged.journal.size
    seen = limit(aged, retention_days=200, dry_run=True)
    assert (seen.expires, seen.expired) == ((this_month(),), ())
    assert limit(aged, retention_days=400, dry_run=True).expires == ()
    assert aged.catalog.tenant("clinic").limits.retention_days is None
    assert aged.journal.size == size


def test_a_month_that_is_not_old_enough_stays(aged: House) -> None:
    limit(aged, retention_days=301)
    assert expire(aged) == {}


def test_the_key_goes_for_good_and_the_log_verifies_as_before(
    aged: House, settings: Settings
) -> None:
    ring = settings.state_dir / "vault" / "rings" / "clinic.json"
    backup, month = ring.read_bytes(), this_month()
    journal = b"".join(p.read_bytes() for p in sorted((settings.state_dir / "journal").glob("*")))
    limit(aged, retention_days=200)
    assert expire(aged) == {"clinic": [month]}
    assert expire(aged) == {}
    with pytest.raises(Expired):
        aged.vault.known_detail_key("clinic", month)
    with pytest.raises(Expired):
        aged.vault.detail_key("clinic", month)
    assert f"detail/{month}" not in aged.vault.ring("clinic").keys
    with pytest.raises(KeyUnavailable):  # its root is gone: a backup opens for nobody
        Keyring.open(backup, "clinic", aged.kms)
    aged.vault.known_detail_key("clinic", month_at(aged.now()))
    events = list(aged.journal.read(0))
    clinic = [e for e in events if e.owner_tenant == "clinic" and e.sealed is not None]
    old, new = (
        [e for e in clinic if (month_at(e.time) == month) == is_old] for is_old in (True, False)
    )
    assert old
    assert all(e.actor is None and e.details is None for e in old)
    assert new
    assert all(e.details is not None for e in new)
    aged.journal.close()
    found = verify(
        settings.state_dir / "journal",
        aged.signers.log.public_key,
        anchor=settings.config_dir / "anchor",
    )
    assert found.size == aged.journal.size
    files = b"".join(p.read_bytes() for p in sorted((settings.state_dir / "journal").glob("*")))
    assert files.startswith(journal)


def test_what_was_said_is_forgotten_and_what_rests_on_it_stays(
    aged: House, settings: Settings
) -> None:
    (grant,) = aged.catalog.grants(owner="clinic")
    card = aged.catalog.dataset("clinic", "icu").card
    assert any(d.details for d in aged.catalog.decisions(owner="clinic"))
    limit(aged, retention_days=200)
    expire(aged)
    assert not any(d.details or d.actor for d in aged.catalog.decisions(owner="clinic"))
    assert aged.catalog.grant(grant.id) == grant
    assert aged.catalog.dataset("clinic", "icu").card == card
    wanted = state_of(aged)
    again = reopened(aged, settings)
    assert state_of(again) == wanted
    assert b"a secret reason" not in b"".join(
        p.read_bytes() for p in settings.state_dir.rglob("*") if p.is_file()
    )
    again.journal.close()


def test_a_start_without_its_snapshot_goes_on_from_the_base_and_from_nothing_else(
    aged: House, settings: Settings
) -> None:
    limit(aged, retention_days=200)
    expire(aged)
    asyncio.run(add_rules(aged, "clinic", RULES.replace("hr]", "hr, name]")))
    wanted = state_of(aged)
    (settings.state_dir / "snapshots" / "catalog").unlink()
    again = reopened(aged, settings)
    assert state_of(again) == wanted
    again.journal.close()
    shutil.rmtree(settings.state_dir / "snapshots")
    with pytest.raises(IntegrityError) as refused:
        open_house(settings)
    assert "snapshots/base" in refused.value.advice


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_each_step_the_next_start_finishes_and_nothing_comes_back(
    aged: House, settings: Settings, step: str
) -> None:
    limit(aged, retention_days=200)
    month = this_month()

    def kill(name: str) -> None:
        if name == step:
            raise Killed

    failpoints.arm(kill)
    try:
        with pytest.raises(Killed):
            expire(aged)
    finally:
        failpoints.arm(None)
    with pytest.raises(Expired):  # from the event on, whatever is left of the key
        aged.vault.known_detail_key("clinic", month)
    again = reopened(aged, settings)
    with pytest.raises(Expired):
        again.vault.known_detail_key("clinic", month)
    asyncio.run(bootstrap.finish(again))
    ring = again.vault.ring("clinic")
    assert f"detail/{month}" not in ring.keys
    assert again.kms.generations("clinic") == (ring.root,)
    expired = [e for e in again.journal.read(0) if e.kind is EventKind.MonthExpired]
    assert [e.facts["month"] for e in expired] == [month]
    assert expire(again) == {}
    again.keeper.finish()
    again.journal.close()


def test_a_key_service_that_is_down_leaves_it_for_the_next_round(
    aged: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(aged, retention_days=200)

    def down(*_: object, **__: object) -> int:
        raise KeyUnavailable("the key service does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(type(aged.kms), "create_root", down)
        with pytest.raises(GatewayError):
            expire(aged)
    with pytest.raises(Expired):
        aged.vault.known_detail_key("clinic", this_month())
    asyncio.run(retention.resume(aged))
    assert f"detail/{this_month()}" not in aged.vault.ring("clinic").keys


def test_a_pack_over_an_expired_month_verifies_and_says_so(aged: House, tmp_path: Path) -> None:
    limit(aged, retention_days=200)
    expire(aged)

    async def made() -> tuple[bytes, dict[str, object]]:
        operation = await evidence.export(aged, AUDITOR, W.EvidenceRequest())
        result = await ended(operation)
        return await evidence.part(aged, AUDITOR, str(result["pack"]), 0), result

    data, result = asyncio.run(made())
    assert result["expired"] == [this_month()]
    path = tmp_path / "pack.zip"
    path.write_bytes(data)
    key = verifier_key("dataset-gateway/node-1", aged.signers.log.public_key)
    assert verify_pack.main([str(path), "--log-key", key]) == 0


def test_two_tenants_keep_their_own_time(aged: House) -> None:
    limit(aged, retention_days=200)
    limit(aged, "startup", retention_days=400)
    assert expire(aged) == {"clinic": [this_month()]}
    assert limit(aged, "startup", lift=("retention_days",)).retention_days is None


def unwell(settings: Settings) -> list[str]:
    """What `gateway doctor` finds wrong with history and keys while nobody serves."""
    found = doctor.diagnose(settings)
    return [c.detail for c in found if c.name in ("key vault", "leftovers") and not c.ok]


def test_doctor_reads_a_finished_run_and_an_expired_month_as_a_start_does(
    aged: House, settings: Settings, clock: Clock
) -> None:
    clock.days = 0
    ask = replace(ASK, run="r1")
    asyncio.run(request_access.request_grant(aged, TRAINER, ask))
    finish = W.RunFinish(model="m", artifact_sha256="ab" * 32)
    asyncio.run(runs.finish(aged, TRAINER, "r1", finish))
    clock.days = 300
    aged.journal.close()
    assert unwell(settings) == []  # from the journal alone
    again = open_house(settings)
    limit(again, retention_days=200)
    expire(again)
    again.journal.close()
    assert unwell(settings) == []
    (settings.state_dir / "snapshots" / "catalog").unlink()
    assert unwell(settings) == []  # from the base
