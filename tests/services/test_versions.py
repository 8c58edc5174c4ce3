"""From version to version: what stays, what an append keeps, and who wins a race."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from gateway.domain.dataset import Dataset, DatasetRef
from gateway.errors import (
    AccessDenied,
    Conflict,
    GatewayError,
    InvalidInput,
    SourceRefused,
)
from gateway.services import describe, register, request_access, sweep
from gateway.services.house import House
from gateway.services.request_access import Ask
from gateway.services.storage import load_manifest
from tests.services.registrations import (
    ended,
    manifest_of,
    registered,
    rows_of,
    uploaded,
)
from tests.services.simulator import add_rules, add_tenant
from tests.services.test_access import OWNER, TRAINER, run

RULES = """
format: gateway-policy/v0
rules:
  - id: clinic.icu.research
    kind: allow
    principals: [startup/role:trainer]
    scope: dataset:clinic/icu
    actions: [stream]
    purpose: [research]
    columns: [age, note]
    where: age >= 18
"""
ICU = DatasetRef("clinic", "icu")
ASK = Ask(dataset="clinic/icu", purpose="research")
PEOPLE = {"splits": {"train": 0.6, "test": 0.4}, "split_by": "patient"}


@pytest.fixture
def clinic(house: House) -> House:
    async def arrange() -> None:
        await add_tenant(house, "clinic", ("owner", "owner"))
        await add_tenant(house, "startup", ("ml", "trainer"))

    run(arrange())
    return house


def visits(start: int, count: int) -> Any:
    """Visits of 200 patients; some come again in every later table."""
    numbers = range(start, start + count)
    return pa.table({"visit": list(numbers), "patient": [n * 7 % 200 for n in numbers]})


def made(house: House, table: Any, **options: Any) -> dict[str, Any]:
    result: dict[str, Any] = run(registered(house, OWNER, "clinic/icu", table, **options))
    return result


def icu(house: House) -> Dataset:
    return house.catalog.dataset("clinic", "icu")


def stored(house: House) -> dict[str, tuple[int, int]]:
    """Every stored object, with what would change if it were written again."""
    paths = {key: Path(house.store.local_path(key) or "") for key in house.store.list()}
    return {key: (p.stat().st_ino, p.stat().st_mtime_ns) for key, p in paths.items()}


def test_an_append_refers_to_the_old_shards_and_rewrites_none(clinic: House) -> None:
    made(clinic, visits(0, 500), **PEOPLE)
    before = stored(clinic)
    made(clinic, visits(500, 300), append=True)
    after = stored(clinic)
    assert {key: after[key] for key in before} == before
    old, new = manifest_of(clinic, "clinic/icu@1"), manifest_of(clinic, "clinic/icu@2")
    assert new.shards[: len(old.shards)] == old.shards
    assert {shard.origin_version for shard in old.shards} == {1}
    added = new.shards[len(old.shards) :]
    assert added
    assert {shard.origin_version for shard in added} == {2}
    assert len(after) - len(before) == 2 * len(added) + 1  # a file and a block table each, manifest


def test_the_keys_of_old_shards_come_along_with_their_version_of_origin(clinic: House) -> None:
    made(clinic, visits(0, 300), **PEOPLE)
    made(clinic, visits(300, 300), append=True)
    dataset, new = icu(clinic), manifest_of(clinic, "clinic/icu@2")
    ids = [leaf.dek for shard in new.shards for leaf in shard.leaves]
    generation = dataset.newest.sheet_generation
    deks = clinic.vault.deks("clinic", dataset.dataset_id, 2, generation, ids)
    for shard in new.shards:
        assert {deks[leaf.dek].origin_version for leaf in shard.leaves} == {shard.origin_version}
    assert set(clinic.vault.dek_ids("clinic", dataset.dataset_id, 2)) == set(ids)


def test_rows_come_old_first_and_every_version_keeps_its_own(clinic: House) -> None:
    made(clinic, visits(0, 400))
    made(clinic, visits(400, 100), append=True)
    made(clinic, visits(500, 50), append=True)
    for version, rows in ((1, 400), (2, 500), (3, 550)):
        table = rows_of(clinic, f"clinic/icu@{version}")
        assert table["visit"].to_pylist() == list(range(rows))


def test_a_person_stays_in_the_split_that_it_was_in(clinic: House) -> None:
    made(clinic, visits(0, 400), **PEOPLE)
    made(clinic, visits(400, 400), append=True)
    made(clinic, visits(0, 900), **PEOPLE)  # a whole new version, dealt with the same key
    where: dict[int, set[str]] = {}
    for version in (1, 2, 3):
        rows = 0
        for split in ("train", "test"):
            table = rows_of(clinic, f"clinic/icu@{version}", split)
            rows += len(table)
            for patient in table["patient"].to_pylist():
                where.setdefault(patient, set()).add(split)
        assert rows == (400, 800, 900)[version - 1]
    assert len(where) == 200
    assert all(len(splits) == 1 for splits in where.values())
    assert Counter(split for splits in where.values() for split in splits).keys() == {
        "train",
        "test",
    }


def test_an_append_with_other_splits_or_to_nothing_is_refused_before_the_upload(
    clinic: House,
) -> None:
    with pytest.raises(Conflict, match="no version of `clinic/icu` to append to"):
        made(clinic, visits(0, 5), append=True)
    made(clinic, visits(0, 300), **PEOPLE)
    for options in ({"splits": {"a": 0.5, "b": 0.5}}, {"split_column": "visit"}):
        with pytest.raises(Conflict, match="dealt to splits as the version that it extends"):
            made(clinic, visits(300, 5), append=True, **options)
    assert not clinic.uploads
    made(clinic, visits(300, 5), append=True, **PEOPLE)
    assert icu(clinic).newest.ref.version == 2


@pytest.mark.parametrize(
    "options",
    [
        {"splits": {"train": 0.8, "test": 0.1}},
        {"splits": {"train": 1.2, "test": -0.2}},
        {"splits": {"Train": 0.5, "test": 0.5}},
        {"splits": {f"s{n}": 1 / 64 for n in range(64)}},
        {"split_by": "patient"},
        {"split_column": "patient", "split_by": "patient"},
        {"split_column": "patient", "splits": {"a": 1.0}},
    ],
)
def test_splits_that_make_no_sense_are_refused_before_the_upload(
    clinic: House, options: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput):
        made(clinic, visits(0, 5), **options)
    assert not clinic.uploads


def test_a_rule_for_one_split_opens_no_other_and_not_the_whole(clinic: House) -> None:
    made(clinic, visits(0, 300), **PEOPLE)
    by_field = "columns: [visit]\n    splits: [train]"
    by_condition = "columns: [visit]\n    when: resource.split == 'train'"
    for words in (by_field, by_condition):
        rules = RULES.replace("columns: [age, note]\n    where: age >= 18", words)
        assert words in rules
        run(add_rules(clinic, "clinic", rules))
        for split, allowed in (("train", True), ("test", False), (None, False), ("nope", False)):
            ask = Ask(dataset="clinic/icu", purpose="research", split=split)
            decision = run(request_access.check(clinic, TRAINER, ask))
            assert decision.is_allowed is allowed
            assert not allowed or decision.plan.split == "train"


def test_an_append_of_other_columns_leaves_the_old_state(clinic: House) -> None:
    made(clinic, visits(0, 50))
    before = stored(clinic)
    other = pa.table({"visit": ["a"], "patient": [1]})
    with pytest.raises(SourceRefused, match="stands where the dataset has"):
        made(clinic, other, append=True)
    assert (icu(clinic).newest.ref.version, stored(clinic)) == (1, before)


def test_of_two_registrations_that_race_one_wins_and_nothing_is_half(clinic: House) -> None:
    made(clinic, visits(0, 50))

    async def race() -> list[Any]:
        uploads = [
            await uploaded(clinic, OWNER, "clinic/icu", visits(n, 60)) for n in (100, 200, 300)
        ]
        acts = [await register.commit(clinic, OWNER, upload.id) for upload in uploads]
        return await asyncio.gather(*map(ended, acts), return_exceptions=True)

    results = run(race())
    won = [r for r in results if isinstance(r, dict)]
    lost = [r for r in results if isinstance(r, Conflict)]
    assert (len(won), len(lost)) == (1, 2)
    assert all("registered" in str(e.advice) or "register yours" in str(e.advice) for e in lost)
    assert [v.ref.version for v in icu(clinic).versions] == [1, 2]
    assert sweep.find(sweep.Stock.of(clinic)).count == 0
    first = rows_of(clinic, "clinic/icu@2")["visit"].to_pylist()[0]
    assert first in (100, 200, 300)
    assert [v.ref.version for v in icu(clinic).versions] == [1, 2]


def test_two_first_registrations_of_one_name_make_one_dataset(clinic: House) -> None:
    async def race() -> list[Any]:
        both = [await uploaded(clinic, OWNER, "clinic/icu", visits(n, 60)) for n in (0, 100)]
        acts = [await register.commit(clinic, OWNER, upload.id) for upload in both]
        return await asyncio.gather(*map(ended, acts), return_exceptions=True)

    results = run(race())
    assert sorted(isinstance(r, GatewayError) for r in results) == [False, True]
    assert len(rows_of(clinic, "clinic/icu@1")) == 60
    assert sweep.find(sweep.Stock.of(clinic)).count == 0


def stays(**columns: Any) -> Any:
    return pa.table({"age": [20, 30], **columns})


def asked(house: House, *, version: str = "") -> tuple[str, ...]:
    """The columns that the startup's plan has now."""
    ask = Ask(dataset=f"clinic/icu{version}", purpose="research")
    decision = run(request_access.check(house, TRAINER, ask))
    assert decision.is_allowed, decision.reasons
    names: tuple[str, ...] = decision.plan.names
    return names


