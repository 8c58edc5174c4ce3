"""Sound files with a few bytes changed: refused with an advice, or sealed; nothing else happens.

60 mutants in CI; `--long` makes 10,000. `GATEWAY_FUZZ_SEED` begins elsewhere.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pyarrow as pa
import pytest

from gateway.errors import SourceRefused
from tests.shards.kit import ipc_bytes, parquet_bytes, seal
from tests.shards.test_hostile import children
from tests.shards.warm import Zygote

SECONDS_MAX = 60.0  # of one file, on a machine that does other things, too


def sound_files() -> list[bytes]:
    table = pa.table(
        {
            "n": range(300),
            "t": [None if n % 7 == 0 else f"text {n}" for n in range(300)],
            "x": [n / 3 for n in range(300)],
            "l": [[n, n + 1] for n in range(300)],
            "s": [{"a": n, "b": str(n)} for n in range(300)],
        }
    )
    lines = "\n".join(f'{n},"t, {n}",{n / 3}' for n in range(300))
    return [
        parquet_bytes(table),
        parquet_bytes(table, compression="zstd", data_page_version="2.0", row_group_size=100),
        ipc_bytes(table, compression="lz4"),
        ipc_bytes(table, stream=True),
        f"n,t,x\n{lines}\n".encode(),
        "\n".join(f'{{"n": {n}, "l": [{n}]}}' for n in range(300)).encode(),
    ]


def mutant(content: bytes, chance: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 8))):
        # Footers and heads are where lengths, counts and offsets stand.
        near_end = chance.random() < 0.5
        at = (
            len(data) - 1 - chance.randrange(min(900, len(data)))
            if near_end
            else (chance.randrange(len(data)))
        )
        how = chance.randrange(4)
        if how == 0:
            data[at] ^= 1 << chance.randrange(8)
        elif how == 1:
            data[at] = chance.choice((0, 0x7F, 0x80, 0xFF))
        elif how == 2:
            del data[at : at + chance.randrange(1, 9)]
        else:
            data[at:at] = bytes(chance.choices((0, 0x80, 0xFF, data[at]), k=chance.randrange(1, 9)))
    return bytes(data)


def refusal_of(content: bytes, folder: Path) -> SourceRefused | None:
    try:
        assert seal(folder, content).rows > 0
    except SourceRefused as refusal:
        return refusal
    return None


def test_a_changed_file_is_refused_or_read_and_nothing_else_happens(
    warm: Zygote, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    del warm
    rounds = 10_000 if pytestconfig.getoption("--long") else 60
    rounds = int(os.environ.get("GATEWAY_FUZZ_ROUNDS", rounds))
    seed = int(os.environ.get("GATEWAY_FUZZ_SEED", "7"))
    sound, before, refusals = sound_files(), children(), 0
    for number in range(rounds):
        chance = random.Random(f"{seed}/{number}")
        content = mutant(sound[number % len(sound)], chance)
        begun = time.monotonic()
        refusal = refusal_of(content, tmp_path)
        if refusal is not None:
            assert refusal.advice, number
            assert refusal.message.isprintable(), number
            refusals += 1
        assert time.monotonic() - begun < SECONDS_MAX, number
    assert children() == before
    assert 0 < refusals < rounds  # both happen, or the mutants are no good
