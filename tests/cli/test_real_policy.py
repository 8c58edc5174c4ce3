"""Rules as their owner writes, tries and publishes them, against streams that run meanwhile."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from gateway.cli.main import run
from gateway.client import GatewayClient, PlanChanged
from gateway.errors import AccessDenied, GatewayError, LeaseExpired, LimitExceeded, NotFound
from tests.cli.test_real_gateway import Typed, client, home, server, typed
from tests.policy.hostile import HOSTILE

__all__ = ["client", "home", "server", "typed"]
SERVE_FLAGS = ("--policies", "{home}/watched")
ROWS = 100_000
HOW = {"batch_size": 1000, "window_blocks": 1, "seed": 7, "shuffle": True}


def rule(name: str, purpose: str, more: str = "", columns: str = "[n]") -> str:
    return (
        f"  - id: home.numbers.{name}\n    kind: allow\n    principals: [home/role:trainer]\n"
        "    scope: dataset:home/numbers\n    actions: [stream]\n"
        f"    purpose: [{purpose}]\n    columns: {columns}\n{more}"
    )


@pytest.fixture(scope="module")
def here(server: str, typed: Typed) -> Iterator[Typed]:
    """`typed` in this process: a tenth of the time; the server is another one all the same."""

    def in_process(*words: str | Path, expect: int = 0) -> subprocess.CompletedProcess[str]:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = run([str(word) for word in words])
        assert code == expect, out.getvalue() + err.getvalue()
        return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())

    with pytest.MonkeyPatch.context() as patched:
        for name, value in typed.environment.items():  # type: ignore[attr-defined]
            patched.setenv(name, value)
        yield in_process


@pytest.fixture(scope="module")
def numbers(client: GatewayClient) -> str:
    table = pa.table({"n": np.arange(ROWS), "m": np.arange(ROWS)})
    client.datasets.register("home/numbers", table)
    return "home/numbers"


@pytest.fixture(scope="module")
def rules(numbers: str, here: Typed, home: Path) -> Path:
    """The directory that the owner works in, pulled once; what it holds is in force."""
    here("policy", "pull", home / "rules")
    return home / "rules"


def put(client: GatewayClient, rules: Path, *texts: str) -> str:
    """Publish these beside the tenant's roles; the hash of what is in force then."""
    (rules / "numbers.yaml").write_text("format: gateway-policy/v0\nrules:\n" + "".join(texts))
    return str(client.policies.push(rules).hash)


def rows_until(client: GatewayClient, error: type[GatewayError], **ask: object) -> int:
    """Rows that a stream gave before it ended with this error."""
    got: list[int] = []
    with pytest.raises(error):
        got.extend(len(b["n"]) for b in client.stream("home/numbers", **{**HOW, **ask}))
    return sum(got)


def test_a_written_rule_passes_its_test_is_pushed_and_releases_what_it_says(
    client: GatewayClient, here: Typed, home: Path
) -> None:
    people = pa.table(
        {
            "age": [41, 17, 30],
            "born": [date(1985, 5, 4), date(2009, 1, 2), date(1996, 7, 8)],
            "site": ["north", "north", "south"],
        }
    )
    client.datasets.register("home/people", people)
    wish = ("--allow", "stream", "--to", "home/role:trainer", "--purpose", "health-research",
            "--columns", "age,born", "--mask", "born=truncate-to-year",
            "--where", "site = 'north' and age >= 18", "--valid", "90d")  # fmt: skip
    new = ("policy", "new", "home/people", *wish, "--dir", home / "home", "--json")
    written = json.loads(here(*new).stdout)
    assert written["sentence"] == (
        "`home/role:trainer` may stream `dataset:home/people` for health-research: columns age, "
        'born (truncate-to-year); rows where "site" == \'north\' and "age" >= 18; '
        "each grant ends after 90 days"
    )
    tested = json.loads(here("policy", "test", home / "home", "--json").stdout)
    assert tested["coverage"]["cases"][written["rule"]] > 0
    tried = here("policy", "push", home / "home", "--dry-run").stdout
    assert "newly-allowed: home/role:trainer stream home/people for health-research" in tried
    here("policy", "push", home / "home")
    (batch,) = client.stream("home/people", purpose="health-research", batch_size=10)
    assert batch["age"].tolist() == [41]
    assert str(batch["born"].astype("datetime64[D]")[0]) == "1985-01-01"
    with pytest.raises(AccessDenied):
        client.tokens.request("home/people", purpose="marketing")
    then = datetime.now(UTC).isoformat()
    who = ("policy", "who", "home/people", "--column", "age", "--as-of", then)
    (entry,) = csv.DictReader(io.StringIO(here(*who, "--csv").stdout))
    assert (entry["rule"], entry["access"]) == (written["rule"], "raw")
    assert entry["last_used"]
    with pytest.raises(NotFound, match="nothing of the names in the request that you may see"):
        client.policies.who("home/people", as_of="2001-01-01")


