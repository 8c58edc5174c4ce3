"""Run every program beside this one and rewrite its table in docs/explain/performance.md.

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
    parser.add_argument("--only", metavar="NAME", help="one program; the other tables stay")
    args = parser.parse_args()
    programs = [p for p in sorted(HERE.glob("*.py")) if p.stem not in {"report", "__init__"}]
    wanted = [p for p in programs if args.only in {None, p.stem}]
    if not wanted:
        parser.error(f"there is no program `{args.only}`")
    facts = {program.stem: facts_of(program, quick=args.quick) for program in wanted}
    for name, found in facts.items():
        print(table(found))
        if not args.quick:
            rewrite(name, table(found))
    return 0 if all(fact["ok"] for found in facts.values() for fact in found) else 1


def rewrite(name: str, text: str) -> None:
    """Put a program's table where the page has a place for it."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, _, rest = PAGE.read_text("utf-8").partition(f"{begin}\n")
    _, found, after = rest.partition(end)
    if not found:
        message = f"{PAGE.name} has no place for the table of `{name}`"
        raise SystemExit(message)
    PAGE.write_text(f"{before}{begin}\n{text}\n{end}{after}", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
