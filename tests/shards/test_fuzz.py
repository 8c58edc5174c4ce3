"""Sound files with a few bytes changed: refused with an advice, or sealed as pyarrow reads them.

60 mutants in CI; `--long` makes 10,000. `GATEWAY_FUZZ_SEED` begins elsewhere.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pac
import pyarrow.csv as pc
import pyarrow.json as pj
import pyarrow.parquet as pq
import pytest

from gateway.errors import SourceRefused
from tests.shards.kit import ipc_bytes, parquet_bytes, read_back, register
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
    """None: it was sealed, and gives what pyarrow alone reads from it, to the bit."""
    try:
        registered = register(folder, content)
    except SourceRefused as refusal:
        return refusal
    table = read_back(registered)
    assert table.num_rows > 0
    source = SOURCES[registered.sealed.formats[0]](content, table.schema)
    assert source.schema.names == table.schema.names
    for name in source.schema.names:
        assert bits(source[name], table.schema.field(name).type) == bits(table[name])
    for path in registered.paths.values():
        Path(path).unlink()
    return None


def read_parquet(content: bytes, _: Any) -> Any:
    return pq.read_table(pa.BufferReader(content), use_threads=False)


def read_arrow(content: bytes, _: Any) -> Any:
    opened = pa.ipc.open_file if content.startswith(b"ARROW1") else pa.ipc.open_stream
    return opened(pa.BufferReader(content)).read_all()


def read_csv(content: bytes, schema: Any) -> Any:
    header = content.partition(b"\n")[0]
    table = pc.read_csv(
        pa.BufferReader(content),
        read_options=pc.ReadOptions(
            use_threads=False, block_size=len(content), column_names=schema.names, skip_rows=1
        ),
        parse_options=pc.ParseOptions(
            delimiter=max(",;\t|", key=header.decode().count), newlines_in_values=True
        ),
        convert_options=pc.ConvertOptions(column_types=schema),
    )
    for n, field in enumerate(schema):
        if pa.types.is_string(field.type):  # an empty cell is a missing value
            text = table.column(n)
            table = table.set_column(
                n, field.name, pac.if_else(pac.equal(text, ""), None, text).cast(field.type)
            )
    return table


def read_json(content: bytes, schema: Any) -> Any:
    return pj.read_json(
        pa.BufferReader(content),
        read_options=pj.ReadOptions(use_threads=False, block_size=len(content) + 1),
        parse_options=pj.ParseOptions(explicit_schema=schema),
    )


SOURCES = {"parquet": read_parquet, "arrow": read_arrow, "csv": read_csv, "jsonl": read_json}


def bits(column: Any, kind: Any = None) -> list[Any]:
    """The values of a column, floats of it by their bits: one NaN is not like the other."""
    array = column.combine_chunks()
    if kind is not None and array.type != kind:
        array = array.cast(kind)
    if pa.types.is_floating(array.type):
        array = array.view(f"int{array.type.bit_width}")
    values: list[Any] = array.to_pylist()
    return [repr(value) for value in values] if pa.types.is_nested(array.type) else values


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