def test_what_a_running_stream_may_follows_the_rules_that_are_pushed_meanwhile(
    client: GatewayClient, rules: Path
) -> None:
    put(client, rules, rule("open", "research"))
    stream = iter(held := client.stream("home/numbers", purpose="research", **HOW))
    got = [next(stream)["n"]]
    put(client, rules, rule("open", "research"), rule("other", "marketing"))
    got += [next(stream)["n"] for _ in range(30)]  # judged again, and as before
    put(client, rules, rule("open", "research", "    masks: {n: 'x-bucket:10'}\n"))
    with pytest.raises(PlanChanged) as stop:
        got.extend(batch["n"] for batch in stream)
    held.close()
    seen = np.concatenate(got)
    assert len(np.unique(seen)) == len(seen) < ROWS  # nothing masked among it
    assert stop.value.advice
    again = client.stream("home/numbers", purpose="research", **HOW)
    assert np.all(next(iter(again))["n"] % 10 == 0)
    again.close()


def test_every_limit_of_a_rule_ends_the_stream_that_reaches_it(
    client: GatewayClient, here: Typed, rules: Path
) -> None:
    soon = datetime.fromtimestamp(time.time() + 4, UTC).isoformat()
    put(
        client,
        rules,
        rule("rows", "safety", "    limits: {max_rows: 20000}\n"),
        rule("bytes", "analytics", "    limits: {max_bytes: 160KiB}\n"),
        rule("epochs", "audit", "    limits: {max_epochs: 1}\n"),
        rule("ends", "marketing", f"    expires: {soon}\n"),
    )
    ahead = ("access", "check", "home/numbers", "--at", "2099-01-01", "--purpose")
    assert "n" in here(*ahead, "safety").stdout
    assert "no rule" in here(*ahead, "marketing", expect=3).stdout
    slow = client.stream("home/numbers", purpose="marketing", **HOW)
    got = [len(next(iter(slow))["n"])]
    assert 0 < rows_until(client, LimitExceeded, purpose="safety") <= 20_000
    assert 0 < rows_until(client, LimitExceeded, purpose="analytics") <= (160 << 10) // 8
    once = {**HOW, "purpose": "audit", "run": "once"}  # every stream of a run has one Grant
    assert sum(len(batch["n"]) for batch in client.stream("home/numbers", **once)) == ROWS
    assert rows_until(client, LimitExceeded, **{**once, "seed": 8}) == 0
    time.sleep(max(0.0, datetime.fromisoformat(soon).timestamp() - time.time()))
    with pytest.raises((LeaseExpired, PlanChanged)):
        got.extend(len(batch["n"]) for batch in slow)
    assert 0 < sum(got) < ROWS
    with pytest.raises(AccessDenied):
        client.tokens.request("home/numbers", purpose="marketing")


def test_what_is_owed_is_listed_and_fulfilled_with_a_file(
    client: GatewayClient, here: Typed, rules: Path, home: Path
) -> None:
    put(client, rules, rule("owed", "research", "    obligations: {delete_after: P30D}\n"))
    next(iter(stream := client.stream("home/numbers", purpose="research", **HOW)))
    stream.close()
    (owed,) = json.loads(here("obligation", "list", "--json").stdout)["items"]
    assert (owed["name"], owed["state"]) == ("delete_after", "running")
    assert here("obligation", "list", "--overdue").stdout == "nothing\n"
    here("obligation", "fulfil", owed["id"], "--evidence", home / "absent.txt", expect=1)
    (home / "deleted.txt").write_text("all of it, on 2026-12-01")
    here("obligation", "fulfil", owed["id"], "--evidence", home / "deleted.txt")
    (done,) = json.loads(here("obligation", "list", "--json").stdout)["items"]
    assert done["state"] == "fulfilled"


