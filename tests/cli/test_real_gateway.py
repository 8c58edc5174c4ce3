"""The doors over the real services: one process tree, its own home, the four first commands."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from gateway.client.client import GatewayClient
from gateway.client.targets import segment
from gateway.config import Settings
from gateway.crypto import attestation
from gateway.errors import GatewayError, IntegrityError
from tests.api.conftest import corpora

__all__ = ["corpora"]
COMMAND = (sys.executable, "-c", "from gateway.cli.main import main; main()")
ROWS = 3000
Act = Callable[[GatewayClient, str], object]
Typed = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def typed(home: Path) -> Typed:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "GATEWAY_"))}
    own = {f"XDG_{n}_HOME": str(home / n.lower()) for n in ("CONFIG", "STATE", "CACHE")}
    environment = {**kept, **own, "XDG_RUNTIME_DIR": str(home / "run")}

    def run(
        *words: str | Path, expect: int = 0, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*COMMAND, *map(str, words)],
            env=environment,
            input=stdin,
            cwd=home,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == expect, done.stdout + done.stderr
        return done

    run.environment = environment  # type: ignore[attr-defined]
    return run


@pytest.fixture(scope="module")
def server(typed: Typed, home: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A module's own; its SERVE_FLAGS, if it has some, may name `{home}`."""
    flags = [flag.format(home=home) for flag in getattr(request.module, "SERVE_FLAGS", ())]
    typed("init")
    place = home / "run/dataset-gateway/server.json"
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [*COMMAND, "serve", "--port", "0", "--data-workers", "1", *flags],
            env=typed.environment,  # type: ignore[attr-defined]
            stdout=log,
            stderr=log,
        )
    deadline = time.monotonic() + 60
    while not place.exists():
        assert process.poll() is None, (home / "server.log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield json.loads(place.read_text())["url"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


@pytest.fixture(scope="module")
def client(server: str, home: Path) -> GatewayClient:
    settings = Settings(config_dir=home / "config/dataset-gateway", runtime_dir=home)
    return GatewayClient(server, None, settings)


@pytest.fixture(scope="module")
def dataset(server: str, typed: Typed, home: Path) -> str:
    """A file of one's own: registered, and allowed for research."""
    table = pa.table({"age": [n % 90 for n in range(ROWS)], "name": [f"p{n}" for n in range(ROWS)]})
    pyarrow.csv.write_csv(table, home / "mine.csv")
    typed("dataset", "register", "home/mine", home / "mine.csv")
    denied = typed("stream", "home/mine", "--purpose", "research", "--out", "x", expect=3)
    assert "dec_" in denied.stderr
    new = ("policy", "new", "home/mine", "--to", "role:trainer", "--purpose", "research")
    typed(*new, "--columns", "age", "--push")
    return "home/mine"


def test_a_newcomers_own_file_is_read_back_without_what_is_withheld(
    dataset: str, typed: Typed, home: Path
) -> None:
    typed("stream", dataset, "--purpose", "research", "--out", home / "rows.arrows")
    rows = pa.ipc.open_stream((home / "rows.arrows").read_bytes()).read_all()
    assert rows.to_pydict() == {"age": [n % 90 for n in range(ROWS)]}


def test_a_refused_identity_leaves_no_key_file(dataset: str, typed: Typed, home: Path) -> None:
    typed("identity", "add", "absent/x", "--role", "trainer", "--new-key", "left.json", expect=4)
    assert not (home / "left.json").exists()


def test_a_path_of_the_api_is_not_what_was_asked_for(dataset: str, typed: Typed) -> None:
    for words in (("access", "check"), ("token", "request")):
        said = typed(*words, f"{dataset}@99", "--purpose", "research", expect=4)
        assert "nothing of the names in the request that you may see" in said.stderr


def test_output_that_cannot_be_written_is_one_line(dataset: str, typed: Typed) -> None:
    for out in ("/dev/full", "absent/rows.arrows"):
        said = typed("stream", dataset, "--purpose", "research", "--out", out, expect=1)
        assert said.stderr.startswith("gateway: ")
        assert said.stderr.count("\n") == 1


ASKED = """format: gateway-policy/v0
rules:
  - id: home.mine.asked
    kind: allow
    principals: [home/role:trainer]
    scope: dataset:home/mine
    actions: [stream, request]
    purpose: [safety]
    columns: [age, name]
    obligations: {require_approval: true}
"""


def test_a_second_person_approves_and_the_rows_he_approved_are_read(
    dataset: str, typed: Typed, home: Path
) -> None:
    typed("policy", "pull", home / "rules")
    (home / "rules/asked.yaml").write_text(ASKED)
    typed("policy", "push", home / "rules")
    ask = (dataset, "--purpose", "safety", "--split", "all")
    denied = typed("access", "check", *ask, expect=3).stdout
    assert f"gateway access request {dataset} --purpose safety --split all" in denied
    asked = json.loads(
        typed("access", "request", *ask, "--valid", "2d", "--reason", "IRB 17", "--json").stdout
    )
    new = home / "second.json"
    typed("identity", "add", "home/second", "--role", "owner", "--new-key", new)
    typed("access", "approve", asked["id"], expect=3)
    waiting = json.loads(typed("access", "list", "--pending", "--json", "--key-file", new).stdout)
    assert [(one["id"], one["reason"]) for one in waiting["items"]] == [(asked["id"], "IRB 17")]
    assert "home.mine.asked" in typed("policy", "explain", asked["id"], "--key-file", new).stdout
    yes = ("--narrow-columns", "age", "--valid", "14d", "--reason", "fine")
    typed("access", "approve", asked["id"], *yes, "--key-file", new)
    shown = typed("access", "show", asked["id"]).stdout.splitlines()
    assert "approved_columns        age" in shown
    typed("access", "reject", asked["id"], "--reason", "late", "--key-file", new, expect=5)
    typed("stream", *ask, "--run", "seven", "--out", home / "asked.arrows")
    rows = pa.ipc.open_stream((home / "asked.arrows").read_bytes()).read_all()
    assert rows.column_names == ["age"]
    grant = json.loads(typed("access", "show", asked["id"], "--json").stdout)["grant"]
    typed("grant", "revoke", grant, "--reason", "over", "--key-file", new)
    typed("stream", *ask, "--run", "seven", "--out", home / "more.arrows", expect=3)


def test_a_run_that_is_finished_streams_no_more_and_its_attestation_verifies(
    dataset: str, typed: Typed, home: Path, client: GatewayClient
) -> None:
    ask = (dataset, "--purpose", "research", "--run", "eight")
    typed("stream", *ask, "--out", home / "eight.arrows")
    model = home / "model.bin"
    model.write_bytes(b"weights")
    typed("run", "finish", "eight", "--artifact", model, expect=2)
    typed("run", "finish", "nine", "--model", "m", "--artifact", model, expect=4)
    typed("run", "finish", "eight", "--model", "m", "--artifact", model)
    typed("run", "finish", "eight", "--model", "m", "--artifact", model, expect=5)
    said = typed("stream", *ask, "--out", home / "more.arrows", expect=5).stderr
    assert "finished" in said
    assert "name a new run" in said
    key = bytes.fromhex(client.runs.attestation("eight").public_key)
    written = (home / "model.bin.attestation.json").read_bytes()
    predicate = attestation.verify(written, key)["predicate"]
    assert (predicate["rows_delivered"], predicate["rows_acknowledged"]) == (ROWS, ROWS)
    with pytest.raises(IntegrityError):
        attestation.verify(written.replace(b'"payload":"ey', b'"payload":"eY'), key)
    (row,) = [r for r in json.loads(typed("run", "list", "--json").stdout)["items"] if r["model"]]
    assert row["run"] == "home:eight"
    assert row["attestation"] == attestation.digest_of(written)
    assert "model:m@sha256:" in typed("run", "show", "eight").stdout


def test_a_person_column_that_is_no_column_is_refused(
    dataset: str, typed: Typed, home: Path
) -> None:
    said = typed(
        "dataset", "register", dataset, home / "mine.csv", "--person-column", "nobody", expect=2
    )
    assert "no column `nobody`" in said.stderr


def test_the_auditor_sees_who_read_and_the_log_verifies(
    dataset: str, typed: Typed, home: Path, client: GatewayClient
) -> None:
    deadline = time.monotonic() + 20
    while not (reads := client.lineage.ask("who-read", dataset=dataset)):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert reads[0].columns == ["age"]
    client.datasets.update(dataset, card={"legal_basis": "=consent()", "retention": "P1D"})
    record = typed("lineage", "ask", "processing-record", "--dataset", dataset, "--csv").stdout
    assert '"[""=consent()""]"' in record
    typed("lineage", "report", "art30", "--dataset", dataset, "--out", home / "art30.html")
    assert "<td>=consent()</td>" in (home / "art30.html").read_text()
    assert not client.lineage.ask("reads-after-retention", dataset=dataset)
    (home / "old.note").write_text(client.lineage.verify().note)
    client.access.check(dataset)
    later = json.loads(typed("lineage", "verify", "--since", home / "old.note", "--json").stdout)
    assert later["size"] > later["continues"] > 0


def test_naughty_strings_find_no_accident_in_the_services(
    corpora: Path, dataset: str, client: GatewayClient
) -> None:
    (path,) = (corpora / "naughty-strings").rglob("blns.json")
    client.transport._retry_seconds = ()
    accidents = [
        (text, error)
        for n, text in enumerate(json.loads(path.read_text("utf-8"))[::4])
        if (error := _error_of(ACTS[n % len(ACTS)], client, text)) and error.status == 500
    ]
    assert not accidents


def _error_of(act: Act, client: GatewayClient, text: str) -> GatewayError | None:
    try:
        act(client, text)
    except GatewayError as error:
        return error
    return None


def _get(path: str) -> Act:
    return lambda client, text: client.get(path + segment(text) if path.endswith("/") else path)


ACTS: tuple[Act, ...] = (
    lambda c, t: c.get("/v1/datasets", tag=t),
    lambda c, t: c.get("/v1/datasets", text=t),
    lambda c, t: c.access.check("home/mine", purpose=t),
    lambda c, t: c.access.check("home/mine", purpose="research", columns=[t], split=t, run=t),
    lambda c, t: c.access.check("home/mine", action=t, at=t),
    lambda c, t: c.access.check(t),
    lambda c, t: c.access.request("home/mine", purpose="safety", columns=[t], reason=t, valid=t),
    lambda c, t: c.access.list(dataset=t, subject=t),
    lambda c, t: c.access.approve(t, narrow_columns=[t], valid=t, reason=t),
    lambda c, t: c.access.reject("req_" + "a" * 26, reason=t),
    lambda c, t: c.post("/access/v1/evaluations", {"evaluations": [{}], "options": {t: t}}),
    lambda c, t: c.tokens.request("home/mine", purpose="research", columns=[t]),
    lambda c, t: c.tokens.request(grant=t),
    lambda c, t: c.datasets.classify("home/mine", {t: t}),
    lambda c, t: c.datasets.classify("home/mine", {"age": t}),
    lambda c, t: c.grants.list(dataset=t),
    lambda c, t: c.grants.list(subject=t, run=t, tenant=t),
    lambda c, t: c.grants.revoke(subject=t, reason=t),
    lambda c, t: c.policies.test({t or "x": t}, tenant="home"),
    lambda c, t: c.policies.test({"a.yaml": t}, tenant="home"),
    lambda c, t: c.lineage.ask("who-read", dataset=t),
    lambda c, t: c.lineage.ask(t, x=t),
    lambda c, t: c.lineage.query(t),
    lambda c, t: c.lineage.trace(t),
    lambda c, t: c.tenants.add(t),
    lambda c, t: c.identities.add(f"home/{t}", public_key=t, roles=[t], type=t),
    lambda c, t: c.post("/v1/registrations", {"dataset": "home/x", "files": [], "split_by": t}),
    _get("/v1/grants/"),
    _get("/v1/decisions/"),
    _get("/v1/operations/"),
    _get("/v1/registrations/"),
    _get("/v1/runs/"),
    _get("/v1/tenants/"),
)


def ids_of(rows: Path) -> set[object]:
    return set(pa.ipc.open_stream(rows.read_bytes()).read_all().column("patient").to_pylist())


def test_who_received_rows_of_a_person_is_what_the_job_received(
    dataset: str, client: GatewayClient, typed: Typed, home: Path
) -> None:
    """And no id of one is left anywhere, neither as it is nor as a hash that anybody can make."""
    people = [f"zebra-{n:03}" for n in range(100)]
    table = pa.table({"patient": [p for p in people for _ in range(30)],
                      "age": [n // 30 for n in range(3000)]})  # fmt: skip
    pq.write_table(table, home / "stays.parquet")
    split = ("--splits", "train=.6,test=.4", "--split-by", "patient")
    typed("dataset", "register", "home/stays", home / "stays.parquet", *split,
          "--person-column", "patient")  # fmt: skip
    new = ("policy", "new", "home/stays", "--to", "role:trainer", "--columns", "patient,age")
    typed(*new, "--purpose", "research", "--where", "age >= 18", "--push")
    read = ("stream", "home/stays", "--purpose", "research", "--split", "train")
    typed(*read, "--run", "stays", "--out", home / "got.arrows")
    typed("run", "finish", "stays", "--model", "m")
    typed("identity", "add", "home/dpo", "--role", "person-auditor", "--new-key", home / "dpo.json")
    ask = ("lineage", "ask", "runs-of-person", "--dataset", "home/stays", "--json")
    why = ("--purpose", "legal-obligation")
    key = ("--key-file", home / "dpo.json", "--person")
    dpo = GatewayClient(client.transport.server, home / "dpo.json", client.settings)
    got, outcomes = ids_of(home / "got.arrows"), set()
    for person in ("zebra-005", "zebra-050", "zebra-051", "zebra-052", "zebra-053"):
        (use,) = dpo.lineage.ask(
            "runs-of-person", dataset="home/stays", person=person, purpose="legal-obligation"
        )
        assert (use.run, use.models) == ("home:stays", ["m"])
        assert (use.outcome == "delivered") == (person in got)
        assert use.outcome in ("delivered", "not-read", "filtered")
        outcomes.add(use.outcome)
    assert "delivered" in outcomes
    said = typed(*ask, *key, "zebra-050", expect=2)
    assert "no argument" in said.stderr
    assert "zebra" not in said.stderr
    typed(*ask, *why, "--person", "-", stdin="zebra-050", expect=3)  # an owner, and no more
    report = ("lineage", "report", "person", "--dataset", "home/stays", *why, *key, "-")
    made = typed(*report, stdin="zebra-050\r\n").stdout
    assert "zebra" not in made
    assert "runs-of-person/1" in made
    for name in ("stays.parquet", "got.arrows"):
        (home / name).unlink()
    hashes = [hashlib.new(h, b"zebra-050") for h in ("sha256", "sha1", "md5", "blake2b")]
    forbidden = [b"zebra-0", *(h.digest()[:16] for h in hashes)]
    forbidden += [h.hexdigest()[:32].encode() for h in hashes]
    files = [path for path in home.rglob("*") if path.is_file()]
    assert any(path.name == "lineage.duckdb" for path in files)
    for path in files:
        data = path.read_bytes()
        assert not [one for one in forbidden if one in data], path
