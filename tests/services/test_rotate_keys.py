"""Keys are renewed without a byte of data; what is older is refused, whatever was killed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import failpoints
from gateway.config import Settings
from gateway.domain.events import EventKind
from gateway.errors import AccessDenied, IntegrityError, KeyUnavailable, NotFound
from gateway.services import doctor, rotate_keys
from gateway.services.house import House
from tests.services import vaults as v
from tests.services.registrations import ended, registered, rows_of
from tests.services.simulator import OPERATOR
from tests.services.vaults import OWNER, TRAINER, opened, run

STEPS = [name for name in failpoints.STEPS if name.startswith("rotate.")]


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return v.furnish(tmp_path_factory.mktemp("furnished"))


@pytest.fixture
def home(furnished: Settings, tmp_path: Path) -> Iterator[Settings]:
    yield v.copied(furnished, tmp_path)
    failpoints.arm(None)


async def rotate(house: House, kind: str) -> dict[str, object]:
    operation = await rotate_keys.rotate(house, OWNER, kind)
    result = await ended(operation)
    assert operation.task is not None
    await operation.task  # tells of a kill
    return result


def everything(house: House) -> list[object]:
    refs = ("clinic/icu@1", "clinic/icu@2", "clinic/other@1")
    return [rows_of(house, ref).to_pydict() for ref in refs]


def vault_of(settings: Settings) -> Path:
    return settings.state_dir / "vault"


def test_only_owners_list_and_renew_their_own_keys(home: Settings) -> None:
    with opened(home) as house:
        for act in (rotate_keys.list_(house, TRAINER), rotate_keys.rotate(house, TRAINER, "root")):
            with pytest.raises(AccessDenied):
                run(act)
        for key in ("token", "log", "clinic", "../root"):
            with pytest.raises(NotFound):
                run(rotate_keys.rotate(house, OWNER, key))
        mine = run(rotate_keys.list_(house, OWNER))
        assert {key.name for key in mine if key.kind == "root"} == {"clinic"}
        assert {key.name for key in mine if key.kind == "kek"} == {"clinic/icu", "clinic/other"}
        sheets = {key.name: key.generation for key in mine if key.kind == "sheet"}
        assert sheets == {"clinic/icu@1": 1, "clinic/icu@2": 1, "clinic/other@1": 1}
        uses = {key.name for key in mine if key.kind == "signing"}
        assert {"log", "token", "manifest", "view"} <= uses
        theirs = run(rotate_keys.list_(house, OPERATOR))
        assert {key.name for key in theirs if key.kind == "root"} == {"platform", "_gateway"}


def test_renewed_keys_open_the_same_data_and_write_none_of_it(home: Settings) -> None:
    objects = sorted((home.state_dir / "objects").rglob("*.*"))
    before = [(path, path.stat().st_mtime_ns, path.stat().st_ino) for path in objects]
    with opened(home) as house:
        rows = everything(house)
        start = house.journal.durable_size
        run(rotate(house, "root"))
        run(rotate(house, "kek"))
        assert everything(house) == rows
        events = [e for e in house.journal.read(start) if e.kind == EventKind.KeysRotated]
        assert [e.facts["kind"] for e in events] == ["root", "kek"]
        assert {s["generation"] for s in events[1].facts["sheets"]} == {2}
        assert house.kms.generations("clinic") == (2,)
    assert [(p, p.stat().st_mtime_ns, p.stat().st_ino) for p in objects] == before
    with opened(home) as house:
        assert everything(house) == rows
        run(registered(house, OWNER, "clinic/icu", v.MORE, append=True))
        assert rows_of(house, "clinic/icu@3").num_rows == 5


@pytest.mark.parametrize("step", STEPS)
def test_a_rotation_killed_at_any_step_is_finished_at_the_next_start(
    step: str, home: Settings
) -> None:
    kind = "kek" if "kek" in step or "sheets" in step else "root"
    house = v.open_house(home)
    rows = everything(house)
    v.kill_at(step)
    with pytest.raises(v.Killed):
        run(rotate(house, kind))
    failpoints.arm(None)
    house.journal.close()
    with opened(home) as again:
        assert everything(again) == rows
        held = rotate_keys.rewrap.holdings(again.vault, "clinic")
        assert not held.unfinished
        (recorded,) = again.catalog.rings()
        assert recorded.root == held.root == (2 if kind == "root" else 1)
        assert {key.state for key in run(rotate_keys.list_(again, OWNER))} == {"in use"}


def restore(backup: Path, home: Settings, *names: str) -> None:
    for name in names:
        shutil.copy2(backup / name, vault_of(home) / name)


@pytest.mark.parametrize("kind", ["root", "kek"])
def test_a_keyring_from_before_a_rotation_stops_the_start(
    kind: str, home: Settings, tmp_path: Path
) -> None:
    shutil.copytree(vault_of(home), tmp_path / "backup")
    with opened(home) as house:
        run(rotate(house, kind))
    checks = {check.name: check for check in doctor.diagnose(home)}
    assert checks["key vault"].ok
    restore(tmp_path / "backup", home, "rings/clinic.json")
    with pytest.raises((IntegrityError, KeyUnavailable)) as refused, opened(home):
        pass
    assert refused.value.advice is not None
    assert "put the newest copy of the key vault back" in refused.value.advice
    checks = {check.name: check for check in doctor.diagnose(home)}
    assert not checks["key vault"].ok
    assert "clinic" in checks["key vault"].detail


def test_a_sheet_from_before_a_rotation_is_refused(home: Settings, tmp_path: Path) -> None:
    shutil.copytree(vault_of(home), tmp_path / "backup")
    with opened(home) as house:
        run(rotate(house, "kek"))
        dataset_id = house.catalog.dataset("clinic", "icu").dataset_id
    restore(tmp_path / "backup", home, f"sheets/{dataset_id}/1.json")
    with opened(home) as house:
        with pytest.raises(IntegrityError):
            rows_of(house, "clinic/icu@1")
        assert rows_of(house, "clinic/icu@2").num_rows == 4


def test_an_old_root_file_that_is_put_back_is_not_obeyed(home: Settings, tmp_path: Path) -> None:
    old = home.config_dir / "roots" / "clinic.1.root"
    shutil.copytree(vault_of(home), tmp_path / "backup")
    shutil.copy2(old, tmp_path / "kept")
    with opened(home) as house:
        run(rotate(house, "root"))
    assert not old.exists()
    shutil.copy2(tmp_path / "kept", old)
    with opened(home) as house:
        assert house.kms.generations("clinic") == (2,)
        assert not old.exists()
        everything(house)
    shutil.copy2(tmp_path / "kept", old)
    old.with_suffix(".destroyed").unlink()  # the mark taken away as well
    with opened(home) as house:
        assert house.kms.generations("clinic") == (2,)
    restore(tmp_path / "backup", home, "rings/clinic.json")
    with pytest.raises((IntegrityError, KeyUnavailable)), opened(home):
        pass
