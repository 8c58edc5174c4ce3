"""Run every program beside this one and rewrite the table of docs/explain/performance.md.

Each program prints one JSON line per metric:
`{"bench","metric","value","unit","goal","ok","runs"}`, and exits 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent.parent / "docs" / "explain" / "performance.md"
BEGIN, END = "<!-- make bench: begin -->", "<!-- make bench: end -->"


def facts_of(program: Path, *, quick: bool) -> list[dict[str, object]]:
    command = [sys.executable, str(program), "--json", *(["--quick"] if quick else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    facts = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if not facts:
        message = f"{program.name} printed no result (exit {done.returncode})"
        raise SystemExit(message)
    return facts


def table(facts: list[dict[str, object]]) -> str:
    rows = [
        "| bench | metric | value | goal | met | runs |",
        "|---|---|---|---|---|---|",
    ]
    rows += [
        f"| {f['bench']} | {f['metric']} | {f['value']} {f['unit']} | {f['goal']} | "
        f"{'yes' if f['ok'] else '**no**'} | {f['runs']} |"
        for f in facts
    ]
    where = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    return "\n".join([*rows, "", f"Measured on {where}, {platform.system()}."])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short runs; the page stays as it is")
    args = parser.parse_args()
    programs = [p for p in sorted(HERE.glob("*.py")) if p.stem not in {"report", "__init__"}]
    facts = [fact for program in programs for fact in facts_of(program, quick=args.quick)]
    text = table(facts)
    print(text)
    if not args.quick:
        before, rest = PAGE.read_text("utf-8").split(BEGIN)
        after = rest.split(END)[1]
        PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", "utf-8")
    return 0 if all(fact["ok"] for fact in facts) else 1


if __name__ == "__main__":
    sys.exit(main())
