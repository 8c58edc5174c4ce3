"""Types, rows and columns as a trainer receives them from the real services."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from gateway.client import GatewayClient
from gateway.shards.types import is_fixed_width, normal_schema
from tests.cli.test_real_gateway import Typed, client, home, server, typed
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
