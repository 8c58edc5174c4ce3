"""A month leaves the projection: which rows go, what stays, and that none comes back."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.errors import UnknownName
from gateway.lineage import expiry, schema
from gateway.lineage.asking import Asker, Table, ask
from gateway.lineage.projection import Projection
from gateway.lineage.questions import question
from tests.lineage import expiring
from tests.lineage.history import BEGIN, COLUMNS, History, clinic_and_startup
from tests.lineage.test_projection import KEY, dump, projected

CLINIC, STARTUP, RIVAL = (Asker(tenant=name) for name in ("clinic", "startup", "rival"))
MONTH = time.strftime("%Y-%m", time.gmtime(BEGIN))
LATER = 250 * 86_400


@pytest.fixture
def aged() -> History:
    """What `clinic_and_startup` tells, and 250 days later one more read under the old Grant."""
    history = clinic_and_startup()
    grant = history.decide("startup/ml", "clinic/icu", columns=(1, 2), run="run-long")
    lease = history.lease(grant)
    history.read(lease, [0], 64)
    history.clock += LATER
    history.read(lease, [1], 32)
    history.expired_at = history.add(  # type: ignore[attr-defined]
        "MonthExpired", "clinic", tenant="clinic", month=MONTH
    )
    return history


def asked(projection: Projection, name: str, who: Asker, **given: object) -> Table:
    with projection.reading() as cursor:
        return ask(cursor, question(name), given, asker=who, now=BEGIN + LATER + 100)


def test_every_table_goes_or_stays_by_a_rule() -> None:
    with_owner = {name for name, columns in schema.TABLES.items() if "owner" in columns}
    named = expiry.STAYING | {"event", "lease", "granted", "revocation"}
    assert set(expiry.going()) == with_owner - named
    assert {"decision", "question", "intent", "confirmed", "run_finished"} <= set(expiry.going())


def test_rows_of_the_month_go_and_of_each_event_a_bare_line_stays(
    tmp_path: Path, aged: History
) -> None:
    projected(tmp_path, aged)
    found = dump(Projection(tmp_path, KEY))
    for name in expiry.going():
        assert not any("'clinic'" in row and ", 2026, 5, " in row for row in found[name]), name
    assert len(found["event"]) == len(aged.events)
    bare = [row for row in found["event"] if f"'{expiry.BARE}'" in row]
    assert bare
    assert not any("startup" in row for row in bare)
    assert found["version"]
    assert found["policy"]


def test_what_something_newer_names_stays_and_can_be_asked(tmp_path: Path, aged: History) -> None:
    projected(tmp_path, aged)
    (read,) = asked(Projection(tmp_path, KEY), "who-read", CLINIC, dataset="clinic/icu").rows
    assert 32 in read
    assert 64 not in read
    assert list(COLUMNS[:2]) in read


@pytest.mark.parametrize(
    ("who", "since", "until", "said"),
    [
        (CLINIC, None, None, [MONTH]),
        (STARTUP, None, None, [MONTH]),  # its own part of it is gone, too
        (CLINIC, "2026-05-31", "2026-06-30", [MONTH]),
        (CLINIC, "2026-06-01", None, []),
        (CLINIC, None, "2026-05-01", []),
    ],
)
def test_an_answer_over_the_month_says_expired_and_not_nothing(
    tmp_path: Path, aged: History, who: Asker, since: str | None, until: str | None, said: list[str]
) -> None:
    projected(tmp_path, aged)
    given = {"since": since, "until": until}
    table = asked(Projection(tmp_path, KEY), "who-read", who, dataset="clinic/icu", **given)
    assert table.expired == said


def test_the_log_still_shows_no_gap(tmp_path: Path, aged: History) -> None:
    projected(tmp_path, aged)
    table = asked(Projection(tmp_path, KEY), "log-complete", CLINIC)
    names = [column["name"] for column in table.columns]
    assert table.rows[0][names.index("is_gap_free")] is True


@pytest.mark.parametrize("cut", [1, 5, -3, -1])
def test_however_it_is_read_anew_no_row_comes_back(tmp_path: Path, aged: History, cut: int) -> None:
    projected(tmp_path / "whole", aged)
    wanted = dump(Projection(tmp_path / "whole", KEY))
    parts = tmp_path / "parts"
    projected(parts, aged, aged.expired_at + cut if cut < 0 else cut)  # type: ignore[attr-defined]
    projected(parts, aged)
    found = Projection(parts, KEY)
    assert found.rebuilt_because is None
    assert {k: v for k, v in dump(found).items() if k != "progress"} == {
        k: v for k, v in wanted.items() if k != "progress"
    }
    found.rebuild("asked for")
    found.append(aged.pairs())
    assert dump(found)["decision"] == wanted["decision"]


def test_a_second_month_takes_along_what_the_first_one_left(tmp_path: Path, aged: History) -> None:
    month = time.strftime("%Y-%m", time.gmtime(BEGIN + LATER))
    aged.clock += LATER
    aged.add("MonthExpired", "clinic", tenant="clinic", month=month)
    projected(tmp_path, aged)
    found = dump(Projection(tmp_path, KEY))
    for name in ("lease", "confirmed", "decision"):
        assert not any("'clinic'" in row for row in found[name]), name
    said = asked(Projection(tmp_path, KEY), "who-read", CLINIC, dataset="clinic/icu")
    assert (said.rows, said.expired) == ([], [MONTH, month])


def test_a_denial_that_its_asker_may_not_know_of_does_not_show_in_what_expired(
    tmp_path: Path, aged: History
) -> None:
    history = clinic_and_startup()
    history.decide("rival/spy", "clinic/icu", allow=False, reasons=("not-visible",))
    history.clock += LATER
    history.add("MonthExpired", "clinic", tenant="clinic", month=MONTH)
    projected(tmp_path, history)
    projection = Projection(tmp_path, KEY)
    assert asked(projection, "who-read", RIVAL).expired == []
    with pytest.raises(UnknownName) as unknown:
        asked(projection, "who-read", RIVAL, dataset="clinic/icu")
    assert "expire" not in unknown.value.advice


def test_a_name_that_went_with_a_month_is_not_called_a_mistake(tmp_path: Path) -> None:
    history = clinic_and_startup()
    history.clock += LATER
    history.add("MonthExpired", "clinic", tenant="clinic", month=MONTH)
    projected(tmp_path, history)
    projection = Projection(tmp_path, KEY)
    for who, given in ((STARTUP, {"dataset": "clinic/icu"}), (CLINIC, {"run": "run-1"})):
        with pytest.raises(UnknownName) as unknown:
            asked(projection, "who-read", who, **given)
        assert f"it may have gone with what retention let expire: {MONTH}" in unknown.value.advice
    assert asked(projection, "who-read", CLINIC, dataset="clinic/icu").rows == []


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 30))]
)
def test_killed_while_months_expire_it_comes_out_the_same(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    command = [sys.executable, "-m", "tests.lineage.expiring", tmp_path / "killed"]
    for _ in range(4 if seed else 2):
        with subprocess.Popen(
            command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "begin\n"
            time.sleep(chance.random() ** 2 * 0.5)
            child.kill()
            was_done = child.stdout.read() == "end\n"
        if was_done:  # from the beginning
            shutil.rmtree(tmp_path / "killed")
    found, whole = (expiring.project(tmp_path / name) for name in ("killed", "whole"))
    assert found.rebuilt_because is None
    assert dump(found) == dump(whole)
    assert len(dump(whole)["expired"]) == 2 * (expiring.MONTHS - 2)  # owner and actor
