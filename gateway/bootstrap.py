"""Build the control process: the only place where plugs meet sockets.

`init` makes a new home; `build` opens it and replays the journal; `diagnose` says what is
wrong with it. Clock and randomness enter here and nowhere else.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from gateway.catalog import snapshot
from gateway.catalog.keeper import SnapshotKeeper
from gateway.catalog.restore import restore
from gateway.catalog.state import State
from gateway.config import Settings
from gateway.crypto.details import DetailSealer
from gateway.crypto.private_files import replace_private
from gateway.crypto.signing import load_or_create
from gateway.crypto.tokens import IdentityKey, ReplayMemory
from gateway.crypto.vault import SYSTEM_TENANT, KeyVault
from gateway.domain.events import EventDraft, EventKind
from gateway.errors import ConfigError, Conflict
from gateway.journal.journal import JournalSetup
from gateway.journal.memory import Memory
from gateway.policy import packs
from gateway.policy.judge import Judge
from gateway.process import status_page
from gateway.process.directory import FORMAT, FORMAT_FILE, DirectoryLock
from gateway.process.status_page import StatusWriter
from gateway.services import (
    bearers,
    doctor,
    erase,
    issuers,
    plugs,
    publish,
    retention,
    rotate_keys,
    signing_keys,
    stream,
    sweep,
    uploads,
    witness,
)
from gateway.services.claims import Pace
from gateway.services.doctor import Check
from gateway.services.fetch import Fetches
from gateway.services.house import NODE, PLATFORM, House, Places, Signers
from gateway.services.rates import Rates
from gateway.services.refusals import Rate
from gateway.services.sources import Views
from gateway.services.workers import Workers

HOME_TENANT = "home"  # the tenant of whoever ran `gateway init`


def init(settings: Settings) -> dict[str, str]:
    """Make keys, the first tenant and its owner; a half-made home is made anew.

    Returns:
        Paths of what was made, by name, for the reader.

    Raises:
        Conflict: the state directory is initialised already.
    """
    state = settings.state_dir
    if (state / FORMAT_FILE).exists():
        raise Conflict(f"`{state}` is initialised already", advice="`gateway serve` starts it")
    for path in (state, settings.config_dir):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    for leftover in ("journal", "snapshots", "vault", "objects", "bundles"):
        shutil.rmtree(state / leftover, ignore_errors=True)
    shutil.rmtree(settings.config_dir / "anchor", ignore_errors=True)
    kms = plugs.kms_of(settings)
    vault = KeyVault(state / "vault", kms)
    for tenant in (SYSTEM_TENANT, PLATFORM, HOME_TENANT):
        vault.add_tenant(tenant)
    keys = {
        "operator": _identity_key(settings.config_dir / "operator.json", f"{PLATFORM}/operator"),
        "me": _identity_key(settings.config_dir / "identity.json", f"{HOME_TENANT}/me"),
    }
    asyncio.run(_first_events(settings, keys))
    replace_private(state / FORMAT_FILE, f"{FORMAT}\n".encode())  # from now on it is initialised
    return {
        "state": str(state),
        "config": str(settings.config_dir),
        "operator_key": str(settings.config_dir / "operator.json"),
        "key": str(settings.config_dir / "identity.json"),
        "root_keys": kms.custody,
        "log_key": doctor.log_key(settings),  # to be kept elsewhere: `lineage verify --log-key`
    }


def _identity_key(path: Path, identity: str) -> IdentityKey:
    path.unlink(missing_ok=True)
    return IdentityKey.create(path, identity)


async def _first_events(settings: Settings, keys: dict[str, IdentityKey]) -> None:
    page = status_page.create()
    house = build(settings, page=page, url="http://localhost", on_failure=_fail)
    first = {PLATFORM: ("operator", ("operator",)), HOME_TENANT: ("me", _HOME_ROLES)}
    for tenant, (name, roles) in first.items():
        house.record(_own(tenant, EventKind.TenantAdded, {"tenant": tenant}))
        key = keys[name]
        house.record(
            _own(
                tenant,
                EventKind.IdentityAdded,
                {
                    "identity": f"{tenant}/{name}",
                    "type": "person",
                    "roles": sorted(roles),
                    "thumbprint": key.thumbprint,
                    "public_key": key.public_text,
                },
            )
        )
        pack = "platform" if tenant == PLATFORM else "tenant"
        await publish.store_and_record(house, None, tenant, packs.load(pack, tenant))
    await close(house)


_HOME_ROLES = ("owner", "trainer", "auditor")


def _own(tenant: str, kind: EventKind, facts: dict[str, Any]) -> EventDraft:
    return EventDraft(kind=kind, owner_tenant=tenant, actor_tenant=tenant, actor=None, facts=facts)


def _fail(reason: str) -> None:
    raise ConfigError(f"the journal cannot be written: {reason}")


def diagnose(settings: Settings, *, repair: bool = False) -> list[dict[str, Any]]:
    """What is wrong with this installation; with `repair`, offline, remove what is nobody's.

    Raises:
        ConfigError: `repair` while a server uses the directory.
    """
    if not repair:
        return [dataclasses.asdict(check) for check in doctor.diagnose(settings)]
    with DirectoryLock(settings.state_dir):
        removed = asyncio.run(_repair(settings))
    found = doctor.diagnose(settings)
    detail = f"removed {removed}" if removed.count else "there was nothing to remove"
    found.append(Check(name="repair", ok=True, detail=detail))
    return [dataclasses.asdict(check) for check in found]


async def _repair(settings: Settings) -> sweep.Leftovers:
    page = status_page.create()
    house = _open(settings, page=page, url="http://localhost", on_failure=_fail)
    removed = _boot(house, thorough=True)
    await finish(house)
    await close(house)
    return removed


def build(settings: Settings, *, page: int, url: str, on_failure: Callable[[str], None]) -> House:
    """Open the home and take up its work.

    Args:
        settings: where everything is.
        page: descriptor of the status page.
        url: where the API will answer; issuer and audience of every token.
        on_failure: called once when the journal cannot be written any more.
    """
    plugs.telling_of(settings, url)  # a wrong sink is refused now, not when a run is over
    house = _open(settings, page=page, url=url, on_failure=on_failure)
    _boot(house)
    return house


def _open(settings: Settings, *, page: int, url: str, on_failure: Callable[[str], None]) -> House:
    """Open the home: keys, then the catalogue from snapshot and journal, then the rules."""
    retention.check(settings)
    state, config = settings.state_dir, settings.config_dir
    kms = plugs.kms_of(settings)
    vault = KeyVault(state / "vault", kms)
    keys = config / "keys"
    signers = Signers(**{use: load_or_create(keys / f"{use}.json", use) for use in Signers.uses()})
    setup = JournalSetup(
        directory=state / "journal",
        anchor_directory=config / "anchor",
        node=NODE,
        signer=signers.log,
        details=DetailSealer(vault),
        tag_key=vault.secret("actor-tags"),
        now=time.time,
        on_failure=lambda failure: on_failure(str(failure)),
    )
    snapshot_key = vault.secret("catalog-snapshot")
    catalog, journal = restore(setup, state / "snapshots", snapshot_key)

    def save(known: State, memory: Memory) -> None:
        snapshot.save(known, memory, state / "snapshots", snapshot_key, signers.log)

    house = House(
        settings=settings,
        places=Places.under(state),
        catalog=catalog,
        journal=journal,
        keeper=SnapshotKeeper(catalog, journal, save),
        judge=Judge.build([]),
        vault=vault,
        kms=kms,
        store=plugs.store_of(settings),
        signers=signers,
        status=StatusWriter(page),
        now=time.time,
        issuer=url,
        node=NODE,
        replay=ReplayMemory(time.monotonic),
        strangers=Rate(),
        pace=Pace(),
        rates=Rates(),
        issuers=issuers.load(settings, time.time),
        bearers=bearers.load(settings),
        views=Views(),
        fetches=Fetches(),
        witnesses=witness.load(settings),
    )
    house.witnesses.recall(journal, signers.log.public_key, NODE)
    house.workers = Workers(house, stream.judge_lease)
    return house


def _boot(house: House, *, thorough: bool = False) -> sweep.Leftovers:
    """Say that we live, drop what a dead predecessor left open, take the rules in force."""
    rotate_keys.require_recorded(house)
    retention.close_expired(house)
    signing_keys.settle(house)
    sweep.close_leases(house)
    uploads.recover(house)
    removed = sweep.remove_leftovers(house, thorough=thorough)
    publish.take_in_force(house)
    house.status.set_policy_epoch(house.catalog.policy_epoch)
    house.journal.on_durable(house.status.set_durable)
    return removed


async def finish(house: House) -> None:
    """End what a killed predecessor had begun and nobody may see half done (before serving)."""
    await erase.resume(house)
    await retention.resume(house)
    await rotate_keys.resume(house)
    house.keeper.start()


async def close(house: House) -> None:
    """End in order: streams, then the snapshot, then the journal."""
    await house.workers.stop()
    await house.settled()
    await asyncio.to_thread(house.keeper.finish)
    house.journal.close()


def rebuild_lineage(settings: Settings, report: Callable[[float, str], None]) -> int:
    """Make the lineage database anew from the journal; how many events it holds.

    Raises:
        Conflict, Unavailable: a server uses the directory.
        IntegrityError: the journal was changed.
    """
    from gateway.lineage.rebuild import rebuild  # DuckDB: for nothing else that starts here

    state = settings.state_dir
    with DirectoryLock(state):
        vault = KeyVault(state / "vault", plugs.kms_of(settings))
        log = load_or_create(settings.config_dir / "keys" / "log.json", "log")
        return rebuild(
            state / "lineage",
            vault.secret("lineage-seal"),
            state / "journal",
            log.public_key,
            report,
        )


def log_as_json(level: str) -> None:
    """One JSON object per line on standard error; no personal data is ever passed to it."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(),
        ],
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.ExtraAdder(),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
        ],
    )
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for chatty in ("casbin", "uvicorn"):  # the one prints its model, the other every start
        logging.getLogger(chatty).setLevel(logging.WARNING)
