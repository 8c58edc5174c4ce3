"""Taking data out of a real gateway: previews, plain copies, sealed copies read by strangers."""

from __future__ import annotations

import datetime as dt
import decimal
import hashlib
import json
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gateway.client import GatewayClient
from gateway.errors import (
    AccessDenied,
    Conflict,
    GatewayError,
    InvalidInput,
    LimitExceeded,
    NotFound,
)
from tests.cli.test_real_gateway import Typed, client, home, server, typed

__all__ = ["client", "home", "server", "typed"]
STRANGERS = Path(__file__).parents[2] / "docs" / "examples"
ROWS = 5000
ODD = "größe, in cm: [x]; '\""


def table() -> Any:
    """Nested, wide and odd columns; every value differs by row."""
    numbers = range(ROWS)
    return pa.table(
        {
            "age": pa.array([n % 90 for n in numbers], pa.int32()),
            ODD: pa.array([None if n % 7 == 0 else n * 0.5 for n in numbers]),
            "words": pa.array([f"\x1b[2Jp{n}" if n % 2 else None for n in numbers]),
            "list": pa.array([[f"t{n}"] * (n % 3) for n in numbers]),
            "place": pa.array([{"a": n, "b": {"c": str(n)}} for n in numbers]),
            "map": pa.array([[("k", n)] for n in numbers], pa.map_(pa.string(), pa.int64())),
            "tensor": pa.array([[n, n + 1] for n in numbers], pa.list_(pa.float32(), 2)),
            "when": pa.array(
                [dt.datetime(2026, 1, 1, tzinfo=dt.UTC) for _ in numbers],
                pa.timestamp("us", tz="Europe/Berlin"),
            ),
            "money": pa.array([decimal.Decimal(n).scaleb(-2) for n in numbers]),
            "day": pa.array([dt.date(2026, 1, 1 + n % 28) for n in numbers]),
            "secret": pa.array([f"secret {n}" for n in numbers]),
        },
        schema=None,
    )


ORIGINAL = table()
GIVEN = [name for name in ORIGINAL.schema.names if name != "secret"]
ASK = ("--purpose", "research")


@pytest.fixture(scope="module")
def copied(client: GatewayClient, typed: Typed) -> str:
    """A dataset that its trainers may preview and export but for one column."""
    return shared(client, typed, "home/train", profile="train")


def shared(client: GatewayClient, typed: Typed, name: str, **options: Any) -> str:
    client.datasets.register(name, ORIGINAL, splits={"train": 0.8, "test": 0.2}, **options)
    columns = [word for column in GIVEN for word in ("--column", column)]
    new = ("policy", "new", name, "--to", "role:trainer", *ASK, *columns, "--push")
    typed(*new, "--allow", "export", "--allow", "preview")
    return name


def sorted_rows(rows: Any) -> list[Any]:
    return sorted(rows.to_pylist(), key=lambda row: row["place"]["a"])


def sealed(
    client: GatewayClient, home: Path, dataset: str, **ask: Any
) -> tuple[Path, Path, dict[str, Any]]:
    name = dataset.replace("/", "-") + f"-{len(list(home.glob('*.keys')))}"
    keys = home / f"{name}.keys"
    client.datasets.export(
        dataset, purpose="research", encrypted=True, keys_to=keys, out=home / name, **ask
    )
    return home / name, keys, json.loads(keys.read_text())


