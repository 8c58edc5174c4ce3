"""JSON lines, CSV and files in partitions: refused with the line, or read as what they are."""

from __future__ import annotations

import datetime as dt
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from gateway.errors import SourceRefused
from gateway.shards.csv_source import CsvSource
from gateway.shards.ingest import seal_upload
from gateway.shards.job import UploadedFile
from gateway.shards.json_source import JsonSource
from gateway.shards.sources import kind_of
from tests.shards.kit import Registered, job_of, parquet_bytes, read_back, register


def lines(*objects: str) -> bytes:
    return "\n".join(objects).encode() + b"\n"


FILLER = tuple('{"a": 1, "b": {"c": [1, 2.5]}, "s": "text"}' for _ in range(90_000))  # two blocks
REFUSED = {
    "a number that becomes text": (lines('{"a": 1}', '{"a": 2}', '{"a": "x"}'), "line 3: `a`"),
    "text in the second block": (lines(*FILLER, '{"a": "x"}'), "line 90001: `a`"),
    "a nested change": (lines(*FILLER, '{"b": {"c": "x"}}'), r"line 90001: `b\.c`"),
    "a struct that becomes a list": (lines('{"a": {"b": 1}}', '{"a": [1]}'), "line 2: `a`"),
    "a field twice": (lines('{"a": 1}', '{"b": 1, "b": 2}'), "line 2 has a field twice"),
    "no object": (lines('{"a": 1}', "", "rubbish"), "line 3 is not a JSON object"),
    "an array alone": (lines('{"a": 1}', "[1]"), "line 2 is not a JSON object"),
    "one array": (b'[{"a": 1}]', "one JSON array"),
    "half a line": (lines('{"a": 1}') + b'{"a": ', "line 2 is not a JSON object"),
    "other text than UTF-8": (b'{"a": "x"}\n{"a": "\xe4"}\n', "line 2 is not UTF-8"),
    "no field": (b"{}\n{}\n", "no fields"),
    "a number of 65 bits": (lines('{"a": 1}', f'{{"a": {2**63}}}'), "line 2 .* 64 bits"),
    "a number of 65 bits within": (lines('{"a": [{"b": [-9223372036854775809]}]}'), "line 1 .* 64"),
    "a number of 65 bits, later": (lines(*FILLER, '{"d": 18446744073709551615}'), "line 90001 has"),
    "an id among fractions": (lines('{"a": 0.5}', '{"a": 9007199254740993}'), "line 2 .* round"),
    "ids, a fraction in the second block": (
        lines('{"a": 9007199254740993}', *FILLER, '{"a": 0.5}'),
        "line 1 .* round",
    ),
    "an id among fractions within": (
        lines('{"l": [{"x": 0.5}, {"x": -9007199254740993}]}'),
        "line 1 .* round",
    ),
    "two objects in a line": (
        lines('{"a": 0.5} {"a": 90071992547409920}'),
        "line 1 is not a JSON object",
    ),
    "a line without end": (b'{"a": "' + b"x" * (20 << 20) + b'"}\n', "longer than 16 MiB"),
}


class Bytes(io.BytesIO):
    """An uploaded file as the parser sees it."""

    @property
    def size(self) -> int:
        return len(self.getbuffer())


def opened(content: bytes) -> JsonSource:
    assert kind_of(Bytes(content)) == "jsonl"
    return JsonSource(Bytes(content), lambda _: None)


def test_whole_numbers_of_64_bits_are_exact_and_digits_in_text_are_text() -> None:
    ends = [-(2**63), 2**63 - 1]
    long = "9" * 40
    content = lines(
        *(f'{{"a": {n}, "t": "{long} \\" {long}", "x": {long}.5}}' for n in ends),
        f'{{"a": 0, "t": "", "x": {long}e3}}',
    )
    source = opened(content)
    (batch,) = source.batches()
    assert batch.schema.field("a").type == pa.int64()
    assert batch.column("a").to_pylist() == [*ends, 0]
    assert batch.column("t")[0].as_py() == f'{long} " {long}'
    assert batch.column("x")[2].as_py() == float(f"{long}e3")