def test_a_retyped_column_is_another_column_and_no_rule_of_the_old_one_releases_it(
    clinic: House,
) -> None:
    made(clinic, stays(note=[1, 2]))
    run(add_rules(clinic, "clinic", RULES))
    run(describe.classify(clinic, OWNER, ICU, {"note": ["public"], "age": ["pii.indirect"]}))
    assert asked(clinic) == ("age", "note")
    with pytest.raises(Conflict, match="note: int64 -> string") as refused:
        made(clinic, stays(note=["Mrs. Smith", "Mr. Wu"]))
    assert "--allow-schema-change" in str(refused.value.advice)
    assert icu(clinic).newest.ref.version == 1
    result = made(clinic, stays(note=["Mrs. Smith", "Mr. Wu"]), allow_schema_change=True)
    assert result["retyped"] == ["note: int64 -> string"]
    (age, note) = icu(clinic).columns_of(icu(clinic).newest)
    assert (age.field_id, age.tags, note.field_id, note.tags) == (1, ("pii.indirect",), 3, ())
    assert asked(clinic) == ("age",)  # though the rule names `note`
    assert asked(clinic, version="@1") == ("age", "note")
    run(describe.classify(clinic, OWNER, ICU, {"note": []}))
    assert asked(clinic) == ("age",)
    run(describe.classify(clinic, OWNER, ICU, {"note": ["public"]}))
    assert asked(clinic) == ("age", "note")


