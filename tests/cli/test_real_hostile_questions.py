"""Hostile questions at a real gateway's door: each is refused by name, none is an accident."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from gateway.client import GatewayClient
from gateway.errors import GatewayError, InvalidInput, NotFound, TooLarge, UnknownName
from tests.cli.test_real_gateway import Typed, client, dataset, home, server, typed

__all__ = ["client", "dataset", "home", "server", "typed"]
HERE = "/v1/lineage"
NO_NAMES = (5, True, ["x"], {"x": 1}, "", "\0", "x" * 5000)
PLACES = ("", "x", "..", "a\nb", "\0", "run:", "run:(", "model:", "job:" + ":" * 900, "column:",
          "dataset::", "version:x", ":", "x" * 5000)  # fmt: skip


Asked = tuple[str, str, Any, dict[str, Any]]


def refused(client: GatewayClient, asked: Asked) -> str:
    """The code of the refusal; empty when it was answered."""
    method, path, body, query = asked
    try:
        client.transport.request(method, path, json=body, query=query)
    except GatewayError as error:
        return error.code if error.message and error.advice else f"unadvised {asked}"
    return ""


def questions() -> Iterator[Asked]:
    names = ("dataset", "column", "subject", "purpose", "run", "tenant", "since", "limit")
    for name, value in product(names, NO_NAMES):
        yield "POST", f"{HERE}/questions/who-read", {"parameters": {name: value}}, {}
    for value in NO_NAMES:
        given = {"purpose": value, "tenant": value}
        yield "POST", f"{HERE}/reports/art30", {"parameters": given}, {}
    of = {"provenance-of-model": "model", "tokens-of-grant": "grant", "place-of-event": "id"}
    for name, value in product(of, ({}, ["x"], 5)):
        yield "POST", f"{HERE}/questions/{name}", {"parameters": {of[name]: value}}, {}
    for given in ({"since": 5}, {"until": "x"}, {"dataset": []}, {"tenant": "A"}):
        yield "POST", f"{HERE}/evidence", given, {}


def places() -> Iterator[Asked]:
    for path, place in product(("/api/v1/lineage", "/api/v1/column-lineage"), PLACES):
        yield "GET", path, None, {"nodeId": place}
    proofs = (("inclusion", "index"), ("consistency", "first"), ("chain", "since"))
    for (proof, name), number in product(proofs, ("-1", "x", "1.0", "", "٣", str(10**20))):
        yield "GET", f"{HERE}/proofs/{proof}", None, {name: number}


def test_no_hostile_question_is_an_accident(client: GatewayClient, dataset: str) -> None:
    codes = {refused(client, asked) for asked in (*questions(), *places())}
    assert codes - {""} == {"invalid-input", "unknown-name"}


@pytest.mark.parametrize(
    ("sql", "first"),
    [
        ("SELECT {'a': 1} AS subject_tag", {"a": 1}),
        ("SELECT [[1]] AS subject_tags", [[1]]),
        ("SELECT [{'a': 'b'}] AS subject_tags", [{"a": "b"}]),
        ("SELECT 5 AS subject_tag", 5),
        ("SELECT NULL AS actor", None),
    ],
)
def test_what_an_auditors_sql_calls_a_subject_need_not_be_one(
    client: GatewayClient, sql: str, first: Any
) -> None:
    (row,) = client.lineage.query(sql)
    assert list(row.to_dict().values()) == [first]


def test_sql_that_is_no_select_is_told_which_views_there_are(client: GatewayClient) -> None:
    with pytest.raises(InvalidInput) as refused_:
        client.lineage.query("DROP TABLE read")
    assert "claim_edge" in refused_.value.advice


@pytest.mark.parametrize(
    ("flag", "content", "said"),
    [
        ("--since", None, "there is no file"),
        ("--log-key", None, "there is no file"),
        ("--witness-key", None, "there is no file"),
        ("--log-key", "two\nlines\n", "not one verifier key"),
        ("--since", "no note\n", "signed it"),
    ],
)
def test_what_a_log_is_verified_with_is_read_or_refused_by_name(
    client: GatewayClient, typed: Typed, home: Path, flag: str, content: str | None, said: str
) -> None:
    path = home / "given.txt"
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_text(content)
    done = typed("lineage", "verify", flag, path, expect=1 if "signed" in said else 2)
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_period_that_ends_before_it_begins_is_no_question(
    client: GatewayClient, typed: Typed, dataset: str
) -> None:
    period = ("--since", "2027-01-01", "--until", "2026-01-01")
    said = typed("lineage", "ask", "who-read", *period, expect=2)
    assert "`until` is before `since`" in said.stderr
    typed("lineage", "report", "art30", *period, expect=2)
    with pytest.raises(InvalidInput, match="`as_of` is before `since`"):
        client.lineage.ask("who-read", since="2027-01-01", as_of="2026-01-01")


def test_a_name_too_long_for_a_url_is_refused_by_the_gateway_and_not_by_nobody(
    client: GatewayClient, typed: Typed
) -> None:
    said = typed("lineage", "trace", "run:" + "x" * 100_000, expect=2)
    assert said.stderr.count("\n") == 1
    with pytest.raises((InvalidInput, TooLarge), match=r"head|HTTP request"):
        client.lineage.ask("x" * 40_000)


def test_a_pack_of_a_version_that_is_not_there_is_not_made(
    client: GatewayClient, typed: Typed, dataset: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    out = tmp_path_factory.mktemp("packs") / "pack.zip"
    with pytest.raises(UnknownName, match="version"):
        client.lineage.export(out, dataset=f"{dataset}@7")
    client.lineage.export(out, dataset=f"{dataset}@1")
    assert out.stat().st_size > 0


def test_whoever_runs_it_sees_how_far_lineage_is_behind(client: GatewayClient) -> None:
    checks = json.loads(client.transport.request("GET", "/readyz").body)["checks"]
    assert "events behind" in checks["lineage"]["detail"]
    assert checks["lineage"]["ok"] is True


@pytest.mark.parametrize(
    "words",
    [
        ("ask", "\udcff"),
        ("ask", "who-read", "--column", "\udcff"),
        ("ask", "who-read", "--param", "\udcff=1"),
        ("query", "SELECT '\udcff'"),
        ("trace", "run:\udcff"),
        ("trace", "home/mine", "--column", "\udcff"),
        ("report", "\udcff"),
    ],
)
def test_bytes_that_are_no_text_are_refused_and_never_sent(
    client: GatewayClient, typed: Typed, words: tuple[str, ...]
) -> None:
    said = typed("lineage", *words, expect=2)
    assert said.stderr == "gateway: what was given is not Unicode text; write it in UTF-8\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("trace", "column:home/mine:age"), "--column NAME"),
        (("trace", "nonsense"), "`run:NAME`"),
        (("trace", "model:"), "`model:NAME`"),
        (("verify", "--event", "999999999"), "none is number 999999999"),
        (("verify", "--event", str(10**30)), "none is number"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_can(
    client: GatewayClient, typed: Typed, words: tuple[str, ...], said: str
) -> None:
    done = typed("lineage", *words, expect=2)
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_tenant_that_is_not_seen_is_named_so(client: GatewayClient, typed: Typed) -> None:
    said = typed("lineage", "ask", "who-read", "--tenant", "nobody", expect=4)
    assert "nothing of the names in the request that you may see" in said.stderr
    with pytest.raises(NotFound):
        client.lineage.report("usage", tenant="nobody")


def test_an_event_of_a_time_that_the_log_cannot_hold_is_refused_by_its_field(
    client: GatewayClient,
) -> None:
    event = {
        "eventTime": "9999-12-31T23:59:59Z",
        "eventType": "START",
        "producer": "https://example.org",
        "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent",
        "run": {"runId": "0190b7b8-0000-7000-8000-000000000001"},
        "job": {"namespace": "n", "name": "j"},
    }
    with pytest.raises(InvalidInput, match="eventTime"):
        client.transport.request(
            "POST", "/api/v1/lineage", body=json.dumps(event).encode(),
            headers={"Content-Type": "application/json"},
        )  # fmt: skip