@pytest.mark.parametrize("name", REFUSED)
def test_json_lines_that_contradict_themselves_are_refused_by_line(name: str) -> None:
    content, text = REFUSED[name]
    with pytest.raises(SourceRefused, match=text) as refused:
        list(opened(content).batches())
    assert refused.value.advice
    assert "rubbish" not in refused.value.message  # values are not quoted


def test_depth_that_kills_a_parser_is_a_refusal(tmp_path: Path) -> None:
    deep = b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"
    with pytest.raises(SourceRefused):
        register(tmp_path, deep)


def test_json_lines_keep_their_nested_values(tmp_path: Path) -> None:
    content = lines(
        '\ufeff{"id": 1, "who": {"name": "ü", "tags": ["x"]}, "when": "2024-05-01T12:00:00Z"}',
        "",
        '{"id": 2.5, "who": {"age": 7}, "when": "no time"}',
        '{"who": null, "extra": [{"k": true}]}',
    )
    registered = register(tmp_path, content)
    assert registered.sealed.formats == ("jsonl",)
    assert read_back(registered).to_pylist() == [
        {"id": 1.0, "who": {"name": "ü", "tags": ["x"], "age": None},
         "when": "2024-05-01T12:00:00Z", "extra": None},
        {"id": 2.5, "who": {"name": None, "tags": None, "age": 7},
         "when": "no time", "extra": None},
        {"id": None, "who": None, "when": None, "extra": [{"k": True}]},
    ]  # fmt: skip


def test_a_type_that_widens_late_holds_for_every_row_and_file(tmp_path: Path) -> None:
    registered = register(tmp_path, lines(*FILLER), lines('{"a": 0.5, "late": 1}'))
    table = read_back(registered)
    assert table.schema.field("a").type == pa.float64()
    assert table.num_rows == 90_001
    assert table.column("late").null_count == 90_000
    assert table.slice(90_000).to_pylist()[0]["a"] == 0.5


def test_whole_numbers_without_gaps_are_stored_to_stream_directly(tmp_path: Path) -> None:
    registered = register(tmp_path, lines('{"a": 1, "b": 2}', '{"b": 3, "a": 4}'))
    assert registered.sealed.profile == "train"


ROUNDED = {
    "2^63": (b"a\n1\n9223372036854775809\n", "row 2 "),
    "below -2^63": (b"a\n-9223372036854775809\n", "row 1 "),
    "among fractions": (b"a,b\nx,1.5\ny, 9007199254740993\n", "row 2 "),
    "quoted": (b'a,b\n"x\ny",1.5\n\ny,"+9007199254740993"\n', "row 2 "),
    "in the second block": (
        b"a\n" + b"1\n" * 1_500_000 + b"18446744073709551615\n",
        "row 1500001 ",
    ),
    "of 400 digits": (b"a\n1\n" + b"7" * 400 + b"\n", "row 2 "),
}


@pytest.mark.parametrize("name", ROUNDED)
def test_a_whole_number_that_would_be_rounded_is_refused_by_row(name: str) -> None:
    content, place = ROUNDED[name]
    with pytest.raises(SourceRefused, match=f"{place}has a whole number") as refused:
        CsvSource(Bytes(content), lambda _: None)
    assert "as text" in (refused.value.advice or "")


def test_an_id_among_fractions_of_another_file_is_refused(tmp_path: Path) -> None:
    for ids, fractions in (
        (b"a\n9007199254740993\n", b"a\n0.5\n"),
        (lines('{"a": 9007199254740993}'), lines('{"a": 0.5}')),
    ):
        for files in ((ids, fractions), (fractions, ids)):
            with pytest.raises(SourceRefused, match="would round"):
                register(tmp_path, *files)


