"""`kill -9` between any two steps of a write leaves the old state or the new one.

The simulator is the kernel itself: a forked child kills itself with SIGKILL before its n-th
file system call, for every n until the write gets through.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from connectors.kms.local_file import LocalFileKms
from connectors.stores.local import LocalStore
from gateway.crypto.identity_keys import IdentityKey
from gateway.crypto.signing import load_or_create
from gateway.crypto.vault import SYSTEM_TENANT, Dek, KeyVault
from gateway.errors import Conflict, KeyUnavailable, NotFound

STEPS = {"open", "os.link", "os.rename", "os.remove", "os.mkdir", "os.chmod", "os.truncate"}
DATASET = "0" * 32
DEK = Dek(id="d/s/1", key=b"k" * 32, shard="s", leaf="1", origin_version=1)


def _die_before_step(n: int, act: Callable[[], object]) -> NoReturn:
    count = 0

    def watch(event: str, _: tuple[object, ...]) -> None:
        nonlocal count
        if event in STEPS:
            count += 1
            if count > n:
                os.kill(os.getpid(), signal.SIGKILL)

    try:
        sys.addaudithook(watch)
        act()
        os._exit(0)
    except BaseException:  # noqa: BLE001
        os._exit(1)


def killed_at_each_step(act: Callable[[int], object]) -> Iterator[bool]:
    """Run `act(n)` in a child that is killed before step n; says whether it got through."""
    for n in range(200):
        child = os.fork()
        if child == 0:
            _die_before_step(n, lambda n=n: act(n))  # type: ignore[misc]
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            yield True
            assert n >= 3
            return
        assert os.WTERMSIG(status) == signal.SIGKILL
        yield False
    pytest.fail("the write never got through")


@pytest.fixture
def kms(tmp_path: Path) -> LocalFileKms:
    return LocalFileKms(tmp_path / "roots")


def vault_of(directory: Path, kms: LocalFileKms) -> KeyVault:
    vault = KeyVault(directory, kms)
    vault.add_tenant("clinic")
    return vault


def test_a_killed_sheet_leaves_the_old_or_the_new(tmp_path: Path, kms: LocalFileKms) -> None:
    vault = vault_of(tmp_path / "vault", kms)
    vault.new_sheet("clinic", DATASET, 1, {DEK.id: DEK})
    second = Dek(id="d/s/2", key=b"2" * 32, shard="s", leaf="2", origin_version=1)
    deks = {DEK.id: DEK, second.id: second}
    generation = 1
    for done in killed_at_each_step(lambda _: vault.new_sheet("clinic", DATASET, 1, deks)):
        reopened = KeyVault(tmp_path / "vault", kms)
        ids = reopened.dek_ids("clinic", DATASET, 1)
        now = reopened.open_deks("clinic", DATASET, 1, generation, ids)
        assert now in ({DEK.id: DEK.key}, {d.id: d.key for d in deks.values()})
        assert not done or len(now) == 2
        assert not list((tmp_path / "vault").rglob(".tmp-*"))
        assert vault.open_deks("clinic", DATASET, 1, 1, [DEK.id])


def test_a_killed_first_sheet_leaves_none_or_a_whole_one(tmp_path: Path, kms: LocalFileKms) -> None:
    for n, done in enumerate(
        killed_at_each_step(
            lambda n: vault_of(tmp_path / f"vault{n}", kms).new_sheet(
                "clinic", DATASET, 1, {DEK.id: DEK}
            )
        )
    ):
        reopened = vault_of(tmp_path / f"vault{n}", kms)
        try:
            assert reopened.open_deks("clinic", DATASET, 1, 1, [DEK.id]) == {DEK.id: DEK.key}
        except NotFound:
            assert not done
        assert reopened.new_sheet("clinic", DATASET, 1, {DEK.id: DEK}) >= 1


def test_a_secret_is_the_same_ever_after_or_was_never_there(
    tmp_path: Path, kms: LocalFileKms
) -> None:
    def secret(n: int) -> bytes:
        vault = KeyVault(tmp_path / f"vault{n}", kms)
        vault.add_tenant(SYSTEM_TENANT)
        return vault.secret("order")

    for n, _ in enumerate(killed_at_each_step(secret)):
        first = secret(n)
        assert secret(n) == first


def test_a_killed_root_is_whole_or_absent(tmp_path: Path) -> None:
    for n, done in enumerate(
        killed_at_each_step(lambda n: LocalFileKms(tmp_path / str(n)).create_root("clinic"))
    ):
        kms = LocalFileKms(tmp_path / str(n))
        assert kms.generations("clinic") in ((1,), () if not done else (1,))
        for generation in kms.generations("clinic"):
            kms.wrap_key(b"k" * 32, tenant="clinic", generation=generation, aad=b"")
        assert kms.create_root("clinic") in (1, 2)


def test_a_killed_destruction_is_undone_or_final(tmp_path: Path) -> None:
    directories = [tmp_path / str(n) for n in range(30)]
    for directory in directories:
        LocalFileKms(directory).create_root("clinic")
    for n, done in enumerate(
        killed_at_each_step(lambda n: LocalFileKms(directories[n]).destroy_root("clinic", 1))
    ):
        marked = (directories[n] / "clinic.1.destroyed").exists()
        kms = LocalFileKms(directories[n])
        assert marked or not done
        if marked:
            assert kms.generations("clinic") == ()
            assert not (directories[n] / "clinic.1.root").exists()
            with pytest.raises(KeyUnavailable):
                kms.wrap_key(b"k" * 32, tenant="clinic", generation=1, aad=b"")
        else:
            kms.wrap_key(b"k" * 32, tenant="clinic", generation=1, aad=b"")


def test_a_killed_object_is_whole_or_absent(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "objects")
    sources = [tmp_path / f"source{n}" for n in range(30)]
    for source in sources:
        source.write_bytes(b"sealed" * 1000)
    for put in (
        lambda n: store.put_bytes_new(f"bytes/{n}", b"sealed" * 1000),
        lambda n: store.put_new(f"linked/{n}", str(sources[n])),
    ):
        for done in killed_at_each_step(put):
            again = LocalStore(tmp_path / "objects")
            assert all(again.read(key) == b"sealed" * 1000 for key in again.list())
            assert not list((tmp_path / "objects" / ".incoming").iterdir())
            if done:
                assert list(again.list())


def test_a_killed_key_file_is_whole_or_absent(tmp_path: Path) -> None:
    for n, _ in enumerate(
        killed_at_each_step(lambda n: load_or_create(tmp_path / str(n) / "log.json", "log"))
    ):
        first = load_or_create(tmp_path / str(n) / "log.json", "log")
        assert load_or_create(tmp_path / str(n) / "log.json", "log").key_id == first.key_id
    for n, done in enumerate(
        killed_at_each_step(lambda n: IdentityKey.create(tmp_path / f"{n}.id", "a/b"))
    ):
        try:
            IdentityKey.create(tmp_path / f"{n}.id", "a/b")
        except Conflict:
            IdentityKey.load(tmp_path / f"{n}.id")
        else:
            assert not done


def test_bytes_are_on_disk_before_their_name_is(
    tmp_path: Path, kms: LocalFileKms, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Power loss: the order file, name, directory is what a journalling file system needs."""
    vault = vault_of(tmp_path / "vault", kms)
    vault.new_sheet("clinic", DATASET, 1, {DEK.id: DEK})
    steps: list[str] = []
    sync = os.fsync

    def noted(descriptor: int) -> None:
        target = Path(f"/proc/self/fd/{descriptor}").readlink()
        steps.append("sync directory" if target.is_dir() else "sync file")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    renamed = Path.replace

    def named(self: Path, target: Path) -> Path:
        steps.append("rename")
        return renamed(self, target)

    monkeypatch.setattr(Path, "replace", named)
    vault.new_sheet("clinic", DATASET, 1, {DEK.id: DEK})
    assert steps == ["sync file", "rename", "sync directory"]
