"""What could be wrong with this installation, each check with the line that mends it.

Read-only and without a running server. What `leftovers` finds, the next start removes when it
was a killed registration's, and `doctor --repair` in any case (sweep.py).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from gateway.catalog import snapshot
from gateway.catalog.catalog import Catalog
from gateway.config import Settings
from gateway.crypto.details import DetailSealer
from gateway.crypto.notes import verifier_key
from gateway.crypto.signing import load_or_create
from gateway.crypto.vault import SYSTEM_TENANT, KeyVault
from gateway.errors import ConfigError, GatewayError, NotFound
from gateway.journal.checkpoint import origin_of
from gateway.journal.composer import open_details
from gateway.journal.reader import Reader
from gateway.journal.verification import verify
from gateway.lineage import sinks
from gateway.process import confine
from gateway.process.directory import DirectoryLock, check_format, read_server_file
from gateway.services import plugs, sweep, witness
from gateway.services.house import NODE, Places
from gateway.services.upload_records import open_in

FREE_BYTES_MIN = 1 << 30
JOURNAL_BYTES_MAX = 1 << 30  # about two million events
LEFTOVERS = "leftovers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One finding; `fix` says what to do when it is not ok."""

    name: str
    ok: bool
    detail: str
    fix: str = ""


def diagnose(settings: Settings) -> list[Check]:
    """Run every check; one that fails itself is a finding too."""
    return [_guarded(name, check, settings) for name, check in _CHECKS.items()]


def _guarded(name: str, check: Callable[[Settings], Check], settings: Settings) -> Check:
    try:
        return check(settings)
    except GatewayError as error:
        return Check(name=name, ok=False, detail=error.message, fix=error.advice)
    except OSError as error:
        detail = f"{error.strerror}: `{error.filename}`"
        return Check(name=name, ok=False, detail=detail, fix="check the path and its owner")


def _packages(_settings: Settings) -> Check:
    """`casbin` and `pycasbin` install the same package and overwrite each other."""
    try:
        version = metadata.version("casbin")
    except metadata.PackageNotFoundError:
        found = metadata.version("pycasbin")
        return Check(name="packages", ok=True, detail=f"pycasbin {found}, gateway from here")
    return Check(
        name="packages",
        ok=False,
        detail=f"the distribution `casbin` {version} overwrites `pycasbin`",
        fix="pip uninstall casbin pycasbin, then pip install 'dataset-gateway[server]'",
    )


def _state(settings: Settings) -> Check:
    check_format(settings.state_dir)
    return Check(name="state directory", ok=True, detail=str(settings.state_dir))


def _private(settings: Settings) -> Check:
    """Like ssh: a key file that others can reach is refused."""
    exposed = [
        path
        for path in _key_files(settings)
        if stat.S_IMODE(path.stat().st_mode) & 0o077 or path.stat().st_uid != os.geteuid()
    ]
    if exposed:
        return Check(
            name="key files",
            ok=False,
            detail=f"`{exposed[0]}` can be reached by others",
            fix=f"chmod 600 {exposed[0]}",
        )
    return Check(name="key files", ok=True, detail="only their owner can reach them")


def _key_files(settings: Settings) -> Iterator[Path]:
    for pattern in ("*.json", "keys/*", "roots/*", "*.key"):
        yield from settings.config_dir.glob(pattern)


def _custody(settings: Settings) -> Check:
    """Where they are, and that the key service answers for this installation."""
    kms = plugs.kms_of(settings)
    if not kms.generations(SYSTEM_TENANT):
        return Check(
            name="root keys",
            ok=False,
            detail=f"{kms.custody}; it has no key of this gateway",
            fix="set `kms` to the service that `gateway init` used",
        )
    return Check(name="root keys", ok=True, detail=kms.custody)


def _store(settings: Settings) -> Check:
    """That the object store answers; what is asked for is never there."""
    with contextlib.suppress(NotFound):
        plugs.plain_store_of(settings).size("doctor/asks")
    return Check(name="object store", ok=True, detail=settings.store)


def _disk(settings: Settings) -> Check:
    free = shutil.disk_usage(_existing(settings.state_dir)).free
    return Check(
        name="disk",
        ok=free >= FREE_BYTES_MIN,
        detail=f"{free >> 30} GiB free",
        fix="free at least 1 GiB: a full disk stops the journal, and with it all release",
    )


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def log_key(settings: Settings) -> str:
    """The verifier key of the log (C2SP vkey): pin it where this machine cannot write."""
    signer = load_or_create(settings.config_dir / "keys" / "log.json", "log")
    return verifier_key(origin_of(NODE), signer.public_key)


def _log_key(settings: Settings) -> Check:
    check_format(settings.state_dir)
    return Check(name="log key", ok=True, detail=log_key(settings))


def _witnesses(settings: Settings) -> Check:
    rows = witness.load(settings).rows
    return Check(
        name="witnesses",
        ok=True,
        detail=", ".join(f"{row.name} at {row.place.host}" for row in rows)
        or "none: who holds the log key could show two histories",
    )


