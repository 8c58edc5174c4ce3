"""Files made to exhaust or crash: the parser dies, the registration is refused, no more."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from gateway.errors import SourceRefused, Unavailable
from gateway.shards import ingest
from gateway.shards.ingest import seal_upload
from tests.shards.kit import ipc_bytes, job_of, parquet_bytes


def children() -> set[int]:
    found = set()
    for task in Path("/proc/self/task").iterdir():
        found |= {int(pid) for pid in (task / "children").read_text().split()}
    return found


def refused(tmp_path: Path, content: bytes) -> SourceRefused:
    before = children()
    job = job_of(tmp_path, [content])
    with pytest.raises(SourceRefused) as refusal:
        seal_upload(job, lambda _f, _t: None)
    assert children() == before  # nobody is left behind
    assert refusal.value.advice
    return refusal.value


def test_a_small_file_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    word = "x" * (1 << 20)
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 20_000, pa.int32()), pa.array([word]))
    bomb = parquet_bytes(pa.table({"a": column}), compression="zstd")
    assert len(bomb) < 1 << 20
    refused(tmp_path, bomb)


def test_one_value_larger_than_a_parser_may_hold_is_refused(tmp_path: Path) -> None:
    huge = pa.table({"a": pa.array(["x" * (250 << 20)])})
    plain = {"use_dictionary": False, "write_statistics": False}
    refused(tmp_path, parquet_bytes(huge, compression="zstd", **plain))


def test_one_batch_larger_than_a_parser_may_hold_is_refused(tmp_path: Path) -> None:
    table = pa.table({"a": pa.repeat(pa.scalar(1), 32_000_000)})
    refused(tmp_path, ipc_bytes(table, compression="zstd"))


@pytest.mark.parametrize("whom", ["parser", "sealer"])
def test_a_killed_child_leaves_a_refusal_and_no_process(whom: str, tmp_path: Path) -> None:
    rows = "\n".join(f"{n},{n / 3}" for n in range(400_000))
    job = job_of(tmp_path, [f"a,b\n{rows}\n".encode()])
    before = children()

    def kill(*_progress: object) -> None:
        for pid in children() - before:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            if f"gateway.shards.{whom}".encode() in command:
                os.kill(pid, signal.SIGKILL)

    with pytest.raises((SourceRefused, Unavailable)) as error:
        seal_upload(job, kill)
    assert "signal 9" in str(error.value)
    assert children() == before


def test_flipped_and_cut_files_never_do_more_than_be_refused(tmp_path: Path) -> None:
    good = parquet_bytes(pa.table({"a": range(500), "b": [str(n) for n in range(500)]}))
    for at in range(20, len(good), max(1, len(good) // 8)):
        broken = bytearray(good)
        broken[at] ^= 0x5A
        with contextlib.suppress(SourceRefused):  # or the flip is in bytes nobody reads
            seal_upload(job_of(tmp_path, [bytes(broken)]), lambda _f, _t: None)


def test_control_registers_without_ever_loading_arrow() -> None:
    code = (
        "import sys, gateway.shards.ingest, gateway.shards.views, gateway.shards.parts;"
        "sys.exit(any(name.startswith('pyarrow') for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_memory_of_both_children_is_bounded_together() -> None:
    assert ingest.PARSER_RESIDENT_MAX + ingest.SEALER_RESIDENT_MAX <= 600 * 10**6
