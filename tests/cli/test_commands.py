"""What is typed, what is printed, and the exit code that scripts rely on."""

from __future__ import annotations

import io
import json
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.flags import names, pairs
from gateway.cli.output import safe
from gateway.crypto.identity_keys import IdentityKey
from gateway.errors import InvalidInput
from gateway.wire.exports import PREVIEW_ROWS_MAX
from tests.api.secured import SecuredSimulator
from tests.cli.conftest import Said

OWNER, TRAINER, OPERATOR = "clinic/owner", "startup/ml", "platform/operator"
Typed = Callable[..., Said]


def test_what_is_mistyped_is_one_line_and_exit_code_2(typed: Typed) -> None:
    for words in (
        ("frob",),
        ("dataset", "show"),
        ("dataset", "list", "--frob"),
        ("access", "check", "a/b", "--max-rows", "0"),
        ("dataset", "preview", "a/b", "--rows", str(PREVIEW_ROWS_MAX + 1)),
        ("grant", "revoke"),
        ("serve", "--port", "70000"),
    ):
        said = typed(*words)
        assert said.code == 2, words
        assert said.err.count("\n") == 1, said.err
        assert said.err.startswith("gateway: ")
        assert not said.out


def test_a_card_is_updated_and_shown_without_control_characters(as_: Typed, home: Path) -> None:
    card = home / "icu.json"
    card.write_text(json.dumps({"title": "ICU \u001b[31m", "source": "", "beds": 12}))
    said = as_(
        OWNER, "dataset", "update", "clinic/icu", "--card", card, "--owner", "clinic/role:owner"
    )
    assert said.code == 0
    assert "beds   12" in said.out
    assert "\x1b" not in said.out
    assert "source" not in said.out
    assert as_(OWNER, "dataset", "update", "clinic/icu").code == 2


def test_a_dataset_is_suspended_and_resumed(as_: Typed) -> None:
    assert as_(TRAINER, "dataset", "suspend", "clinic/icu").code == 3
    said = as_(OWNER, "dataset", "suspend", "clinic/icu", "--reason", "an audit", "--json")
    assert said.json["suspended"] is True
    assert "suspended  no" in as_(OWNER, "dataset", "resume", "clinic/icu").out


def test_no_server_is_69_and_says_how_to_start_one(typed: Typed) -> None:
    said = typed("dataset", "list")
    assert said.code == 69
    assert "gateway serve" in said.err


def test_no_key_is_78(typed: Typed, url: str) -> None:
    assert typed("whoami", "--server", url).code == 78
    assert typed("whoami", "--server", "http://gateway.example").code == 78


def test_denied_is_3_absent_is_4_conflict_is_5(as_: Typed) -> None:
    denied = as_(TRAINER, "dataset", "classify", "clinic/icu", "age=pii.indirect")
    assert (denied.code, "dec_x" in denied.err) == (3, True)
    assert as_(OWNER, "dataset", "show", "clinic/none").code == 4
    assert as_(OPERATOR, "tenant", "add", "clinic").code == 0
    assert as_(OPERATOR, "tenant", "add", "clinic").code == 5


def test_an_operator_bounds_suspends_and_resumes_a_tenant(as_: Typed) -> None:
    added = as_(OPERATOR, "tenant", "add", "clinic")
    assert "clinic/owner types: gateway init --server http" in added.err
    bound = ("tenant", "update", "clinic", "--max-streams", "8", "--max-bytes", "1000", "--json")
    assert as_(OPERATOR, *bound).json["max_streams"] == 8
    assert as_(OWNER, *bound).code == 3
    lifted = as_(OPERATOR, "tenant", "update", "clinic", "--lift", "max-streams", "--json")
    assert (lifted.json["max_streams"], lifted.json["max_bytes"]) == (None, 1000)
    assert "suspended        yes" in as_(OPERATOR, "tenant", "suspend", "clinic").out
    assert as_(OPERATOR, "tenant", "show", "clinic", "--json").json["suspended"] is True
    assert "suspended  no" in as_(OPERATOR, "tenant", "resume", "clinic").out
    assert as_(OPERATOR, "tenant", "show", "ghost").code == 4


