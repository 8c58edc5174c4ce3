"""Every operation tells a stranger the same of another tenant's thing as of none at all."""

from __future__ import annotations

import json
import re
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pytest

from gateway.api import openapi
from gateway.api.app import ACTS
from gateway.client import GatewayClient
from gateway.errors import AccessDenied, UnknownName
from tests.cli.test_real_gateway import home, server, typed
from tests.tenancy.operations import (
    FORM,
    TABLE,
    Apart,
    Listing,
    Thing,
    exchange_of,
    target_of,
    things_of,
)
from tests.tenancy.world import SECRETS, Reply, World, made

__all__ = ["home", "server", "typed"]
RIVALS = ("rival", "rival/job")
PER_REQUEST = ("date", "request-id", "content-length", "location")
CASES = [(*place, row) for place, rows in TABLE.items() for row in rows]
# What every answer has of its own: ids, moments, the log as it had grown by then.
OWN = {"request_id", "decision", "id", "as_of_index", "checkpoint", "started_at", "state",
       "progress", "detail"}  # fmt: skip
MEASURED = re.compile(r"[A-Za-z0-9+/=:._-]{20,}|[0-9]+")


@pytest.fixture(scope="module")
def world(server: str, home: Path) -> Iterator[World]:
    found = made(server, home)
    yield found
    found.close()


def told(reply: Reply, it: str) -> tuple[Any, ...]:
    """All that an answer says, but for what is its own and the name that the asker sent."""
    text = reply.body.decode("utf-8", "replace")
    for given in (it, it.partition("/")[0], quote(it, safe="")):
        text = text.replace(given, "IT")
    said: Any = text
    if text.startswith("{"):
        said = {key: value for key, value in json.loads(text).items() if key not in OWN}
        said |= {"text": MEASURED.sub("", said["text"])} if "text" in said else {}
    headers = {k.lower(): v for k, v in reply.headers.items()}
    return reply.status, said, {k: v for k, v in headers.items() if k not in PER_REQUEST}


def test_every_operation_has_a_row_and_no_row_is_of_none() -> None:
    paths = openapi.document(ACTS)["paths"]
    assert {(m.upper(), path) for path, ms in paths.items() for m in ms} == set(TABLE)


# First of all, as long as no rival has asked for anything by its name.


def test_sql_sees_nothing_of_others(world: World) -> None:
    for view in ("decision", "lease", "release"):  # of all views: tests/lineage
        sql = {"sql": f"SELECT * FROM {view}"}  # noqa: S608 - our own names
        heard = world.callers["rival/job"].send("POST", "/v1/lineage/query", sql)
        assert heard.status == 200, heard.body
        assert not [word for word in SECRETS if word.encode() in heard.body], heard.body


OWNERS_OWN = {"rules", "answered_by_tag"}  # which rule spoke, and who of its people answered
CHANGING = {"closed_at", "closed_because"}  # the stream goes on
SHARED = ("read", "decision", "grant", "lease", "denial", "release", "request")


def seen(who: GatewayClient, until: int) -> dict[str, list[dict[str, Any]]]:
    """What birch did to alder's data, on that side; as Arrow the same as in JSON."""
    lists = (
        f"""(SELECT list(t ORDER BY t."index") FROM "{view}" t WHERE t."index" < {until}
        AND t.actor_tenant = 'birch' AND t.dataset LIKE 'alder/%') AS "{view}\""""  # noqa: S608
        for view in SHARED
    )
    sql = "SELECT " + ", ".join(lists)
    (found,) = who.lineage.query(sql)
    (exact,) = pa.table(who.lineage.query(sql, as_arrow=True)).to_pylist()
    assert {v: [r["index"] for r in rows] for v, rows in exact.items()} == {
        v: [r["index"] for r in rows] for v, rows in found.to_dict().items()
    }
    return dict(found.to_dict())


def test_both_sides_see_in_sql_what_one_did_to_the_others_data(world: World) -> None:
    owner, reader = world.people["alder"], world.people["birch/job"]
    with pytest.raises(AccessDenied):
        reader.tokens.request("alder/trees", purpose="marketing", columns=["zebra"])
    asked = reader.access.request(
        "alder/trees", purpose="health-research", columns=["zebra"], run="quokka-2", reason="walrus"
    )
    owner.access.approve(asked.id, valid="1d", reason="walrus")
    deadline = time.monotonic() + 60
    while not (reads := owner.lineage.query("SELECT subject_tag FROM read")):
        assert time.monotonic() < deadline  # what was handed over is confirmed soon
    here, there = (seen(who, reads.facts["as_of_index"]) for who in (owner, reader))
    for view in SHARED:
        assert here[view], view
        for one, other in zip(here[view], there[view], strict=True):
            assert without(one, CHANGING | OWNERS_OWN) == without(other, CHANGING | OWNERS_OWN)
            assert [other[name] for name in OWNERS_OWN if other.get(name) is not None] == []
    assert all(row["rules"] for row in here["read"])
    assert {bool(row["answered_by_tag"]) for row in here["request"]} == {True, False}
    assert {row.subject for row in reads} == {"birch/job"}


