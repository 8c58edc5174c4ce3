"""Scene: the auditor asks who read what, under which rule, and whether the log is whole."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from gateway.demo.cast import AUDITOR, OPERATOR, RAND, Play, folder
from gateway.demo.steps import Seen, Step, expect


def scene(play: Play) -> list[Step]:
    """The steps, in order."""
    return [
        Step(
            name="who-read",
            title="the auditor asks who read what, under which rule, into which run",
            act=lambda: _who_read(play),
        ),
        Step(
            name="denials",
            title="the auditor finds the denial",
            act=lambda: _denials(play),
        ),
        Step(name="verify", title="the auditor verifies the log", act=lambda: _verify(play)),
        Step(
            name="evidence",
            title="the auditor takes the evidence along, and a changed one does not verify",
            act=lambda: _evidence(play),
        ),
    ]


def _ask(play: Play, question: str, **parameters: str) -> list[dict[str, Any]]:
    table = play.client(AUDITOR).lineage.ask(question, **parameters)
    return [row.to_dict() for row in table]


def _who_read(play: Play) -> Seen:
    rows = _ask(play, "who-read", dataset=RAND)
    found = [row for row in rows if row["run"].endswith("demo-risk")]
    expect(found, f"the startup's run is missing in {[row['run'] for row in rows]}")
    risk = found[0]
    expect(risk["actor_tenant"] == "startup", f"the run is said to be of {risk['actor_tenant']}")
    expect("clinic.rand-hie.startup" in risk["rules"], f"under the rules {risk['rules']}")
    expect("black" not in risk["columns"], "a withheld column is said to have been read")
    lines = tuple(
        f"{row['actor_tenant']}: {row['rows']:,} rows, {len(row['columns'])} columns, for "
        f"{row['purpose']}, rule {row['rules'][0]}, run {row['run']}"
        for row in rows[:6]
    )
    return Seen(
        text=f"auditor: {len(rows)} uses of {RAND}, each with rows, columns, rule and run",
        facts={"uses": len(rows), "rule": risk["rules"][0], "rows": risk["rows"]},
        lines=lines,
    )


def _denials(play: Play) -> Seen:
    rows = _ask(play, "denials", dataset=RAND)
    found = [row for row in rows if row["last_decision"] == play.facts["denied"]]
    expect(found, f"the denial {play.facts['denied']} is not in the answer")
    reasons = ", ".join(found[0]["reasons"])
    return Seen(
        text=f"auditor: the denial for {found[0]['purpose']} is on record ({reasons})",
        facts={"decision": play.facts["denied"], "reasons": found[0]["reasons"]},
    )


def _verify(play: Play) -> Seen:
    said = play.stage.gateway(folder(AUDITOR), "lineage", "verify", "--server", play.url, "--json")
    verified = json.loads(said.out)
    size = verified["size"]
    expect(size > 0, "the log is empty")
    return Seen(
        text=f"auditor: {size} events verified, from the first to the last; outside witness: "
        f"{verified['witnessed']}",
        facts={"events": size, "root": verified["root"], "witnessed": verified["witnessed"]},
    )


def _evidence(play: Play) -> Seen:
    """Offline: the pack, its own program, and the log's key from the operator's machine."""
    whole = play.stage.home / "evidence.zip"
    exported = ("lineage", "export", "--dataset", RAND, "--out", whole, "--server", play.url)
    made = json.loads(play.stage.gateway(folder(AUDITOR), *exported, "--json").out)
    diagnosed = play.stage.gateway(folder(OPERATOR), "doctor", "--json").out
    key = next(c["detail"] for c in json.loads(diagnosed)["checks"] if c["name"] == "log key")
    with zipfile.ZipFile(whole) as archive:
        program = play.stage.home / "verify.py"
        program.write_bytes(archive.read("verify.py"))
    changed = play.stage.home / "changed.zip"
    _without_a_denial(whole, changed)
    said = [_exit(program, pack, key) for pack in (whole, changed)]
    expect(said == [0, 1], f"whole and changed pack were answered by exits {said}")
    return Seen(
        text=f"auditor: {made['events']} events of the clinic verify offline; with the denials cut "
        "out, the same pack is refused",
        facts={"events": made["events"], "bytes": made["bytes"]},
    )


def _without_a_denial(whole: Path, changed: Path) -> None:
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(changed, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name == "events.jsonl":
                lines = data.splitlines(keepends=True)
                data = b"".join(line for line in lines if b'"effect":"deny"' not in line)
            target.writestr(name, data)


def _exit(program: Path, pack: Path, key: str) -> int:
    command = [sys.executable, "-I", str(program), str(pack), "--log-key", key]
    return subprocess.run(command, capture_output=True, check=False).returncode
