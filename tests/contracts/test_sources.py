"""What a source gives for upload: one suite for files, tables, databases and buckets.

Each plug runs against the thing itself: a SQLite file, a PostgreSQL server, S3 as moto serves it.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from gateway.client.sources import files_of, parts_of
from gateway.errors import ConnectorError, GatewayError, InvalidInput
from tests.contracts.databases import PASSWORD, Postgres, postgres
from tests.contracts.machines import AWS, Moto

ROWS = 50_000


def read(source: Any, query: str | None = None, part_bytes: int = 100_000) -> list[bytes]:
    (file,) = files_of([source], query)
    with file.open() as opened:
        return list(parts_of(opened, part_bytes))


def table_of(source: Any, query: str | None = None) -> Any:
    return pa.ipc.open_stream(b"".join(read(source, query))).read_all()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "a file.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE visit (patient INT, note TEXT)")
        rows = ((n, None if n % 3 else f"note {n}") for n in range(ROWS))
        connection.executemany("INSERT INTO visit VALUES (?, ?)", rows)
    connection.close()
    return path


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as running:
        running.psql(
            "CREATE TABLE visit AS SELECT n::int AS patient, 'note ' || n AS note,"
            " n / 2.0::float8 AS dose, now()::timestamptz AS at,"
            " ARRAY[n, n + 1] AS pair FROM generate_series(1, 50000) AS n"
        )
        yield running


@pytest.fixture
def pgpass(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> Postgres:
    monkeypatch.setenv("PGPASSFILE", str(server.passfile))
    monkeypatch.delenv("PGPASSWORD", raising=False)
    return server


@pytest.fixture
def bucket(moto: Moto, monkeypatch: pytest.MonkeyPatch) -> Any:
    import boto3

    for name, value in {**AWS, "AWS_ENDPOINT_URL": moto.url, "AWS_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    moto.reset()
    client = boto3.client("s3", endpoint_url=moto.url, region_name="us-east-1")
    client.create_bucket(Bucket="clinic")
    yield client
    client.close()


@pytest.mark.parametrize(
    ("source", "query", "text"),
    [
        ("nowhere.csv", None, "cannot be read"),
        ("no/such/*.csv", None, "matches no file"),
        (7, None, "a int is not a source"),
        ("nowhere.csv", "SELECT 1", "a query needs a database"),
        ("sqlite:///nowhere.db", "SELECT 1", "no SQLite file `nowhere.db`"),
        ("postgresql://owner@host/db", None, "which rows"),
        ("postgresql://owner:secret@host/db", "SELECT 1", "holds a password"),
        ("postgresql://owner@host/db?password=secret", "SELECT 1", "holds a password"),
        ("s3://AKIA:secret@clinic/x", None, "credentials come from the environment"),
        ("s3://clinic/x", "SELECT 1", "answers no query"),
        ("gopher://clinic/x", None, "0 plugs answer to `gopher`"),
    ],
)
def test_what_is_no_source_is_refused_with_advice(source: Any, query: str, text: str) -> None:
    with pytest.raises(GatewayError) as refused:
        files_of([source], query)
    assert text in f"{refused.value.message}; {refused.value.advice}"
    assert "secret" not in refused.value.message


def test_a_directory_gives_its_data_files_in_order_with_their_partitions(tmp_path: Path) -> None:
    for name in ("b=2/x.csv", "b=1/y%20.csv", "b=1/_SUCCESS", ".hidden/z.csv", "_log/0.json"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("a\n1\n")
    found = files_of([tmp_path])
    assert [(f.name, f.bytes, dict(f.partition)) for f in found] == [
        ("b=1/y%20.csv", 4, {"b": "1"}),
        ("b=2/x.csv", 4, {"b": "2"}),
    ]
    matching = files_of([f"{tmp_path}/b=*/[xy]*.csv"])
    assert [dict(f.partition) for f in matching] == [{"b": "1"}, {"b": "2"}]
    assert [dict(f.partition) for f in files_of([f"{tmp_path}/b=1/*.csv"])] == [{}]
    with pytest.raises(InvalidInput, match="matches no file"):
        files_of([tmp_path / ".hidden" / "..", tmp_path / "_log" / ".." / "_log" / "none*"])


def test_a_file_goes_byte_by_byte_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(bytes(range(256)) * 1000)
    assert [len(part) for part in read(path)] == [100_000, 100_000, 56_000]
    assert b"".join(read(path)) == path.read_bytes()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_a_large_file_is_never_whole_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "sparse.bin"
    with path.open("wb") as file:
        file.truncate(1 << 29)
    program = (
        "import re, sys\nfrom gateway.client.sources import files_of, parts_of\n"
        "(file,) = files_of([sys.argv[1]])\n"
        "with file.open() as opened: size = sum(map(len, parts_of(opened, 64 << 20)))\n"
        # Not ru_maxrss: over exec it keeps what the starter of this process once had.
        "print(size, re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"
    )
    command = [sys.executable, "-c", program, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    size, resident = map(int, done.stdout.split())
    assert size == 1 << 29
    assert resident * 1024 < 330 << 20


def test_a_table_goes_in_messages_of_bounded_size() -> None:
    table = pa.table({"a": pa.array(range(3_000_000), pa.int64())})
    made = table_of(table)
    assert made.equals(table)
    assert max(chunk.nbytes for chunk in made.column("a").chunks) <= 8 << 20


def test_the_rows_of_a_query_come_as_arrow_from_sqlite(database: Path) -> None:
    table = table_of(f"sqlite:///{database}", "SELECT * FROM visit ORDER BY patient")
    assert table.num_rows == ROWS
    assert table.slice(3, 2).to_pylist() == [
        {"patient": 3, "note": "note 3"},
        {"patient": 4, "note": None},
    ]


def test_a_query_that_fails_or_writes_is_told(database: Path, pgpass: Postgres) -> None:
    for uri in (f"sqlite:///{database}", pgpass.uri):
        for query in ("SELEC 1", "DELETE FROM visit", "SELECT nothing FROM visit"):
            with pytest.raises(InvalidInput, match="the query failed"):
                read(uri, query)
        table = table_of(uri, "SELECT count(*) AS n FROM visit")
        assert table.to_pylist() == [{"n": ROWS}]
    with pytest.raises(InvalidInput, match="the query failed"):  # in the middle of the rows
        read(pgpass.uri, "SELECT 1 / (50000 - patient) FROM visit ORDER BY patient")
    mixed = "SELECT CASE WHEN patient < 40000 THEN patient ELSE 'x' END FROM visit"
    with pytest.raises(InvalidInput, match=r"query failed.*[Tt]ype"):
        read(f"sqlite:///{database}", mixed)


def test_the_rows_of_a_query_come_as_arrow_from_postgresql(pgpass: Postgres) -> None:
    table = table_of(pgpass.uri, "SELECT * FROM visit ORDER BY patient")
    assert table.num_rows == ROWS
    assert [str(f.type) for f in table.schema][:4] == [
        "int32", "string", "double", "timestamp[us, tz=UTC]"
    ]  # fmt: skip
    assert table.slice(1, 1).select(["patient", "note", "dose", "pair"]).to_pylist() == [
        {"patient": 2, "note": "note 2", "dose": 1.0, "pair": [2, 3]}
    ]


def test_postgresql_refuses_who_has_no_password(
    server: Postgres, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))
    with pytest.raises(ConnectorError, match="cannot be opened") as refused:
        read(server.uri, "SELECT 1")
    assert PASSWORD not in str(refused.value)
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    assert table_of(server.uri, "SELECT 1 AS one").to_pylist() == [{"one": 1}]


def test_a_bucket_gives_one_object_or_all_below_a_prefix(bucket: Any) -> None:
    for key in ("d/year=2024/b.csv", "d/year=2023/a.csv", "d/_SUCCESS", "other.csv"):
        bucket.put_object(Bucket="clinic", Key=key, Body=b"x\n" * 60_000)
    found = files_of(["s3://clinic/d/"])
    assert [(f.name, f.bytes, dict(f.partition)) for f in found] == [
        ("year=2023/a.csv", 120_000, {"year": "2023"}),
        ("year=2024/b.csv", 120_000, {"year": "2024"}),
    ]
    assert b"".join(read("s3://clinic/other.csv")) == b"x\n" * 60_000
    with pytest.raises(InvalidInput, match="no object below"):
        files_of(["s3://clinic/none/"])
    with pytest.raises(InvalidInput, match="no object below"):
        files_of(["s3://nobucket/none"])


def test_a_missing_library_is_one_line_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "adbc_driver_manager", None)
    with pytest.raises(ConnectorError) as refused:
        read("postgresql://owner@host/db", "SELECT 1")
    assert refused.value.advice == "pip install 'dataset-gateway[sources]'"
