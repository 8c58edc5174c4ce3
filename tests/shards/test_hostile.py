"""Files made to exhaust or crash: the parser dies, the registration is refused, no more."""

from __future__ import annotations

import base64
import contextlib
import gzip
import lzma
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from gateway.errors import SourceRefused, Unavailable
from gateway.shards import ingest
from gateway.shards.ingest import seal_upload
from tests.shards import forge
from tests.shards.kit import ipc_bytes, job_of, parquet_bytes, register, seal
from tests.shards.test_ingest import read_back

ROOT = Path(__file__).resolve().parents[2]
_NAMES = [f"m{n}" for n in range(10_000)]


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
    assert refusal.value.message.isprintable()
    return refusal.value


def nested(depth: int) -> Any:
    array = pa.array([1])
    for _ in range(depth):
        array = pa.ListArray.from_arrays([0, 1], array)
    return pa.table({"a": array})


def named(*names: str) -> bytes:
    return parquet_bytes(pa.table({name: [n] for n, name in enumerate(names)}))


def zoned(zone: str) -> bytes:
    return ipc_bytes(pa.table({"t": pa.array([1], pa.timestamp("us", tz=zone))}))


_BITS = forge.varint(2_000_000_000 << 1) + b"\1"
_DICTIONARY = forge.page(2, b"\1\0\0\0x", (1 << 31) - 1, forge.PLAIN)
_ONE_RUN = forge.page(0, bytes([1]) + forge.varint(20) + b"\0", 10, forge.RLE_DICTIONARY)
_LEAF = {1: forge.I32(6), 3: forge.I32(0), 4: b"a"}
BOMBS = {  # a few hundred bytes each
    "a hundred gigabytes of one word": forge.repeated(b"x" * 50, 2_000_000_000),
    "the same in a thousand row groups": forge.repeated(b"x" * 50, 2_000_000, groups=1000),
    "2e12 empty texts": forge.repeated(b"", 2_000_000_000, groups=1000),
    "2e11 bits": forge.parquet(
        forge.page(0, len(_BITS).to_bytes(4, "little") + _BITS, 2_000_000_000, forge.RLE),
        values=2_000_000_000,
        kind=forge.BOOLEAN,
        groups=100,
    ),
    "a word of a megabyte": forge.repeated(b"x" * (1 << 20), 2_000_000_000),
    "a page of 2 GiB": forge.parquet(
        forge.page(0, b"x", 1, forge.PLAIN, size=(1 << 31) - 1, packed=(1 << 31) - 1), values=1
    ),
    "a dictionary of 2e9 words": forge.parquet(
        _DICTIONARY + _ONE_RUN, values=10, dictionary_bytes=len(_DICTIONARY)
    ),
    "lists 60 deep": ipc_bytes(nested(60)),
    "lists 60 deep in Parquet": parquet_bytes(nested(60)),
    "a schema 20,000 deep": forge.repeated(
        b"x",
        10,
        schema=[{4: b"r", 5: forge.I32(1)}]
        + [{3: forge.I32(0), 4: b"n", 5: forge.I32(1)}] * 20_000
        + [_LEAF],
    ),
    "50,000 columns of Parquet": named(*map(str, range(50_000))),
    "50,000 columns of CSV": (",".join(f"c{n}" for n in range(50_000)) + "\n").encode(),
    "a struct of 10,000 members": parquet_bytes(pa.table({"s": [dict.fromkeys(_NAMES, 1)]})),
    "names of four megabytes": named(*(f"{n:01000}" for n in range(4000))),
    "a name of a megabyte": named("a" * (1 << 20)),
    "a member's name of a megabyte": parquet_bytes(pa.table({"s": [{"m" * (1 << 20): 1}]})),
    "a line of a gigabyte's beginning": b"a,b\n1," + b"x" * (40 << 20),
    "a quote that never ends": b'a,b\n1,"' + b"x\n" * (5 << 20),
    "zipped zeros": gzip.compress(b"\0" * (20 << 20)),
    "xz": lzma.compress(b"a,b\n1,2\n"),
}
LIES = {
    "more rows than the groups": {"rows": 11},
    "fewer rows than the groups": {"rows": 9},
    "fewer rows than none": {"rows": -1},
    "2**62 rows": {"rows": 1 << 62},
    "a group of more rows": {"group_rows": 1 << 40, "rows": 1 << 40},
    "a group of fewer rows": {"group_rows": 5, "rows": 5},
    "a group of less than no rows": {"group_rows": -5, "rows": -5},
    "an offset before the file": {"data_offset": -4},
    "a chunk of a petabyte": {"chunk_bytes": 1 << 50},
    "a chunk of less than no bytes": {"chunk_bytes": -1},
    "a footer larger than the file": {"footer_bytes": 1 << 31},
    "a footer of three bytes": {"footer_bytes": 3},
    "more children than elements": {"schema": [{4: b"r", 5: forge.I32(1 << 30)}, _LEAF]},
    "fewer children than none": {"schema": [{4: b"r", 5: forge.I32(-1)}, _LEAF]},
    "no schema": {"schema": []},
    "a name that is not UTF-8": {"name": b"\xff\xfe"},
    "an Arrow schema of rubbish": {"meta": [{1: b"ARROW:schema", 2: b"/////rubbish"}]},
}
NAMES = {
    "the same twice": ("a", "b", "a"),
    "composed and decomposed": ("\u00e9", "e\u0301"),
    "a character of no width": ("a", "a\u200b"),
    "another direction": ("ab", "a\u202eb"),
    "a full-width letter": ("a", "\uff41"),
    "a Cyrillic letter": ("age", "\u0430ge"),
    "a Cyrillic capital": ("Age", "\u0410ge"),
    "a Greek capital": ("NAME", "\u039dAME"),
    "a space": ("a b", "ab"),
    "a ligature": ("file", "\ufb01le"),
    "a variation selector": ("a", "a\ufe0f"),
    "nothing": ("",),
    "nothing that shows": ("\u200b\u2060",),
}


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("what", BOMBS)
def test_a_bomb_is_refused_within_its_bounds(what: str, tmp_path: Path) -> None:
    refused(tmp_path, BOMBS[what])


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("what", LIES)
def test_a_footer_that_lies_is_refused(what: str, tmp_path: Path) -> None:
    refused(tmp_path, forge.repeated(b"x", 10, **LIES[what]))


