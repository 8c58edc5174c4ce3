"""Hostile files at a real gateway's door, and changed ones in its store: it says why, keeps on."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest

from gateway.client import GatewayClient
from gateway.errors import IntegrityError
from tests.cli.test_real_gateway import Typed, client, home, server, typed
from tests.crashes.place import files
from tests.shards import forge

__all__ = ["client", "home", "server", "typed"]
SECONDS_MAX = 120  # for all of them, on a machine that does other things, too
GOOD = pa.table({"n": range(100), "t": [f"text {n}" for n in range(100)]})


def parquet(table: Any, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


class OthersKeys(pe.KmsClient):  # type: ignore[misc]
    """A key service that is not ours; pyarrow wants the wrapped key as text."""

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> bytes:
        del master_key_identifier
        return key_bytes.hex().encode()


def encrypted_by_others() -> bytes:
    factory = pe.CryptoFactory(lambda _: OthersKeys())
    keys = pe.EncryptionConfiguration(footer_key="theirs", column_keys={"theirs": ["n", "t"]})
    properties = factory.file_encryption_properties(pe.KmsConnectionConfig(), keys)
    return parquet(GOOD, encryption_properties=properties)


def named(*names: str) -> bytes:
    return parquet(pa.Table.from_arrays([pa.array([1])] * len(names), names=list(names)))


WIDE = (",".join(f"c{n}" for n in range(50_000)) + "\n").encode()
HOSTILE: dict[str, tuple[str, bytes, str]] = {  # name of the file, its bytes, what is said of it
    "a bomb": ("a.parquet", forge.repeated(b"x" * 50, 2_000_000_000), "expands"),
    "cut off": ("cut.parquet", parquet(GOOD)[:-100], ""),
    "50,000 columns": ("wide.csv", WIDE, "columns"),
    "confusable names": ("n.parquet", named("age", "\u0430ge"), "look alike"),
    "a program": ("rows.csv", b"\x7fELF\x02\x01\x01\0" + bytes(5000), ""),
    "encrypted by others": ("sealed.parquet", encrypted_by_others(), "encrypted"),
}  # fmt: skip


def opened(client: GatewayClient, dataset: str, name: str, content: bytes) -> str:
    """A registration with all of its one file; its path."""
    body = {"dataset": dataset, "files": [{"name": name, "bytes": len(content)}]}
    path = f"/v1/registrations/{client.post('/v1/registrations', body)['id']}"
    client.transport.request("PUT", f"{path}/parts/0", query={"file": 0}, body=content)
    return path


def ended(client: GatewayClient, operation: str, deadline: float) -> dict[str, Any]:
    while (found := client.get(f"/v1/operations/{operation}"))["state"] == "running":
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return dict(found)


@pytest.fixture(scope="module")
def kept(client: GatewayClient, home: Path) -> set[str]:
    """What is stored when one sound dataset is registered and nothing else was tried."""
    client.datasets.register("home/good", GOOD)
    return stored(home)


def stored(home: Path) -> set[str]:
    """Parts, staging, objects, key sheets, views: all but the journal and what derives from it."""
    state = home / "state/dataset-gateway"
    places = ("parts", "staging", "objects", "vault", "views")
    assert all((state / place).is_dir() for place in places)
    return {f"{place}/{name}" for place in places for name in files(state / place)}


def test_hostile_files_are_refused_with_advice_and_leave_nothing(
    client: GatewayClient, home: Path, kept: set[str]
) -> None:
    deadline = time.monotonic() + SECONDS_MAX
    paths = {
        what: opened(client, f"home/bad-{n}", name, content)
        for n, (what, (name, content, _)) in enumerate(HOSTILE.items())
    }
    begun = {what: client.post(f"{path}/commit")["id"] for what, path in paths.items()}
    for what, operation in begun.items():
        found = ended(client, operation, deadline)
        problem = found["problem"]
        assert (found["state"], problem["status"]) == ("failed", 422), (what, found)
        assert problem["type"] == "/docs/reference/errors.md#source-refused"
        assert problem["advice"]
        assert found["result"] is None
        assert HOSTILE[what][2] in problem["detail"], (what, problem)
    assert stored(home) == kept
    assert {dataset.dataset for dataset in client.datasets.list()} == {"home/good"}
    for path in paths.values():  # over: neither open nor a version
        assert answer(client, "GET", path)[0] == 404
    assert client.get("/readyz")["ready"]
    client.datasets.register("home/bad-0", GOOD)
    assert client.datasets.show("home/bad-0").rows == GOOD.num_rows


def answer(client: GatewayClient, method: str, path: str) -> tuple[int, str, dict[str, Any]]:
    """Status, media type and document of one request, as it comes over the wire."""
    transport = client.transport

    def proved() -> dict[str, str]:
        token = transport.api_token()
        proof = transport.proof(method, transport.server + path, token)
        return {"Authorization": f"DPoP {token}", "DPoP": proof}

    reply = transport._once(method, path, b"" if method == "POST" else None, proved)
    return reply.status, reply.headers["content-type"], json.loads(reply.body)


def test_a_file_that_did_not_arrive_whole_is_a_problem_at_the_door(client: GatewayClient) -> None:
    body = {"dataset": "home/half", "files": [{"name": "a.csv", "bytes": 100}]}
    path = f"/v1/registrations/{client.post('/v1/registrations', body)['id']}"
    client.transport.request("PUT", f"{path}/parts/0", query={"file": 0}, body=b"a,b\n1,2\n")
    status, kind, problem = answer(client, "POST", f"{path}/commit")
    assert (status, kind) == (422, "application/problem+json")
    assert problem["type"] == "/docs/reference/errors.md#invalid-input"
    assert "8 of 100 bytes" in problem["detail"]
    assert "send the missing parts" in problem["advice"]
    client.transport.request("DELETE", path)
    assert answer(client, "GET", path)[0] == 404


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


CHANGES = {
    "a manifest changed by a bit": ("manifests", ".json", flipped),
    "a manifest that is gone": ("manifests", ".json", Path.unlink),
    "a block table changed by a bit": ("shards", ".blocks", flipped),
    "a shard that was cut": ("shards", ".parquet", cut),
    "a shard that is gone": ("shards", ".parquet", Path.unlink),
}


@pytest.fixture(scope="module", params=["pages", "view"])
def streamed(
    request: pytest.FixtureRequest, client: GatewayClient, typed: Typed, home: Path
) -> tuple[str, set[Path]]:
    """A dataset that streams from its pages, or through a view; and its stored objects."""
    name, before = f"home/{request.param}", objects(home)
    table = pa.table({"n": range(1000)}) if request.param == "pages" else GOOD
    client.datasets.register(name, table)
    new = ("policy", "new", name, "--to", "role:trainer", "--purpose", "research")
    typed(*new, "--columns", ",".join(table.column_names), "--push")
    return name, objects(home) - before


def objects(home: Path) -> set[Path]:
    return {p for p in (home / "state/dataset-gateway/objects").rglob("*") if p.is_file()}


def test_a_changed_object_reaches_a_trainer_as_what_it_is(
    streamed: tuple[str, set[Path]], client: GatewayClient
) -> None:
    name, stored_ = streamed
    for what, (place, ending, change) in CHANGES.items():
        if (name, ending) == ("home/view", ".blocks"):
            continue  # whole shards are decoded: nobody reads their tables
        (path,) = [p for p in stored_ if p.parent.name == place and p.suffix == ending]
        content = path.read_bytes()
        path.chmod(0o600)
        change(path)
        with pytest.raises(IntegrityError, match=f"stored of `{name}@1` is not what") as refusal:
            list(client.stream(name, purpose="research", batch_size=100))
        path.write_bytes(content)
        assert refusal.value.status == 502, what
        assert "tell `home`, its owner" in refusal.value.advice
        explained = client.policies.explain(refusal.value.decision)
        assert [r["code"] for r in explained.decision["reasons"]] == ["integrity"], what
    rows = sum(len(batch["n"]) for batch in client.stream(name, purpose="research", batch_size=100))
    assert rows == client.datasets.show(name).rows
