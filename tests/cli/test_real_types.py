"""Types, rows and columns as a trainer receives them from the real services."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from gateway.client import GatewayClient
from gateway.errors import GatewayError, InvalidInput, TooLarge
from gateway.shards.types import is_fixed_width, normal_schema
from tests.cli.test_real_gateway import Typed, client, home, server, typed
from tests.lineage.every_type import TYPES, selected
from tests.shards.kit import ipc_bytes
from tests.shards.test_types import ARRAYS

__all__ = ["client", "home", "server", "typed"]
HOW = {"purpose": "research", "batch_size": 2, "output": "arrow"}


def allow(typed: Typed, dataset: str, columns: str, *more: str) -> None:
    new = ("policy", "new", dataset, "--to", "role:trainer", "--purpose", "research")
    typed(*new, "--columns", columns, *more, "--push")


def table_of(client: GatewayClient, dataset: str, **how: Any) -> tuple[str, Any]:
    """The kind of the lease and all its rows."""
    with client.stream(dataset, **HOW, **how) as stream:
        return stream.manifest.kind, pa.Table.from_batches(list(stream)).combine_chunks()


@pytest.fixture(scope="module")
def every(client: GatewayClient, typed: Typed, home: Path) -> Any:
    """A dataset with a column of every type; returns what was registered, as it comes back."""
    fields = [
        pa.field(f"c{n}", array.type, metadata={"unit": f"u{n}", "valid_min": "0"})
        for n, array in enumerate(ARRAYS)
    ]
    table = pa.table(ARRAYS, pa.schema(fields))
    (home / "every.arrow").write_bytes(ipc_bytes(table))
    typed("dataset", "register", "home/every", home / "every.arrow", "--profile", "train")
    allow(typed, "home/every", ",".join(table.column_names))
    return table


def test_every_type_arrives_alike_by_pages_and_by_view(every: Any, client: GatewayClient) -> None:
    registered = normal_schema(every.schema)
    fixed = [f.name for f in registered if is_fixed_width(f.type)]
    kind, direct = table_of(client, "home/every", columns=fixed)
    assert (kind, len(fixed)) == ("direct", len(direct.column_names))
    kind, view = table_of(client, "home/every")
    assert kind == "view"
    assert direct.equals(view.select(fixed), check_metadata=True) or "nan" in str(direct)
    for field in registered:
        found = view.schema.field(field.name)
        assert (found.type, found.metadata) == (field.type, field.metadata)
    for name in fixed:
        here, there = (t.schema.field(name) for t in (direct, view))
        assert here.equals(there, check_metadata=True)
        assert here.metadata == {b"unit": f"u{name[1:]}".encode()}
        assert str(direct.column(name)) == str(view.column(name))  # NaN differs from itself


def test_arrays_are_alike_by_pages_and_by_view(every: Any, client: GatewayClient) -> None:
    registered = normal_schema(every.schema)
    fixed = [f.name for f in registered if is_fixed_width(f.type)]
    text = next(f.name for f in registered if pa.types.is_string(f.type))

    def arrays_of(columns: list[str]) -> tuple[str, Any]:
        ask = {"purpose": "research", "batch_size": 1000, "columns": columns}
        with client.stream("home/every", **ask) as stream:
            return stream.manifest.kind, next(stream)

    (direct, by_pages), (view, by_view) = arrays_of(fixed), arrays_of([*fixed, text])
    assert (direct, view) == ("direct", "view")
    for field in registered:
        if field.name in fixed:
            pages, found = by_pages[field.name], by_view[field.name]
            assert (pages.dtype, pages.shape) == (found.dtype, found.shape), field
            assert pages.tobytes() == found.tobytes(), field


def test_the_command_writes_every_type(every: Any, typed: Typed, home: Path) -> None:
    fixed = [f.name for f in normal_schema(every.schema) if is_fixed_width(f.type)]
    asked = ("home/every", "--purpose", "research", "--columns", ",".join(fixed))
    typed("stream", *asked, "--out", home / "rows.arrows")
    found = pa.ipc.open_stream((home / "rows.arrows").read_bytes()).read_all()
    assert found.num_rows == len(every)
    for field in normal_schema(every.select(fixed).schema):
        assert found.schema.field(field.name).type == field.type


def test_shuffled_rows_keep_types_and_stay_together(every: Any, client: GatewayClient) -> None:
    fixed = [f.name for f in normal_schema(every.schema) if is_fixed_width(f.type)]
    _, stored = table_of(client, "home/every", columns=fixed)
    _, view = table_of(client, "home/every", shuffle=True, seed=3)
    _, direct = table_of(client, "home/every", columns=fixed, shuffle=True, seed=3)
    assert direct.schema.equals(stored.schema, check_metadata=True)
    assert view.select(fixed).schema.equals(stored.schema, check_metadata=True)
    texts = [{str(row) for row in table.to_pylist()} for table in (stored, direct)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("columns", ["n", "n,text"])
def test_a_dataset_without_rows_is_a_stream_with_a_schema(
    columns: str, client: GatewayClient, typed: Typed, home: Path
) -> None:
    kind = pa.schema([("n", pa.time64("us")), ("text", pa.string())])
    dataset = f"home/empty-{len(columns)}"
    client.datasets.register(dataset, kind.empty_table())
    allow(typed, dataset, columns)
    typed("stream", dataset, "--purpose", "research", "--out", home / "none.arrows")
    found = pa.ipc.open_stream((home / "none.arrows").read_bytes()).read_all()
    assert (found.num_rows, found.column_names) == (0, columns.split(","))
    assert found.schema.types == kind.types[: len(found.column_names)]


def test_rows_are_filtered_by_a_column_that_is_never_sent(
    client: GatewayClient, typed: Typed
) -> None:
    ages = [17, 18, 40, 71, 5, 18]
    client.datasets.register("home/adults", pa.table({"age": ages, "n": range(6)}))
    allow(typed, "home/adults", "n", "--where", "age >= 18")
    _, found = table_of(client, "home/adults")
    assert found.column_names == ["n"]
    assert found.to_pydict() == {"n": [1, 2, 3, 5]}


QUERY = "/v1/lineage/query"
ARROW = "application/vnd.apache.arrow.stream"


def asked(client: GatewayClient) -> int:
    """How many statements are on record."""
    return len([q for q in client.lineage.ask("questions-asked") if q.question == "query"])


@pytest.mark.parametrize(
    ("sql", "error"),
    [
        ("SELECT * FROM read_text('/etc/passwd')", InvalidInput),
        ("SELECT 1::UHUGEINT AS n", InvalidInput),
        ("SELECT string_agg(range, ',') FROM range(3000000)", TooLarge),
    ],
    ids=lambda value: str(value)[:30],
)  # fmt: skip
def test_sql_is_refused_alike_as_arrow_and_as_json(
    client: GatewayClient, sql: str, error: type[GatewayError]
) -> None:
    said = []
    for as_arrow in (False, True):
        with pytest.raises(error) as refused:
            client.lineage.query(sql, as_arrow=as_arrow)  # type: ignore[call-overload]
        said.append((refused.value.message, refused.value.advice))
    assert said[0] == said[1]


def test_sql_answers_every_type_as_arrow_and_is_on_record(
    client: GatewayClient, typed: Typed, home: Path
) -> None:
    before = asked(client)
    answer = client.lineage.query(selected(*TYPES), as_arrow=True)
    assert asked(client) == before + 1
    found = {f.name: (str(f.type), pa.table(answer).column(f.name)[0].as_py())
             for f in pa.table(answer).schema}  # fmt: skip
    assert found == {name: (kind, value) for name, (_, kind, value, _) in TYPES.items()}
    assert (answer.facts["truncated"], answer.facts["witnessed"]) == (False, "none")
    said = typed("lineage", "query", selected(*TYPES), "--out", home / "types.arrows", "--json")
    kept = pa.ipc.open_stream((home / "types.arrows").read_bytes()).read_all()
    assert kept.equals(answer.table)
    assert (json.loads(said.stdout)["rows"], json.loads(said.stdout)["truncated"]) == (1, False)
    exact = [name for name, (*_, plain) in TYPES.items() if plain is not ...]
    (row,) = client.lineage.query(selected(*exact))
    assert row.to_dict() == {name: TYPES[name][3] for name in exact}


def test_a_whole_number_beyond_json_is_refused_with_both_ways_out(
    client: GatewayClient, typed: Typed
) -> None:
    refused = typed("lineage", "query", "SELECT hash(1) AS n", expect=2).stderr
    assert "column `n` holds" in refused
    assert "VARCHAR" in refused
    assert "--out FILE" in refused
    (row,) = client.lineage.query("SELECT hash(1)::VARCHAR AS n")
    (exact,) = client.lineage.query("SELECT hash(1) AS n", as_arrow=True).table.to_pylist()
    assert int(row.n) == exact["n"] > 2**53


def test_as_arrow_rows_are_cut_and_people_are_named_as_in_json(client: GatewayClient) -> None:
    cut = client.lineage.query("SELECT * FROM range(20000)", as_arrow=True)
    assert (len(cut), cut.facts["truncated"]) == (10_000, True)
    sql = "SELECT subject_tag, question, subject_tag AS said FROM question"
    (first, *_) = client.lineage.query(sql)
    table = client.lineage.query(sql, as_arrow=True).table
    assert table.column_names == ["subject", "question", "said"]
    assert set(table.column("subject").to_pylist()) == {first.subject} == {"home/me"}
    assert "home/me" not in table.column("said").to_pylist()


def test_arrow_comes_to_whom_accepts_it_and_json_to_everybody_else(client: GatewayClient) -> None:
    transport = client.transport
    body = {"sql": "SELECT 1 AS n"}
    for accept, kind in (("*/*", "application/json"), ("text/html", "application/json"),
                         (f"{ARROW}, */*;q=0.5", ARROW)):  # fmt: skip
        reply = transport.request("POST", QUERY, json=body, headers={"Accept": accept})
        assert (reply.headers["content-type"], reply.headers["vary"]) == (kind, "Accept")
    facts = json.loads(reply.headers["gateway-answer"])
    assert set(facts) == {"as_of_index", "truncated", "expired", "checkpoint"}
    once = {"Idempotency-Key": "k1", "Accept": ARROW}
    first, again = (transport.request("POST", QUERY, json=body, headers=once) for _ in range(2))
    assert (again.body, again.headers["gateway-answer"]) == (
        first.body, first.headers["gateway-answer"],
    )  # fmt: skip
    with pytest.raises(InvalidInput, match="Idempotency-Key"):
        transport.request("POST", QUERY, json=body, headers={"Idempotency-Key": "k1"})