def stranger(program: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Foreign readers abort on what they have no key for: never in this process."""
    return subprocess.run(
        [sys.executable, STRANGERS / program, *map(str, words)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_a_stream_right_is_no_right_to_take_it_out(
    client: GatewayClient, typed: Typed, home: Path
) -> None:
    client.datasets.register("home/kept", pa.table({"n": [1, 2, 3]}))
    typed("policy", "new", "home/kept", "--to", "role:trainer", *ASK, "--columns", "n", "--push")
    with pytest.raises(AccessDenied):
        client.datasets.preview("home/kept", purpose="research")
    with pytest.raises(AccessDenied):
        sealed(client, home, "home/kept")
    typed("dataset", "export", "home/kept", *ASK, "--out", "kept", expect=3)
    with pytest.raises(NotFound):
        client.datasets.export("home/absent", purpose="research", out=home / "kept")
    assert not (home / "kept").exists()


def test_a_copy_that_a_limit_cuts_leaves_nothing(
    copied: str, client: GatewayClient, home: Path
) -> None:
    before = sorted(path.name for path in home.iterdir())
    ask: dict[str, Any] = {"purpose": "research", "out": home / "cut"}
    with pytest.raises(LimitExceeded) as refused:
        client.datasets.export(copied, max_rows=ROWS - 1, **ask)
    assert refused.value.message == (
        f"the copy has {ROWS} rows, and the grant allows {ROWS - 1} more"
    )
    grant = max(client.grants.list(), key=lambda grant: str(grant.granted_at))
    assert grant.rows_charged == 0
    with pytest.raises(GatewayError):
        client.datasets.export(copied, max_bytes=1000, **ask)
    assert sorted(path.name for path in home.iterdir()) == before
    done = client.datasets.export(copied, max_rows=ROWS, columns=["age"], **ask)
    assert done.rows == ROWS


def test_nothing_is_asked_for_when_there_is_no_place_for_it(
    copied: str, client: GatewayClient, home: Path
) -> None:
    grants = len(client.grants.list())
    full = home / "full"
    full.mkdir(exist_ok=True)
    (full / "x").touch()
    taken = home / "taken.keys"
    taken.write_text("mine")
    ask = {"purpose": "research", "encrypted": True}
    with pytest.raises(Conflict):
        client.datasets.export(copied, out=full, purpose="research")
    with pytest.raises(Conflict):
        client.datasets.export(copied, out=home / "new", keys_to=taken, **ask)
    with pytest.raises(InvalidInput):
        client.datasets.export(copied, out=home / "new", **ask)
    assert taken.read_text() == "mine"
    assert not (home / "new").exists()
    assert len(client.grants.list()) == grants


def test_a_preview_is_escaped_for_people_and_whole_for_programs(
    copied: str, client: GatewayClient, typed: Typed
) -> None:
    said = typed("dataset", "preview", copied, *ASK).stdout
    assert "\x1b" not in said
    assert "secret" not in said
    told = json.loads(typed("dataset", "preview", copied, *ASK, "--rows", "4", "--json").stdout)
    assert told["schema"] == "dataset.preview/v0"
    assert len(told["items"]) == told["rows"] == 4
    shown = client.datasets.preview(copied, purpose="research", rows=3, columns=[ODD, "words"])
    assert pa.table(shown).schema.names == [ODD, "words"]
    assert "<td>" in shown._repr_html_()
    with pytest.raises(AccessDenied):
        client.datasets.preview(copied, purpose="research", columns=["secret"])


def test_a_plain_copy_has_every_row_name_and_type_and_registers_again(
    copied: str, client: GatewayClient, typed: Typed, home: Path
) -> None:
    out = home / f"plain-{copied[5:]}"
    typed("dataset", "export", copied, *ASK, "--out", out)
    manifest = json.loads((out / "manifest.json").read_text())
    files = [out / file["name"] for file in manifest["files"]]
    assert [hashlib.sha256(f.read_bytes()).hexdigest() for f in files] == [
        file["sha256"] for file in manifest["files"]
    ]
    assert {f.relative_to(out) for f in out.rglob("*") if f.is_file()} == {
        Path("manifest.json"), *(f.relative_to(out) for f in files)
    }  # fmt: skip
    assert (manifest["rows"], manifest["kind"]) == (ROWS, "plain")
    assert manifest["decision"].startswith("dec_")
    assert "\n\n— " in manifest["checkpoint"]
    rows = pa.concat_tables([pq.read_table(f) for f in files])
    assert sorted_rows(rows) == sorted_rows(ORIGINAL.select(GIVEN))
    assert rows.schema.types == ORIGINAL.select(GIVEN).schema.types
    again = f"{copied}-again"
    client.datasets.register(again, *files)
    columns = [word for column in GIVEN for word in ("--column", column)]
    new = ("policy", "new", again, "--to", "role:trainer", *ASK, *columns, "--push")
    typed(*new, "--allow", "export")
    client.datasets.export(again, out=home / f"{out.name}-again", purpose="research")
    twice = pa.concat_tables(
        [pq.read_table(f) for f in sorted((home / f"{out.name}-again/data").iterdir())]
    )
    for column in GIVEN:  # columns without missing values may have become NOT NULL
        assert twice[column].equals(rows[column])
    reads = {r.grant: r.rows for r in client.lineage.ask("who-read", dataset=copied)}
    assert reads[manifest["grant"]] == ROWS


def test_sealed_copies_are_read_by_stock_pyarrow_and_polars(
    copied: str, client: GatewayClient, typed: Typed, home: Path, tmp_path: Path
) -> None:
    out, path = home / "sealed", home / "sealed.keys"
    typed("dataset", "export", copied, *ASK, "--encrypted", "--keys-to", path, "--out", out)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    archive = shared(client, typed, "home/archive", profile="archive")
    packed, keys, _ = sealed(client, home, archive)
    for program, copy, given in (
        ("read_sealed_pyarrow.py", out, path),
        ("read_sealed_polars.py", out, path),
        ("read_sealed_pyarrow.py", packed, keys),
    ):
        assert [c["name"] for c in json.loads(given.read_text())["columns"]] == GIVEN
        target = tmp_path / "rows.arrow"
        done = stranger(program, given, copy, target)
        assert done.returncode == 0, done.stderr
        assert_original(pa.ipc.open_file(target.read_bytes()).read_all())


def assert_original(rows: Any) -> None:
    assert rows.schema.names == GIVEN
    assert sorted(rows["age"].to_pylist()) == sorted(ORIGINAL["age"].to_pylist())
    for column in ("age", ODD, "words", "list", "money"):
        assert sorted(map(str, rows[column].to_pylist())) == sorted(
            map(str, ORIGINAL[column].to_pylist())
        )
    places = [{"a": p["s0"], "b": {"c": p["s1"]["s0"]}} for p in rows["place"].to_pylist()]
    assert sorted(p["a"] for p in places) == list(range(ROWS))
    assert all(p["b"]["c"] == str(p["a"]) for p in places)


def test_what_was_not_approved_stays_sealed_for_strangers(
    copied: str, client: GatewayClient, home: Path, tmp_path: Path
) -> None:
    out, path, keys = sealed(client, home, copied, columns=["age"], split="test")
    assert all(set(file["column_keys"]) == {"f1"} for file in keys["files"])
    assert {file["split"] for file in keys["files"]} == {"test"}
    opened = stranger("read_sealed_pyarrow.py", path, out, tmp_path / "a.arrow")
    assert opened.returncode == 0, opened.stderr
    for program, physical in (("read_sealed_pyarrow.py", "f3"), ("read_sealed_polars.py", "f11")):
        refused = stranger(program, path, out, tmp_path / "b.arrow", physical)
        assert refused.returncode != 0
        assert "key" in refused.stderr.lower()
        assert not (tmp_path / "b.arrow").exists()
    assert b"secret 1" not in b"".join(f.read_bytes() for f in (out / "data").iterdir())


def test_a_release_of_keys_is_told_to_the_owner_and_outlives_its_grant(
    copied: str, client: GatewayClient, typed: Typed, home: Path
) -> None:
    _, _, keys = sealed(client, home, copied, columns=["age"])
    released = client.lineage.ask("keys-released", dataset=copied, column="age")
    (one,) = [r for r in released if r.grant == keys["export"]]
    assert (one.keys, one.rows) == (len(keys["keys"]), ROWS)
    ended = typed("grant", "revoke", keys["export"], "--reason", "over")
    assert "cannot be taken back" in ended.stdout
    path = f"/v1/exports/{keys['export']}/shards/0"
    with pytest.raises(AccessDenied):
        client.get(path)
    with pytest.raises(NotFound):
        client.get(path.replace("grant_", "grant_0"))