def test_a_column_that_comes_back_is_another_column(clinic: House) -> None:
    made(clinic, stays(note=[1, 2]))
    run(add_rules(clinic, "clinic", RULES))
    run(describe.classify(clinic, OWNER, ICU, {"note": ["public"]}))
    made(clinic, stays(), allow_schema_change=True)
    assert asked(clinic) == ("age",)
    assert made(clinic, stays(note=[3, 4]))["added"] == ["note"]
    (_, note) = icu(clinic).columns_of(icu(clinic).newest)
    assert (note.field_id, note.tags) == (3, ())
    assert asked(clinic) == ("age",)


def test_a_row_filter_over_a_retyped_column_denies_until_it_is_classified(clinic: House) -> None:
    made(clinic, stays(note=[1, 2]))
    run(add_rules(clinic, "clinic", RULES.replace("columns: [age, note]", "columns: [note]")))
    assert asked(clinic) == ("note",)
    table = pa.table({"age": [20.5, 30.5], "note": [1, 2]})
    made(clinic, table, allow_schema_change=True)
    with pytest.raises(AccessDenied, match="row filter cannot be applied"):
        run(request_access.request_grant(clinic, TRAINER, ASK))
    run(describe.classify(clinic, OWNER, ICU, {"age": ["pii.indirect"]}))
    assert asked(clinic) == ("note",)


def test_a_new_version_keeps_the_card_unless_it_brings_one(clinic: House) -> None:
    made(clinic, stays(), card={"title": "first"})
    made(clinic, stays())
    assert icu(clinic).card == {"title": "first"}
    made(clinic, stays(), card={"title": "third"})
    assert icu(clinic).card == {"title": "third"}
    cards = [load_manifest(clinic, DatasetRef("clinic", "icu", n)).card for n in (1, 2, 3)]
    assert cards == [{"title": "first"}, {}, {"title": "third"}]