def test_large_numbers_that_a_fraction_holds_are_kept() -> None:
    content = b"a,b\n0.5,1\n18446744073709551616,9223372036854775807\n1e300,2\n-inf,3\nnan,4\n"
    (batch,) = CsvSource(Bytes(content), lambda _: None).batches()
    assert batch.column("a").to_pylist()[1:4] == [2.0**64, 1e300, float("-inf")]
    assert batch.column("b").to_pylist()[1] == 2**63 - 1
    (batch,) = opened(lines('{"a": 0.5}', f'{{"a": {2**62}, "b": {2**53 + 1}}}')).batches()
    assert batch.to_pylist()[1] == {"a": 2.0**62, "b": 2**53 + 1}


def test_an_empty_cell_is_a_missing_value_and_na_stays_text(tmp_path: Path) -> None:
    content = b'n,t\tu,country\n1,"a;b",NA\n,"",DE\nNA,x,\n'
    assert read_back(register(tmp_path, content)).to_pylist() == [
        {"n": 1, "t\tu": "a;b", "country": "NA"},
        {"n": None, "t\tu": None, "country": "DE"},
        {"n": None, "t\tu": "x", "country": None},
    ]


def test_tab_separated_values_are_read_with_and_without_a_mark(tmp_path: Path) -> None:
    rows = [{"a": 1, "b": "x,y"}, {"a": 2, "b": None}]
    for mark in (b"", b"\xef\xbb\xbf"):
        source = CsvSource(Bytes(mark + b"a\tb\n1\tx,y\n2\t\n"), lambda _: None)
        assert pa.Table.from_batches(list(source.batches())).to_pylist() == rows
        assert source.whole(lambda _: None) == {0}


def partitioned(folder: Path, *files: tuple[dict[str, str], Any]) -> Registered:
    job = job_of(folder, [parquet_bytes(table) for _, table in files])
    named = tuple(
        UploadedFile(name=file.name, parts=file.parts, partition=partition)
        for file, (partition, _) in zip(job.files, files, strict=True)
    )
    sealed = seal_upload(replace(job, files=named), lambda _f, _t: None)
    return Registered(sealed, sealed.manifest("clinic/icu", card={}))


def test_partitions_become_columns_of_stated_types(tmp_path: Path) -> None:
    table = pa.table({"x": [1.5]})
    registered = partitioned(
        tmp_path,
        ({"year": "2023", "day": "2023-01-05", "site": "007"}, table),
        ({"year": "2024", "day": "2024-02-29", "site": "__HIVE_DEFAULT_PARTITION__"}, table),
    )
    assert read_back(registered).to_pylist() == [
        {"x": 1.5, "year": 2023, "day": dt.date(2023, 1, 5), "site": "007"},
        {"x": 1.5, "year": 2024, "day": dt.date(2024, 2, 29), "site": None},
    ]


def test_partitions_that_disagree_are_refused(tmp_path: Path) -> None:
    table = pa.table({"x": [1.5]})
    with pytest.raises(SourceRefused, match="other partitions"):
        partitioned(tmp_path, ({"year": "1"}, table), ({}, table))
    with pytest.raises(SourceRefused, match="`x` is in the file and in its directory"):
        partitioned(tmp_path, ({"x": "1"}, table))


def test_files_of_two_schemas_are_refused_with_file_and_difference(tmp_path: Path) -> None:
    one, other = (parquet_bytes(pa.table({"a": [1], name: [1]})) for name in ("b", "c"))
    with pytest.raises(
        SourceRefused, match="`file1` has other columns than the first file: no `b`"
    ):
        register(tmp_path, one, other)
    with pytest.raises(SourceRefused, match="column `a` of `file1` is `double`"):
        register(
            tmp_path, parquet_bytes(pa.table({"a": [1]})), parquet_bytes(pa.table({"a": [0.5]}))
        )