def test_a_list_of_tenants_is_read_whole_before_anything_is_sent(as_: Typed, home: Path) -> None:
    place = home / "tenants.toml"
    for text in (
        '[tenants.lab]\n[tenants.bad]\nowner_key = "short"\n',
        "[tenants.lab]\nmax_rows = 7\n",
        "[tenants.lab]\nmax_streams = true\n",
        "[tenants.lab]\n[tenants.BAD]\n",
        "[tenants.lab]\n[tenants.two]\nmax_streams = -1\n",
        "[tenants.lab]\n[tenants.two]\nretention_days = 10\n",
        "lab = 1\n",
        "tenants = 1\n",
    ):
        place.write_text(text)
        assert as_(OPERATOR, "tenant", "add", "--from", place).code == 2
    assert as_(OPERATOR, "tenant", "list", "--json").json["items"] == []


def test_an_error_is_json_for_those_who_asked_for_json(as_: Typed) -> None:
    said = as_(OWNER, "dataset", "show", "clinic/none", "--json")
    problem = json.loads(said.err)
    assert problem["schema"] == "error/v0"
    assert (problem["code"], problem["exit_code"], said.out) == ("not-found", 4, "")


def test_a_check_that_is_denied_says_what_would_have_to_change(as_: Typed) -> None:
    ask = ("access", "check", "clinic/icu", "--columns", "age,hr", "--purpose")
    denied = as_(TRAINER, *ask, "marketing")
    assert denied.code == 3
    assert "research" in denied.out
    allowed = as_(TRAINER, *ask, "health-research", "--json")
    assert allowed.code == 0
    assert allowed.json["schema"] == "access.check/v0"
    assert [c["name"] for c in allowed.json["plan"]["columns"]] == ["age", "hr"]


def test_a_token_request_prints_the_grant_and_never_the_token(as_: Typed) -> None:
    denied = as_(TRAINER, "token", "request", "clinic/icu", "--purpose", "marketing")
    assert denied.code == 3
    for words in ((), ("--json",)):
        got = as_(TRAINER, "token", "request", "clinic/icu", "--purpose", "research", *words)
        assert got.code == 0
        assert "grant_" in got.out
        assert "eyJ" not in got.out
        assert "access_token" not in got.out
    (grant, *_) = as_(OWNER, "grant", "list", "--json").json["items"]
    assert as_(OWNER, "grant", "show", grant["id"]).code == 0
    said = as_(OWNER, "grant", "revoke", grant["id"], "--reason", "ended")
    assert said.out.splitlines()[0] == "1 grant, 0 streams stopped"


def test_a_token_is_kept_shown_proved_and_ended_by_its_file(as_: Typed, home: Path) -> None:
    kept = home / "token.json"
    for verb in ("show", "revoke"):
        assert as_(TRAINER, "token", verb, kept).code == 2
    ask = ("token", "request", "clinic/icu", "--purpose", "research", "--out", kept)
    kept.write_text("{}")
    kept.chmod(0o600)
    assert as_(TRAINER, *ask).code == 78  # what else stands there is kept
    kept.unlink()
    got = as_(TRAINER, *ask)
    assert (got.code, kept.stat().st_mode & 0o777) == (0, 0o600)
    assert "eyJ" not in got.out
    shown = as_(TRAINER, "token", "show", kept, "--json")
    assert (shown.code, shown.json["active"]) == (0, True)
    assert as_(OWNER, "token", "show", kept).code == 3
    away = as_(TRAINER, "token", "proof", "GET", "https://elsewhere.example/v1", "--token", kept)
    assert (away.code, away.out) == (2, "")
    proof = as_(TRAINER, "token", "proof", "POST", "/v1/leases", "--token", kept, "--json").json
    token = json.loads(kept.read_text())["access_token"]
    assert proof["headers"]["Authorization"] == f"DPoP {token}"
    said = as_(TRAINER, "token", "proof", "GET", "/v1/datasets").out.splitlines()
    assert [line.partition(": ")[0] for line in said] == ["Authorization", "DPoP"]
    kept.chmod(0o644)
    assert as_(TRAINER, "token", "show", kept).code == 78
    kept.chmod(0o600)
    copy = home / "copy.json"
    copy.write_bytes(kept.read_bytes())
    copy.chmod(0o600)
    assert as_(TRAINER, "token", "revoke", kept).code == 0
    assert not kept.exists()
    assert as_(TRAINER, "token", "show", copy).code == 3