def _sinks(settings: Settings) -> Check:
    """That the sinks are ones, and how far each was told; `/readyz` says how far behind that is."""
    named = sinks.parse(settings.lineage_sinks)
    for name in named:
        sinks.connect(name).close()
    directory = settings.state_dir / "lineage"
    told = [f"{name.shown}: up to event {sinks.told(directory, name)[0]}" for name in named]
    return Check(name="lineage sinks", ok=True, detail="; ".join(told) or "none")


def _same_device(settings: Settings) -> Check:
    """Whoever copies one disk should not get keys and data together."""
    if not settings.kms.startswith("file:"):
        return Check(name="custody", ok=True, detail="no disk of this machine shows the root keys")
    state, config = _existing(settings.state_dir), _existing(settings.config_dir)
    same = state.stat().st_dev == config.stat().st_dev
    detail = "keys and data lie on the same device: a copy of the disk has both"
    return Check(
        name="custody",
        ok=True,  # said plainly; it is the default, and safe against copies of the data alone
        detail=detail if same else "keys and data lie on different devices",
    )


def _confinement(_settings: Settings) -> Check:
    missing = confine.missing()
    return Check(
        name="confinement of children",
        ok=not missing,
        detail=", ".join(missing) or "landlock, rlimits, no network",
        fix="use a Linux kernel with Landlock; children are still limited by rlimits",
    )


def _leftovers(settings: Settings) -> Check:
    check_format(settings.state_dir)
    try:
        with DirectoryLock(settings.state_dir):
            found = sweep.find(_stock(settings), open_in(settings.state_dir / "parts"))
    except ConfigError:
        return Check(name=LEFTOVERS, ok=True, detail="not looked for while a server runs")
    detail = f"{found} that no version or open registration refers to"
    return Check(
        name=LEFTOVERS,
        ok=not found.count,
        detail=detail if found.count else "nothing lies around",
        fix="gateway doctor --repair",
    )


def _vault(settings: Settings) -> Check:
    """A keyring put back from before a rotation or erasure: the next start would refuse it."""
    check_format(settings.state_dir)
    try:
        with DirectoryLock(settings.state_dir):
            stock = _stock(settings)
            for known in stock.catalog.rings():
                stock.vault.require(known.tenant, known.generation)
            for tenant in (SYSTEM_TENANT, *(known.name for known in stock.catalog.tenants())):
                stock.vault.ring(tenant)
    except ConfigError:
        return Check(name="key vault", ok=True, detail="not looked at while a server runs")
    return Check(name="key vault", ok=True, detail="as new as the journal, and it opens")


def _stock(settings: Settings) -> sweep.Stock:
    """The catalogue as the journal says, read without writing a word into it."""
    keys = settings.config_dir / "keys"
    log_key = load_or_create(keys / "log.json", "log").public_key
    vault = KeyVault(settings.state_dir / "vault", plugs.kms_of(settings))
    return sweep.Stock(
        catalog=_catalog(settings, vault, log_key),
        store=plugs.store_of(settings),
        vault=vault,
        places=Places.under(settings.state_dir),
        manifest_key=load_or_create(keys / "manifest.json", "manifest").public_key,
    )


def _catalog(settings: Settings, vault: KeyVault, log_key: bytes) -> Catalog:
    """From the snapshot that a start would take, and what came after it."""
    key, directory = vault.secret("catalog-snapshot"), settings.state_dir / "snapshots"
    details = DetailSealer(vault)
    found = [snapshot.load(directory, key, log_key, name) for name in snapshot.NAMES]
    for start in (*filter(None, found), None):
        catalog, reader = Catalog() if start is None else start.catalog, _reader(settings, log_key)
        for event, _ in reader.tail(catalog.index):
            catalog.apply(open_details(event, details))
        if reader.size >= catalog.index:  # else it is the snapshot of another history
            break
    return catalog


def _reader(settings: Settings, log_key: bytes) -> Reader:
    return Reader(settings.state_dir / "journal", log_key)


def _journal(settings: Settings) -> Check:
    """Everything that was signed, against the anchor; with or without a server."""
    check_format(settings.state_dir)
    directory = settings.state_dir / "journal"
    size = sum(path.stat().st_size for path in directory.glob("*.log"))
    if size > JOURNAL_BYTES_MAX:
        detail = f"{size >> 30} GiB are not read here; `gateway lineage verify` does"
        return Check(name="journal", ok=True, detail=detail)
    signer = load_or_create(settings.config_dir / "keys" / "log.json", "log")
    found = verify(directory, signer.public_key, settings.config_dir / "anchor")
    return Check(name="journal", ok=True, detail=f"all {found.size} events hold")


def _server(settings: Settings) -> Check:
    try:
        facts = read_server_file(settings.runtime_dir)
    except GatewayError:
        return Check(name="server", ok=True, detail="none is running here")
    return Check(name="server", ok=True, detail=f"{facts['url']} (pid {facts['pid']})")


_CHECKS: dict[str, Callable[[Settings], Check]] = {
    "packages": _packages,
    "state directory": _state,
    "key files": _private,
    "root keys": _custody,
    "custody": _same_device,
    "object store": _store,
    "log key": _log_key,
    "witnesses": _witnesses,
    "lineage sinks": _sinks,
    "disk": _disk,
    "journal": _journal,
    "key vault": _vault,
    LEFTOVERS: _leftovers,
    "confinement of children": _confinement,
    "server": _server,
}