@pytest.mark.usefixtures("warm")
def test_the_same_footer_without_a_lie_is_read(tmp_path: Path) -> None:
    assert seal(tmp_path, forge.repeated(b"x", 10)).rows == 10
    # Nobody reads these: what is in them cannot matter.
    harmless = {"version": 99, "group_bytes": -(1 << 40), "meta": [{1: b"\xff", 2: b"\xfe"}]}
    assert seal(tmp_path, forge.repeated(b"x", 10, **harmless)).rows == 10


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("how", NAMES)
def test_columns_that_nobody_can_tell_apart_are_refused(how: str, tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([1])] * len(NAMES[how]), names=list(NAMES[how]))
    refused(tmp_path, parquet_bytes(table))


@pytest.mark.usefixtures("warm")
def test_names_of_any_other_kind_are_kept_as_they_are(tmp_path: Path) -> None:
    names = (
        "a\0b",
        "\u202eevil",
        "\x1b[2J",
        "e\u0301",
        "हि",
        "हु",
        "=cmd|' /C calc'!A0",
        "  x",
        "名前",
    )
    version = seal(tmp_path, named(*names))
    assert tuple(column.name for column in version.columns) == names


@pytest.mark.usefixtures("warm")
def test_columns_that_differ_in_case_are_two_columns(tmp_path: Path) -> None:
    table = pa.table({"x": [1, 2], "X": ["a", "b"], "\u00e9": [3, 4], "\u00c9": [5, 6]})
    csv = b"x,X\n1,a\n2,b\n"
    assert read_back(register(tmp_path, parquet_bytes(table))).to_pydict() == table.to_pydict()
    assert read_back(register(tmp_path, csv)).to_pydict() == {"x": [1, 2], "X": ["a", "b"]}
    lines = b'{"x": 1, "X": "a"}\n{"X": "b", "x": 2}\n'
    assert read_back(register(tmp_path, lines)).to_pydict() == {"x": [1, 2], "X": ["a", "b"]}


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("zone", ["A" * (1 << 20), "../../etc/passwd", "a b", "\0"])
def test_a_time_zone_that_names_no_zone_is_refused(zone: str, tmp_path: Path) -> None:
    refused(tmp_path, zoned(zone))


