"""A start takes its rules from a sealed file, and whatever is wrong with it, from the real ones."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import bootstrap
from gateway.config import Settings
from gateway.errors import IntegrityError
from gateway.policy import compiled
from gateway.policy.bundle import PolicyBundle
from gateway.policy.compiled import CompiledRules
from gateway.services import compiled_rules, publish, request_access
from gateway.services.house import House
from tests.services.conftest import open_house
from tests.services.simulator import add_rules, add_tenant, add_version
from tests.services.test_access import ASK, RULES, TRAINER, run


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with rules in force, at rest."""
    base = tmp_path_factory.mktemp("home")
    bootstrap.init(settings_in(base))
    house = open_house(settings_in(base))
    run(add_tenant(house, "clinic", ("owner", "owner")))
    run(add_tenant(house, "startup", ("ml", "trainer")))
    add_version(house, "clinic", "icu", ["age", "hr", "name"])
    run(add_rules(house, "clinic", RULES))
    house.journal.close()
    return base


def settings_in(base: Path) -> Settings:
    return Settings(state_dir=base / "s", config_dir=base / "c", runtime_dir=base / "r")


@pytest.fixture
def home(furnished: Path, tmp_path: Path) -> Path:
    shutil.copytree(furnished, tmp_path / "home")
    return tmp_path / "home"


def reopened(home: Path) -> Iterator[House]:
    house = open_house(settings_in(home))
    try:
        yield house
    finally:
        house.journal.close()


def cache(home: Path) -> Path:
    return home / "s" / "bundles" / "clinic.compiled"


def is_obeyed(house: House) -> bool:
    digest = house.catalog.bundle("clinic")
    assert digest is not None
    return compiled_rules.load(house, "clinic", digest, dict) is not None


def allowed(house: House) -> bool:
    return run(request_access.check(house, TRAINER, ASK)).is_allowed


def test_a_changed_file_is_not_obeyed_and_written_anew(home: Path) -> None:
    data = cache(home).read_bytes()
    for at in (0, len(data) // 2, len(data) - 1):  # every byte: below
        cache(home).write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        for house in reopened(home):
            assert not isinstance(house.bundles["clinic"].rules, CompiledRules)
            assert allowed(house)
        for house in reopened(home):
            assert isinstance(house.bundles["clinic"].rules, CompiledRules)


def test_no_flipped_bit_and_no_cut_is_obeyed(home: Path) -> None:
    data = cache(home).read_bytes()
    for house in reopened(home):
        with cache(home).open("r+b", buffering=0) as file:  # in place: thousands of bytes
            for at in range(len(data)):
                os.pwrite(file.fileno(), bytes([data[at] ^ 1]), at)
                assert not is_obeyed(house)
                os.pwrite(file.fileno(), data[at : at + 1], at)
            assert is_obeyed(house)
            for size in range(len(data) - 1, 0, -16):
                file.truncate(size)
                assert not is_obeyed(house)


@pytest.mark.parametrize("data", [b"", b"x" * 10, b"x" * 10_000])
def test_what_is_no_cache_is_written_anew(home: Path, data: bytes) -> None:
    cache(home).write_bytes(data)
    for house in reopened(home):
        assert allowed(house)
    assert cache(home).read_bytes() != data


def test_what_is_no_plain_file_is_replaced_and_never_waited_for(home: Path) -> None:
    data = cache(home).read_bytes()
    elsewhere = home / "elsewhere"
    elsewhere.write_bytes(data)
    for put in (lambda: os.mkfifo(cache(home)), lambda: cache(home).symlink_to(elsewhere)):
        cache(home).unlink()
        put()
        for house in reopened(home):
            assert not isinstance(house.bundles["clinic"].rules, CompiledRules)
            assert allowed(house)
        assert cache(home).is_file()
        assert not cache(home).is_symlink()
    assert elsewhere.read_bytes() == data


def test_the_file_of_another_tenant_or_bundle_is_not_obeyed(home: Path) -> None:
    startup = cache(home).with_name("startup.compiled")
    shutil.copy(startup, cache(home))
    older = startup.read_bytes()
    for house in reopened(home):
        assert not isinstance(house.bundles["clinic"].rules, CompiledRules)
        run(add_rules(house, "startup", RULES.replace("clinic", "startup")))
    startup.write_bytes(older)  # of before the push
    for house in reopened(home):
        assert not isinstance(house.bundles["startup"].rules, CompiledRules)
        assert "startup.icu.research" in {rule.id for rule in house.bundles["startup"].rules}


def test_rules_read_by_other_code_are_read_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "code_digest", lambda: "another version")
    for house in reopened(home):
        assert not isinstance(house.bundles["clinic"].rules, CompiledRules)


def test_files_that_were_changed_are_refused_although_the_cache_is_whole(home: Path) -> None:
    for house in reopened(home):
        digest = house.catalog.bundle("clinic")
    (home / "s" / "bundles" / f"{digest}.json").write_text("{}")
    with pytest.raises(IntegrityError):
        next(reopened(home))


def test_a_start_takes_the_compiled_rules_and_decides_the_same(home: Path) -> None:
    for house in reopened(home):
        found = house.bundles["clinic"]
        assert isinstance(found.rules, CompiledRules)
        whole = PolicyBundle.read(publish.stored_files(house, "clinic", found.digest), "clinic")
        assert (list(found.rules), dict(found.files)) == (list(whole.rules), dict(whole.files))
        assert allowed(house)


def test_rules_at_the_limits_of_the_grammar_decide_the_same_after_a_start(home: Path) -> None:
    names = ", ".join(f"'u{number}'" for number in range(198))
    rules = RULES.replace(
        "    actions: [stream]",
        f"    when: subject.id not in ({names}) and true\n    actions: [stream]",
        1,
    )
    assert rules != RULES
    for house in reopened(home):
        run(add_rules(house, "clinic", rules))
        assert allowed(house)
    for house in reopened(home):
        assert allowed(house)


def test_it_shows_nothing_without_the_keys(home: Path) -> None:
    assert b"clinic.icu" not in cache(home).read_bytes()
    assert cache(home).stat().st_mode & 0o777 == 0o600