def test_rules_that_somebody_else_published_since_are_not_overwritten(
    client: GatewayClient, here: Typed, rules: Path, home: Path
) -> None:
    here("policy", "pull", home / "mine")
    put(client, rules, rule("theirs", "research"))
    (home / "mine/extra.yaml").write_text(
        "format: gateway-policy/v0\nrules:\n" + rule("mine", "research")
    )
    lost = here("policy", "push", home / "mine", expect=5).stderr
    assert "the bundle in force is another one" in lost
    here("policy", "push", home / "mine", "--if-match", "0" * 64, expect=5)
    assert "home.numbers.theirs" in client.policies.show("home").files["numbers.yaml"]
    assert "extra.yaml" not in client.policies.show("home").files


def test_a_watched_directory_is_published_when_it_holds_and_left_when_it_does_not(
    client: GatewayClient, rules: Path, home: Path
) -> None:
    folder = home / "watched/home"
    shutil.copytree(rules, folder)
    (folder / "numbers.yaml").write_text(
        "format: gateway-policy/v0\nrules:\n" + rule("watched", "research")
    )
    deadline = time.monotonic() + 20
    while "watched" not in client.policies.show("home").files["numbers.yaml"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    in_force = client.policies.show("home").hash
    (folder / "numbers.yaml").write_text("format: gateway-policy/v0\nrules: [")
    log = home / "server.log"
    while "rules refused" not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert client.policies.show("home").hash == in_force
    shutil.rmtree(folder)
    client.policies.pull(rules, overwrite=True)


@pytest.mark.parametrize("what", ["a bomb of aliases", "out of the brackets", "a newline in an id"])
def test_a_hostile_push_is_refused_at_its_place_and_the_old_rules_stay(
    client: GatewayClient, typed: Typed, rules: Path, home: Path, what: str
) -> None:
    text, line, column = HOSTILE[what]
    put(client, rules, rule("kept", "research"))
    (home / "bad").mkdir(exist_ok=True)
    (home / "bad" / "hostile.yaml").write_text(text)
    said = typed("policy", "push", home / "bad", expect=2).stderr
    assert f"hostile.yaml:{line}:{column}: " in said
    assert "home.numbers.kept" in client.policies.show("home").files["numbers.yaml"]
    assert (
        client.access.check("home/numbers", action="stream", purpose="research").effect == "allow"
    )


def test_what_one_pushed_another_pulls_tries_and_approves(
    client: GatewayClient, here: Typed, rules: Path, home: Path
) -> None:
    second = home / "second.json"
    here("identity", "add", "home/second", "--role", "owner", "--new-key", second)
    (rules / "bundle.yaml").write_text("format: gateway-policy-bundle/v0\nsecond_person: true\n")
    put(client, rules, rule("before", "research"))
    (rules / "numbers.yaml").write_text(
        "format: gateway-policy/v0\nrules:\n" + rule("after", "research")
    )
    pushed = here("policy", "push", rules)
    waiting = pushed.stderr.rpartition("gateway policy approve ")[2].split("`")[0]
    look = home / "look"
    here("policy", "pull", look, "--proposed", "--key-file", second)
    assert "home.numbers.after" in (look / "numbers.yaml").read_text()
    assert "home.numbers.before" in client.policies.show("home").files["numbers.yaml"]
    here("policy", "approve", waiting, expect=3)  # nobody approves what he pushed himself
    here("policy", "approve", "0" * 64, "--key-file", second, expect=4)
    tried = here("policy", "approve", waiting, "--dry-run", "--key-file", second).stdout
    assert "+ home.numbers.after" in tried
    assert tried.endswith("all hold\n")
    done = here("policy", "approve", waiting, "--key-file", second).stdout
    assert f"in force as {waiting}" in done
    assert "home.numbers.after" in client.policies.show("home").files["numbers.yaml"]
    here("policy", "pull", look, "--proposed", "--key-file", second, expect=4)