def test_a_file_is_registered_shown_and_classified(as_: Typed, home: Path) -> None:
    (home / "icu.csv").write_text("age,hr\n1,2\n")
    assert as_(OWNER, "dataset", "register", "clinic/new", home / "none.csv").code == 2
    made = as_(
        OWNER, "dataset", "register", "clinic/new", home / "icu.csv",
        "--splits", "train=.8,test=.2", "--derived-from", "clinic/icu@1", "--json",
    )  # fmt: skip
    assert made.json["dataset"] == "clinic/new"
    listed = as_(OWNER, "dataset", "list")
    assert "clinic/new" in listed.out
    proposed = as_(OWNER, "dataset", "classify", "clinic/new")
    assert "pii.indirect" in proposed.out
    assert "nothing was changed" in proposed.err
    taken = as_(
        OWNER, "dataset", "classify", "clinic/new", "hr=health.vital,b", "--accept-proposed"
    )
    assert "pii.indirect" in taken.out
    assert "b, health.vital" in as_(OWNER, "dataset", "show", "clinic/new").out


def test_a_card_template_needs_no_server(typed: Typed) -> None:
    said = typed("dataset", "register", "--card-template")
    assert said.code == 0
    assert "licence" in said.out


def test_an_owner_brings_in_consents(
    as_: Typed, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = "".join(f"p{number},research,given\n" for number in range(1001))
    (home / "consents.csv").write_text(f"person,purpose,state\n{rows}p1,research,withdrawn\n")
    said = as_(OWNER, "consent", "import", home / "consents.csv", "--json")
    assert (said.json["given"], said.json["withdrawn"]) == (1001, 1)
    monkeypatch.setattr("sys.stdin", io.StringIO("person,purpose,state\np,research,given\n"))
    assert as_(OWNER, "consent", "import", "-").out.startswith("given      1")
    assert as_(OWNER, "consent", "list").out == "nothing\n"


def test_an_auditor_asks_queries_and_traces(as_: Typed, home: Path) -> None:
    assert "who-read" in as_(OWNER, "lineage", "ask").out
    said = as_(OWNER, "lineage", "ask", "who-read", "--dataset", "clinic/icu", "--json")
    assert said.json["items"] == [{"subject": "startup/ml", "rows": 100}]
    table = as_(OWNER, "lineage", "ask", "who-read", "--dataset", "clinic/icu", "--csv")
    assert table.out.splitlines() == ['"subject","rows"', '"startup/ml","100"']
    assert as_(OWNER, "lineage", "report", "art99").code == 4
    said = as_(OWNER, "lineage", "report", "art30", "--since", "30d")
    assert said.out == "markdown of ['since']\n"
    as_(OWNER, "lineage", "report", "art30", "--out", home / "r.html")
    assert (home / "r.html").read_text() == "html of []\n"
    assert as_(OWNER, "lineage", "report", "art30", "--csv").out == "csv of []\n"
    assert as_(OWNER, "lineage", "query", "DROP TABLE x").code == 2
    assert as_(OWNER, "lineage", "query", "SELECT 1", "--json").json["columns"] == ["n", "x"]
    kept = as_(OWNER, "lineage", "query", "SELECT 1", "--out", home / "n.arrows", "--json")
    assert kept.json["columns"] == {"n": "int64", "x": "double"}
    assert pa.ipc.open_stream((home / "n.arrows").read_bytes()).read_all().num_rows == 2
    assert as_(OWNER, "lineage", "query", "DROP x", "--out", home / "no.arrows").code == 2
    assert not (home / "no.arrows").exists()
    traced = as_(OWNER, "lineage", "trace", "clinic/icu@1", "--svg", home / "t.svg")
    assert traced.out == "version clinic/icu@1\n└─ read run run:1\n"
    assert (home / "t.svg").read_text().startswith("<svg")
    # The simulator's LogCheckpoint is no note: verification must not pass over that.
    assert as_(OWNER, "lineage", "verify").code == 1


def test_an_identity_is_added_with_a_key_of_its_own(
    as_: Typed, home: Path, gateway: SecuredSimulator
) -> None:
    add = ("identity", "add", "startup/ml2", "--role", "trainer", "--type", "job")
    assert as_(OPERATOR, *add).code == 2
    assert as_(OPERATOR, *add, "--new-key", home / "ml2.json").code == 0
    assert stat.S_IMODE((home / "ml2.json").stat().st_mode) == 0o600
    private = json.loads((home / "ml2.json").read_text())["private_key"]
    said = as_(OPERATOR, *add, "--public-key", home / "ml2.json")
    assert said.code == 0
    assert private not in said.out
    assert as_(OPERATOR, *add, "--public-key", "short").code == 2


def test_a_client_is_set_up_with_a_key_and_a_server(typed: Typed, home: Path) -> None:
    assert typed("init", "--server", "https://gateway.example").code == 2
    made = typed(
        "init", "--server", "https://gateway.example", "--identity", "startup/ml", "--json"
    ).json
    assert len(made["public_key"]) == 43
    shown = typed("config", "show", "--origin", "--json").json["items"]
    server = next(item for item in shown if item["name"] == "server")
    assert server["value"] == "https://gateway.example"
    assert server["origin"].endswith("gateway.toml")
    assert IdentityKey.load(Path(made["key_file"])).identity == "startup/ml"


@given(st.text())
def test_no_text_from_elsewhere_moves_a_cursor(text: str) -> None:
    shown = safe(text)
    assert shown.isprintable() or not shown
    for evil in ("\x1b", "\x9b", "\u202e", "\u2066", "\n", "\r", "\x00", "\u200b", "\ud800"):
        assert evil not in shown


def test_names_from_elsewhere_are_escaped_in_tables_and_json(
    as_: Typed, gateway: SecuredSimulator
) -> None:
    evil = "clinic/\x1b[2J\u202eevil"
    gateway.sets[evil] = type(gateway.sets["clinic/icu"])(
        **{f: getattr(gateway.sets["clinic/icu"], f) for f in gateway.sets["clinic/icu"].__slots__}
        | {"dataset": evil}
    )
    for words in (("dataset", "list"), ("dataset", "list", "--json")):
        out = as_(OWNER, *words).out
        assert "\x1b" not in out
        assert "\u202e" not in out


def test_the_last_equals_sign_cuts() -> None:
    assert pairs(["a=b=pii.email"], "COLUMN=TAG") == {"a=b": "pii.email"}
    assert names("a, b", ["c,d"]) == ("a", "b", "c,d")
    assert names(None, None) is None
    for bad in (["a"], ["=x"], ["a="], ["a=x", "a=y"]):
        with pytest.raises(InvalidInput):
            pairs(bad, "COLUMN=TAG")
    with pytest.raises(InvalidInput):
        names(" , ", None)


def test_a_missing_library_names_the_command_that_installs_it(home: Path) -> None:
    script = (
        "import sys; sys.modules['typer'] = None\n"
        "from gateway.cli.main import run; sys.exit(run(['--help']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 78
    assert "pip install 'dataset-gateway[cli]'" in done.stderr
    script = (
        "import sys; sys.modules['casbin'] = sys.modules['yaml'] = None\n"
        "from gateway.cli.main import run; sys.exit(run(['policy', 'test', '.']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=home
    )
    assert done.returncode == 78
    assert "pip install 'dataset-gateway[server]'" in done.stderr