def without(row: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}


def test_neither_side_sees_in_sql_what_the_other_does_at_home(world: World) -> None:
    for here, there in (("alder", "birch"), ("birch", "alder")):
        counts = (
            f"""(SELECT count(*) FROM {view} WHERE tenant = '{whose}' OR actor_tenant = '{whose}')
            AS {view}_{whose}"""  # noqa: S608 - our own names
            for view in ("question", "policy", "tenant_change") for whose in (here, there)
        )  # fmt: skip
        (row,) = world.people[here].lineage.query(f"SELECT {', '.join(counts)}")
        assert row.to_dict().pop(f"question_{here}") > 0
        assert [row.to_dict()[f"{v}_{there}"] for v in ("question", "policy", "tenant_change")] == [
            0, 0, 0,
        ], here  # fmt: skip


def test_a_pack_about_a_thing_of_others_holds_nothing_of_it(world: World, home: Path) -> None:
    rival = world.people["rival/job"]
    with pytest.raises(UnknownName):
        rival.lineage.export(home / "none.zip", dataset=world.things["dataset"][0])
    rival.lineage.export(home / "pack.zip")
    with zipfile.ZipFile(home / "pack.zip") as pack:
        for name in pack.namelist():
            text = pack.read(name).replace(world.things["dataset"][0].encode(), b"")
            assert not [word for word in SECRETS if word.encode() in text], name


@pytest.mark.parametrize(
    ("method", "path", "row"),
    [case for case in CASES if isinstance(case[2], Thing)],
    ids=lambda value: value.of if isinstance(value, Thing) else str(value),
)
def test_a_thing_of_others_is_as_one_that_is_not_there(
    world: World, method: str, path: str, row: Thing
) -> None:
    real, ghosts = things_of(world, row)

    def ask(who: str, it: str) -> Reply:
        body = row.body(it) if row.body else None
        return world.callers[who].send(method, target_of(path, row, it), body, row.headers)

    for rival in RIVALS:
        heard = ask(rival, real)
        assert heard.status == row.status, heard.body
        for ghost in ghosts:
            assert told(ask(rival, ghost), ghost) == told(heard, real)
        sent = {word for word in SECRETS if word in real}
        leaked = [w for w in SECRETS if w not in sent and w.encode() in heard.body]
        assert not leaked, heard.body
    if row.is_silent:
        return
    control = ask(row.by, real)
    assert control.status < 500
    assert told(control, real) != told(heard, real), "nobody is told more: this proves nothing"


@pytest.mark.parametrize(
    ("method", "path", "row"),
    [case for case in CASES if isinstance(case[2], Listing)],
    ids=lambda value: "" if isinstance(value, Listing) else str(value),
)
def test_a_list_holds_nothing_of_others_whatever_it_is_filtered_by(
    world: World, method: str, path: str, row: Listing
) -> None:
    for rival in RIVALS:
        asked = [path]
        for key, kind in row.filters.items():
            asked += [f"{path}?{key}={quote(it, safe='')}" for it in world.things[kind]]
        for target in asked:
            heard = world.callers[rival].send(method, target)
            assert heard.status == 200, heard.body
            assert not [word for word in SECRETS if word.encode() in heard.body], heard.body
            if target != path:
                assert json.loads(heard.body)["items"] == []
    assert json.loads(world.callers[row.by].send(method, path).body)["items"]


@pytest.mark.parametrize("kind", ["dataset", "grant", "parent"])
def test_no_token_comes_of_a_thing_of_others(world: World, kind: str) -> None:
    real, *ghosts = world.things["grant" if kind == "parent" else kind]

    def ask(rival: str, it: str) -> tuple[Any, ...]:
        caller = world.callers[rival]
        detail = {kind: it, "purpose": "research"} if kind != "grant" else {kind: it}
        form = exchange_of(detail, caller.transport.api_token())
        return told(caller.send("POST", "/oauth/token", form, FORM), it)

    for rival in RIVALS:
        heard = ask(rival, real)
        assert heard[0] == 400
        assert [ask(rival, ghost) for ghost in ghosts] == [heard] * len(ghosts)


def test_what_names_no_thing_says_nothing_of_others(world: World) -> None:
    asked = {
        "GET": [
            "/v1/whoami",
            "/v1/lineage/questions",
            "/v1/lineage/checkpoint",
            "/v1/lineage/proofs/inclusion?index=5",
            "/v1/lineage/proofs/consistency?first=5",
            "/openapi.json",
        ]
    }
    apart = {place for place, rows in TABLE.items() if isinstance(rows[0], Apart)}
    assert apart
    for target in asked["GET"]:
        heard = world.callers["rival"].send("GET", target)
        assert not [word for word in SECRETS if word.encode() in heard.body], heard.body
