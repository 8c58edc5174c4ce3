"""One installation under fire: a control that dies where it is told, clients, and the checks.

place = Place.make(tmp_path)             # gateway init
with place.dying(killed_at("register.sheet")):   # killed there; a healthy one follows at once
    place.client().datasets.register("home/a", table)
place.check()                            # whole, nothing lost, nothing left over
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from gateway import bootstrap
from gateway.client import GatewayClient
from gateway.client.transport import Transport
from gateway.config import Settings
from gateway.crypto.signing import load_or_create
from gateway.domain.dataset import DatasetRef
from gateway.journal import verification
from gateway.process import status_page
from gateway.process.tree import as_options
from gateway.services.doctor import LEFTOVERS
from gateway.services.house import House
from gateway.services.storage import load_manifest, open_keys
from gateway.shards.reader import ShardReader, file_plan
from tests.crashes.keys import SeenKeys, certificates_of, check_keys, leaves_of
from tests.journeys.home import wait

ROOT = Path(__file__).resolve().parents[2]
NOTHING_ARMED: dict[str, Any] = {}


def killed_at(step: str, hit: int = 1) -> dict[str, Any]:
    """Killed when it reaches `step` for the `hit`-th time."""
    return {"kill": {"step": step, "hit": hit}}


@dataclass(slots=True)
class Place:
    """One home, and the program that makes its controls."""

    root: Path
    settings: Settings
    forge: subprocess.Popen[str]
    deaths: list[int] = field(default_factory=list)  # how each control ended
    versions: dict[str, pa.Table] = field(default_factory=dict)  # acknowledged or found: source
    seen: SeenKeys = field(default_factory=SeenKeys)

    @classmethod
    def make(cls, root: Path) -> Place:
        """`gateway init`, and a forge whose controls all serve the same port."""
        api = socket.create_server(("127.0.0.1", 0))
        settings = Settings(
            state_dir=root / "state",
            config_dir=root / "config",
            runtime_dir=root / "run",
            server=f"http://127.0.0.1:{api.getsockname()[1]}",
            part_bytes_max=64 << 10,
            patience_seconds=60,
        )
        bootstrap.init(settings)
        with (root / "control.log").open("w") as log:
            forge = subprocess.Popen(
                [sys.executable, "-m", "tests.crashes.server", str(api.fileno())],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                pass_fds=(api.fileno(),),
                text=True,
            )
        api.close()  # the forge keeps it open: requests wait while no control lives
        return cls(root, settings, forge)

    def end(self) -> None:
        """No control may be running."""
        assert self.forge.stdin is not None
        assert self.forge.stdout is not None
        self.forge.stdin.close()
        self.forge.wait(30)
        self.forge.stdout.close()

    @property
    def log(self) -> str:
        """What the controls wrote."""
        return (self.root / "control.log").read_text()[-4000:]

    # Lives

    def _start(self, armed: dict[str, Any]) -> int:
        assert self.forge.stdin is not None
        order = {"settings": as_options(self.settings), **armed}
        self.forge.stdin.write(json.dumps(order, default=str) + "\n")
        self.forge.stdin.flush()
        return int(self._answer("pid"))

    def _end(self) -> int:
        self.deaths.append(int(self._answer("status")))
        return self.deaths[-1]

    def _answer(self, name: str) -> int:
        assert self.forge.stdout is not None
        line = self.forge.stdout.readline()
        assert line, f"the forge ended: {self.log}"
        return int(json.loads(line)[name])

    @contextlib.contextmanager
    def living(self, armed: dict[str, Any] = NOTHING_ARMED) -> Iterator[int]:
        """One control, ended in order."""
        pid = self._start(armed)
        try:
            yield pid
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            code = self._end()
        assert code == 0, f"it ended with {code}: {self.log}"

    @contextlib.contextmanager
    def dying(self, *lives: dict[str, Any]) -> Iterator[list[int]]:
        """Controls armed with each of `lives` in turn, then healthy ones.

        Yields how they ended so far; the last one is ended in order when the block ends.
        """
        self.deaths.clear()
        over, lock, alive = threading.Event(), threading.Lock(), [0]

        def supervise() -> None:
            armed = list(lives)
            while True:
                with lock:
                    if over.is_set():
                        return
                    alive[0] = self._start(armed.pop(0) if armed else NOTHING_ARMED)
                self._end()

        thread = threading.Thread(target=supervise)
        thread.start()
        try:
            yield self.deaths
        finally:
            with lock:
                over.set()
            with contextlib.suppress(ProcessLookupError):
                os.kill(alive[0], signal.SIGTERM)
            thread.join()

    @contextlib.contextmanager
    def doomed(self, armed: dict[str, Any]) -> Iterator[int]:
        """One control that is killed as `armed` says, and nobody follows it (see `was_killed`)."""
        self.deaths.clear()
        pid = self._start(armed)
        try:
            yield pid
        finally:
            with contextlib.suppress(AssertionError):
                wait(lambda: not Path(f"/proc/{pid}").exists(), 2, "it lives")
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            self._end()

    @property
    def was_killed(self) -> bool:
        """Whether the step was reached at all."""
        return -signal.SIGKILL in self.deaths

    def client(self) -> GatewayClient:
        """The owner, patient."""
        return GatewayClient(settings=self.settings)

    def hasty_client(self) -> GatewayClient:
        """The owner, who gives up at the first sign of trouble."""
        client = self.client()
        client.transport = Transport(
            str(self.settings.server), self.settings.config_dir / "identity.json", retry_seconds=()
        )
        return client

    # Checks, all from outside

    def leftovers(self) -> str:
        """What `gateway doctor` says lies around, without repairing it; "" when nothing does."""
        (found,) = [c for c in bootstrap.diagnose(self.settings) if c["name"] == LEFTOVERS]
        return "" if found["ok"] else str(found["detail"])

    def repair(self) -> None:
        """`gateway doctor --repair`."""
        bootstrap.diagnose(self.settings, repair=True)

    @contextlib.contextmanager
    def opened(self) -> Iterator[House]:
        """The home as the next control would find it, without its boot."""
        house = bootstrap.build(
            self.settings, page=status_page.create(), url="http://localhost:1", on_failure=print
        )
        try:
            yield house
        finally:
            house.journal.close()

    def check(self) -> None:
        """The log verifies; every version is its source, old ones too; nothing else is stored."""
        config = self.settings.config_dir
        log_key = load_or_create(config / "keys" / "log.json", "log").public_key
        verification.verify(self.settings.state_dir / "journal", log_key, config / "anchor")
        assert self.leftovers() == ""
        with self.opened() as house:
            known = {str(v.ref): v for d in house.catalog.datasets() for v in d.versions}
            assert set(known) == set(self.versions), "versions lost, half, or made twice"
            self._check_rows(house)
            check_keys(house, self.seen)
            objects = certificates_of(house)
            for name in self.versions:
                manifest = load_manifest(house, DatasetRef.parse(name))
                objects.add(known[name].manifest_key)
                for shard in manifest.shards:
                    objects |= {shard.object_key, shard.table_key}
            sheets = {f"sheets/{v.dataset_id}/{v.ref.version}.json" for v in known.values()}
        self._check_files(objects, sheets)

    def check_readable(self) -> None:
        """Nothing that must be there is lost, whatever is unfinished."""
        with self.opened() as house:
            self._check_rows(house)

    def _check_rows(self, house: House) -> None:
        for name, source in self.versions.items():
            found = self.read(house, name).cast(source.schema)
            assert found.equals(source.combine_chunks()), f"`{name}` is not its source"

    def _check_files(self, objects: set[str], sheets: set[str]) -> None:
        state = self.settings.state_dir
        assert files(state / "objects") == objects
        assert {f for f in files(state / "vault") if f.startswith("sheets/")} == sheets
        for place in ("parts", "staging", "views"):
            assert not list((state / place).iterdir()), f"something in {place}"

    def read(self, house: House, name: str) -> pa.Table:
        """All rows of a version, decrypted from its shards, by `id`."""
        version = house.catalog.version(DatasetRef.parse(name))
        manifest = load_manifest(house, version.ref)
        ids = tuple(column.field_id for column in version.columns)
        batches = []
        for shard in manifest.shards:
            keys = open_keys(house, version, leaves_of(version, shard))
            path = house.store.local_path(shard.object_key)
            assert path is not None
            shard_reader = ShardReader(path, file_plan(manifest), shard, keys)
            batches += list(shard_reader.batches(ids, rows=1 << 16))
            shard_reader.close()
        return pa.Table.from_batches(batches).sort_by("id").combine_chunks()


def files(root: Path) -> set[str]:
    """Every file below, hidden ones too."""
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def table(rows: int, salt: int = 0) -> pa.Table:
    """Rows that say which they are."""
    return pa.table(
        {
            "id": pa.array(range(rows), pa.int64()),
            "group": pa.array([(i * 7 + salt) % 13 for i in range(rows)], pa.int64()),
            "text": pa.array([f"{salt}-{i}" for i in range(rows)]),
        }
    )