@pytest.mark.usefixtures("warm")
def test_values_of_no_bytes_are_refused(tmp_path: Path) -> None:
    refused(tmp_path, ipc_bytes(pa.table({"a": pa.array([b"", b""], pa.binary(0))})))


@pytest.mark.usefixtures("warm")
def test_metadata_of_a_file_is_left_behind(tmp_path: Path) -> None:
    field = pa.field("a", pa.int64(), metadata={b"secret": b"canary-1"})
    table = pa.table([pa.array([1, None])], schema=pa.schema([field], metadata={b"pandas": b"{no"}))
    for content in (parquet_bytes(table), ipc_bytes(table)):
        version = seal(tmp_path, content)
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(version.schema)))
        assert not schema.metadata
        assert not schema.field(0).metadata


@pytest.mark.usefixtures("warm")
def test_numbers_that_are_none_and_formulas_are_values(tmp_path: Path) -> None:
    strange = [float("nan"), float("inf"), float("-inf"), None]
    for content in (parquet_bytes(pa.table({"a": strange})), b"a\nnan\ninf\n-inf\n1\n"):
        assert seal(tmp_path, content).rows == 4
    formulas = b"a,b\n=cmd|' /C calc'!A0,@x\n+1+1,-2\n"
    assert read_back(register(tmp_path, formulas)).to_pydict() == {
        "a": ["=cmd|' /C calc'!A0", "+1+1"],
        "b": ["@x", "-2"],
    }


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("extension", [".csv", ".parquet", ".arrow", ".exe"])
def test_the_content_decides_and_not_the_name(extension: str, tmp_path: Path) -> None:
    for content in (named("a"), ipc_bytes(pa.table({"a": [1]})), b"a\n1\n"):
        job = job_of(tmp_path, [content])
        files = (replace(job.files[0], name=f"x{extension}"),)
        assert seal_upload(replace(job, files=files), lambda _f, _t: None).rows == 1


@pytest.mark.usefixtures("warm")
def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    table = pa.table({"a": range(500), "b": [str(n) for n in range(500)]})
    for whole in (parquet_bytes(table), ipc_bytes(table)):
        for at in range(1, len(whole), max(1, len(whole) // 12)):
            refused(tmp_path, whole[:at])


PARQUET_TESTING = Path(os.environ.get("GATEWAY_CORPORA") or ROOT.parent / "shared/corpora")
PUBLISHED = sorted((PARQUET_TESTING / "parquet-testing").rglob("*.parquet*"))
UNUSUAL_BUT_SOUND = {"ARROW-GH-43605.parquet"}  # zero-width indexes: pyarrow reads them right


@pytest.mark.skipif(not PUBLISHED, reason="needs parquet-testing of GATEWAY_CORPORA")
@pytest.mark.usefixtures("warm")
def test_published_bad_and_encrypted_files_are_refused_and_say_why(tmp_path: Path) -> None:
    for path in PUBLISHED:
        if path.suffix == ".json":
            continue
        if path.name in UNUSUAL_BUT_SOUND:
            assert seal(tmp_path, path.read_bytes()).rows > 0
            continue
        refusal = refused(tmp_path, path.read_bytes())
        assert ("encrypted" in refusal.message) == path.name.endswith(".encrypted"), path.name


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


@pytest.mark.usefixtures("warm")
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
