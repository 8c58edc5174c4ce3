"""A watched directory goes through the same gate as a push."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from gateway.domain.events import EventKind
from gateway.policy import packs
from gateway.services import bench, watch
from gateway.services.house import House

from .simulator import add_rules, add_tenant
from .test_policy_tools import RULES, SUITE

ROLES = packs.load("tenant", "clinic")


def run(act: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(act)


@pytest.fixture
def clinic(house: House) -> House:
    async def arrange() -> None:
        await add_tenant(house, "clinic", ("owner", "owner"))
        await add_rules(house, "clinic", RULES)

    run(arrange())
    return house


def write(root: Path, tenant: str = "clinic", **files: str) -> None:
    for name, text in {**ROLES, **{f"{k}.yaml": v for k, v in files.items()}}.items():
        path = root / tenant / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def look(house: House, root: Path, refused: dict[str, str]) -> None:
    run(watch._look(house, root / "clinic", "clinic", refused))


def test_a_directory_whose_test_fails_is_refused_once_and_the_old_rules_stay(
    clinic: House, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = clinic.catalog.bundle("clinic")
    refused: dict[str, str] = {}
    write(tmp_path, icu=RULES, icu_test=SUITE)
    with caplog.at_level(logging.ERROR, "gateway.watch"):
        look(clinic, tmp_path, refused)
        look(clinic, tmp_path, refused)
    assert [(r.tenant, r.why[:14]) for r in caplog.records] == [("clinic", "the test at ic")]
    assert clinic.catalog.bundle("clinic") == before
    start = clinic.journal.durable_size
    less = RULES.replace("age, hr", "age")
    write(tmp_path, icu=less, icu_test=SUITE.replace("startup/one", "rival/one"))
    look(clinic, tmp_path, refused)
    look(clinic, tmp_path, refused)  # unchanged: nothing more happens
    assert clinic.bundles["clinic"].files["icu.yaml"] == less
    assert clinic.catalog.bundle("clinic") == clinic.bundles["clinic"].digest != before
    kinds = [event.kind for event in clinic.journal.read(start)]
    assert kinds.count(EventKind.PolicyPublished) == 1


def test_a_directory_that_cannot_be_built_or_read_changes_nothing(
    clinic: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = clinic.catalog.bundle("clinic")
    look(clinic, tmp_path, {})  # there is none
    write(tmp_path, icu="rules: [")
    look(clinic, tmp_path, {})
    (tmp_path / "clinic/icu.yaml").write_bytes(b"\xff\xfe")
    look(clinic, tmp_path, {})
    write(tmp_path, icu=RULES)
    monkeypatch.setattr(bench, "SECONDS_MAX", 0.01)
    look(clinic, tmp_path, {})
    assert clinic.catalog.bundle("clinic") == before


def test_a_directory_cannot_go_around_the_second_person(
    clinic: House, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(add_tenant(clinic, "friend", ("ana", "owner")))
    two = "format: gateway-policy-bundle/v0\nsecond_person: true\n"
    write(tmp_path, icu=RULES, bundle=two)
    look(clinic, tmp_path, {})
    demanding = clinic.catalog.bundle("clinic")
    assert clinic.bundles["clinic"].second_person
    write(tmp_path, icu=RULES.replace("age, hr", "age"), bundle=two)
    with caplog.at_level(logging.ERROR, "gateway.watch"):
        look(clinic, tmp_path, {})
    assert "need a second person" in caplog.records[-1].why
    assert clinic.catalog.bundle("clinic") == demanding
