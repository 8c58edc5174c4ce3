"""Parquet files that others encrypted: the published ones, and what can be done to them.

Keys and prefix as data/README.md of parquet-testing states them; values as its makers'
formulas give them, and as polars, which shares no code with pyarrow, reads them.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from connectors.sources.decryption_keys import FORMAT, read_keys
from gateway.client.sources import files_of, parts_of
from gateway.domain import compact
from gateway.errors import ConfigError, GatewayError, InvalidInput, NotFound

ROOT = Path(__file__).resolve().parents[2]
CORPORA = Path(os.environ.get("GATEWAY_CORPORA") or ROOT.parent / "shared/corpora")
DATA = CORPORA / "parquet-testing" / "data"
VECTORS = ROOT / "tests" / "vectors" / "decryption-keys-v1"
published = pytest.mark.skipif(
    not DATA.is_dir(), reason="needs parquet-testing of others (GATEWAY_CORPORA)"
)
PREFIX = b"tester"
FOOTER = b"0123456789012345"
COLUMNS = {"double_field": b"1234567890123450", "float_field": b"1234567890123451"}
_TEN = b"1234567890" * 3
FOOTER_256 = b"0123456789012345678901234567890" + b"1"
COLUMNS_256 = {
    name: _TEN + b"1%d" % number
    for number, name in enumerate(
        ("double_field", "float_field", "boolean_field", "int32_field", "ba_field",
         "flba_field", "int64_field.list.element", "int96_field"), 2,
    )
}  # fmt: skip
GOOD = ["encrypt_columns_and_footer", "encrypt_columns_plaintext_footer", "uniform_encryption",
        "encrypt_columns_and_footer_aad", "encrypt_columns_and_footer_disable_aad_storage",
        "aes256/encrypt_columns_and_footer", "aes256/encrypt_columns_plaintext_footer",
        "aes256/encrypt_columns_and_footer_disable_aad_storage",
        "aes256/uniform_encryption"]  # fmt: skip
WITH_PREFIX = {name for name in GOOD if "aad" in name}
BLOOM = "encrypt_columns_and_footer_bloom_filter"


def path_of(name: str) -> Path:
    return DATA / f"{name}.parquet.encrypted"


def text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def value_of(footer: bytes, columns: Mapping[str, bytes], prefix: bytes | None) -> dict[str, Any]:
    value: dict[str, Any] = {
        "format": FORMAT,
        "footer_key": text(footer),
        "column_keys": {name: text(key) for name, key in columns.items()},
    }
    return value if prefix is None else {**value, "aad_prefix": text(prefix)}


def keys_for(name: str, **other: Any) -> dict[str, Any]:
    is_256 = name.startswith("aes256/")
    value = value_of(
        FOOTER_256 if is_256 else FOOTER,
        COLUMNS_256 if is_256 else COLUMNS,
        PREFIX if name in WITH_PREFIX else None,
    )
    return {k: v for k, v in {**value, **other}.items() if v is not None}


@pytest.fixture
def key_file(tmp_path: Path) -> Callable[[Any], Path]:
    def write(value: Any) -> Path:
        path = tmp_path / "keys & more.json"
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_text(value if isinstance(value, str) else json.dumps(value), "utf-8")
        return path

    return write


def read(path: Path, keys: Path) -> Any:
    (file,) = files_of([path], decrypt_with=keys)
    with file.open() as opened:
        sent = b"".join(parts_of(opened, 1 << 20))
    return pa.ipc.open_stream(sent).read_all()


def refused(path: Path, keys: Path) -> str:
    with pytest.raises(GatewayError) as refusal:
        read(path, keys)
    return f"{refusal.value.message}; {refusal.value.advice}"


def row(n: int, *, is_nullable: bool = True) -> dict[str, Any]:
    """What the makers of the files wrote as row `n`."""
    single = struct.unpack("f", struct.pack("f", n * 1.1))[0]
    return {
        "boolean_field": n % 2 == 0,
        "int64_field": [2 * n * 10**12, (2 * n + 1) * 10**12],
        "float_field": pytest.approx(single, rel=1e-6),
        "double_field": pytest.approx(n * 1.1111111),
        "ba_field": b"parquet%03d" % n if n % 2 == 0 else None,
        "flba_field": bytes([n]) * 10,
    }


def int96(n: int) -> int:
    """Julian day and nanoseconds of row `n`, wrapped into 64 bits as pyarrow does."""
    nanoseconds = (n + 2 - 2_440_588) * 86_400 * 10**9 + (n + ((n + 1) << 32))
    return (nanoseconds + 2**63) % 2**64 - 2**63


# refusals first


@published
@pytest.mark.parametrize("folder", ["", "aes256/"])
def test_ctr_is_refused_before_any_value_and_says_why(folder: str, key_file: Any) -> None:
    name = f"{folder}encrypt_columns_and_footer_ctr"
    keys = key_file(keys_for(name))
    with pytest.raises(InvalidInput, match="changed bit would go unnoticed") as refusal:
        files_of([path_of(name)], decrypt_with=keys)  # nothing was opened for reading yet
    assert "AES_GCM_CTR_V1" in refusal.value.message
    assert "AES_GCM_V1" in str(refusal.value.advice)


@published
@pytest.mark.parametrize("name", GOOD)
def test_wrong_keys_and_prefixes_are_told_apart(name: str, key_file: Any) -> None:
    path = path_of(name)
    right = keys_for(name)
    wrong = text(b"x" * len(base64.b64decode(right["footer_key"])))
    assert "footer does not open" in refused(path, key_file({**right, "footer_key": wrong}))
    said = refused(path, key_file({**right, "aad_prefix": text(b"other")}))
    assert ("another AAD prefix" in said) == (name == "encrypt_columns_and_footer_aad")
    assert wrong not in said
    if name.endswith("disable_aad_storage"):
        assert "needs an AAD prefix" in refused(path, key_file(keys_for(name, aad_prefix=None)))
    if "uniform" in name:
        return
    columns = right["column_keys"]
    said = refused(path, key_file({**right, "column_keys": {**columns, "double_field": wrong}}))
    assert "the key does not open `double_field`" in said
    without = {k: v for k, v in columns.items() if k != "float_field"}
    assert "no key for `float_field`" in refused(path, key_file({**right, "column_keys": without}))


@published
def test_keys_of_a_key_service_must_be_unwrapped_first(key_file: Any) -> None:
    """External key material: a master key is refused with the reason, the data keys open it."""
    path = path_of("external_key_material_java")
    assert "wrapped by a key service" in refused(path, key_file(keys_for(path.name)))
    material = json.loads((DATA / f"_KEY_MATERIAL_FOR_{path.stem}.encrypted.json").read_text())
    masters = {"kf": FOOTER, "kc1": COLUMNS["double_field"], "kc2": COLUMNS["float_field"]}
    found = {}
    for name, described in material.items():
        one = json.loads(described)
        master = one["masterKeyID"]
        outer = base64.b64decode(one["wrappedKEK"])
        kek = AESGCM(masters[master]).decrypt(outer[:12], outer[12:], master.encode())
        inner = base64.b64decode(one["wrappedDEK"])
        kek_id = base64.b64decode(one["keyEncryptionKeyID"])
        found[name] = AESGCM(kek).decrypt(inner[:12], inner[12:], kek_id)
    columns = {"integers": found["columnKey0"], "strings": found["columnKey1"]}
    table = read(path, key_file(value_of(found["footerKey"], columns, None)))
    given = pl.ParquetDecryptionProperties(footer_key=found["footerKey"], column_keys=columns)
    assert table.num_rows > 0
    assert pl.from_arrow(table).equals(  # type: ignore[union-attr]
        pl.read_parquet(path, decryption=given)
    )


def test_a_file_in_clear_is_not_taken_for_an_encrypted_one(tmp_path: Path, key_file: Any) -> None:
    pq.write_table(pa.table({"a": [1, 2]}), tmp_path / "clear.parquet")
    keys = key_file(value_of(FOOTER, {}, None))
    assert "is not encrypted" in refused(tmp_path / "clear.parquet", keys)
    for other in (b"", b"PARE", b"a,b\n1,2\n", b"PARE" + bytes(60) + b"PARE", b"PAR1" * 3):
        (tmp_path / "other").write_bytes(other)
        assert refused(tmp_path / "other", keys)
    assert "cannot be read: No such file" in refused(tmp_path / "none", keys)


def test_only_files_of_this_machine_are_decrypted(key_file: Any) -> None:
    keys = key_file(value_of(FOOTER, {}, None))
    for source in ("-", "s3://bucket/a.parquet", "sqlite:///a.db", pa.table({"a": [1]})):
        with pytest.raises(InvalidInput, match="on this machine"):
            files_of([source], decrypt_with=keys)


@pytest.mark.parametrize("vector", sorted(VECTORS.glob("*.json")), ids=lambda p: p.stem)
def test_a_key_file_says_what_the_format_says_or_is_refused(vector: Path, key_file: Any) -> None:
    path = key_file(vector.read_text("utf-8"))
    if vector.name.startswith("ok-"):
        keys = read_keys(path)
        assert (keys.footer, keys.aad_prefix) == (FOOTER, PREFIX)
        assert keys.columns == COLUMNS
        assert FOOTER.decode() not in repr(keys)
        return
    with pytest.raises(InvalidInput) as refusal:
        read_keys(path)
    assert "is no file of decryption keys" in refusal.value.message
    assert text(FOOTER) not in str(refusal.value)


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path, key_file: Any) -> None:
    path = key_file(value_of(FOOTER, {}, None))
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="can be reached by others"):
        read_keys(path)
    with pytest.raises(NotFound):
        read_keys(tmp_path / "none")


# swapped and changed


def sealed_by_polars(path: Path, values: list[int], prefix: bytes | None = None) -> dict[str, Any]:
    """Another writer, with column keys and a prefix that the file does not hold."""
    columns = {"a": b"a" * 32, "ü, b": b"b" * 32}
    pl.DataFrame({"a": values, "ü, b": [str(v) for v in values]}).write_parquet(
        path,
        encryption=pl.ParquetEncryptionProperties(
            footer_key=b"f" * 32, column_keys=columns, aad_prefix=prefix,
            **({} if prefix is None else {"store_aad_prefix": False}),
        ),
        row_group_size=100,
    )  # fmt: skip
    return value_of(b"f" * 32, columns, prefix)


def test_a_file_of_polars_with_column_keys_is_read(tmp_path: Path, key_file: Any) -> None:
    path = tmp_path / "p.parquet"
    keys = key_file(sealed_by_polars(path, list(range(350)), b"which file"))
    assert read(path, keys)["a"].to_pylist() == list(range(350))
    assert read(path, keys)["ü, b"].to_pylist()[-1] == "349"


def test_a_file_swapped_for_another_under_the_same_keys_is_refused_by_its_prefix(
    tmp_path: Path, key_file: Any
) -> None:
    keys = key_file(sealed_by_polars(tmp_path / "meant.parquet", [1, 2], b"meant"))
    sealed_by_polars(tmp_path / "other.parquet", [3, 4], b"other")
    assert "or another file" in refused(tmp_path / "other.parquet", keys)


def test_what_is_changed_anywhere_is_refused_and_never_ends_the_process(
    tmp_path: Path, key_file: Any
) -> None:
    """In a child: pyarrow ends the process where it meets a column that it cannot open."""
    path = tmp_path / "p.parquet"
    keys = key_file(sealed_by_polars(path, list(range(250))))
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from gateway.errors import GatewayError\n"
        "from tests.contracts.test_encrypted_sources import read\n"
        "path, keys, step = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])\n"
        "whole = path.read_bytes()\nclear = read(path, keys)\nrefused = 0\n"
        "for at in range(0, len(whole), step):\n"
        "    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1:])\n"
        "    try: table = read(path, keys)\n"
        "    except GatewayError: refused += 1\n"
        "    else: assert table.equals(clear), at\n"
        "print(refused, len(range(0, len(whole), step)))"
    )
    command = [sys.executable, "-c", program, str(path), str(keys), "29"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    refusals, tries = map(int, done.stdout.split())
    assert tries > 100
    assert refusals > tries * 0.8  # the rest lies in indexes, which nothing here reads


def test_pages_and_columns_of_another_file_are_refused(tmp_path: Path, key_file: Any) -> None:
    """Two files of the same shape under the same keys: their pages cannot be exchanged."""
    one, other = tmp_path / "1.parquet", tmp_path / "2.parquet"
    keys = key_file(sealed_by_polars(one, list(range(100, 200))))
    sealed_by_polars(other, list(range(200, 300)))
    mixed, whole = bytearray(other.read_bytes()), one.read_bytes()
    mixed[4 : len(mixed) // 3] = whole[4 : len(mixed) // 3]
    other.write_bytes(bytes(mixed))
    assert "does not open" in refused(other, keys)


# what is read


@published
@pytest.mark.parametrize("name", GOOD)
def test_the_published_files_are_read_to_the_right_values(name: str, key_file: Any) -> None:
    table = read(path_of(name), key_file(keys_for(name)))
    assert table.num_rows == 50
    assert table.schema.field("int32_field").type == pa.time32("ms")
    assert table["int32_field"].cast(pa.int32()).to_pylist() == list(range(50))
    assert table["int96_field"].cast(pa.int64()).to_pylist() == [int96(n) for n in range(50)]
    rows = table.drop_columns(["int32_field", "int96_field"]).to_pylist()
    assert rows == [row(n) for n in range(50)]


@published
def test_bloom_filters_are_no_hindrance(key_file: Any) -> None:
    table = read(path_of(BLOOM), key_file(value_of(FOOTER, COLUMNS, None)))
    properties = pl.ParquetDecryptionProperties(footer_key=FOOTER, column_keys=COLUMNS)
    expected = pl.read_parquet(path_of(BLOOM), decryption=properties)
    assert table.num_rows == 2000
    assert pl.from_arrow(table).equals(expected)  # type: ignore[union-attr]


@published
def test_a_directory_of_them_keeps_names_and_partitions(tmp_path: Path, key_file: Any) -> None:
    place = tmp_path / "data" / "year=2024"
    place.mkdir(parents=True)
    shutil.copy(path_of(GOOD[0]), place / "a.parquet")
    keys = key_file(keys_for(GOOD[0]))
    (file,) = files_of([tmp_path / "data"], decrypt_with=keys)
    assert (file.name, dict(file.partition), file.bytes) == (
        "year=2024/a.parquet", {"year": "2024"}, None
    )  # fmt: skip


@published
def test_a_stored_prefix_is_taken_where_none_is_given(key_file: Any) -> None:
    name = "encrypt_columns_and_footer_aad"
    assert read(path_of(name), key_file(keys_for(name, aad_prefix=None))).num_rows == 50


def test_a_footer_is_written_back_as_it_was_read(tmp_path: Path) -> None:
    schema = pa.schema([pa.field(f"c{n}", pa.list_(pa.int32())) for n in range(40)])
    table = pa.Table.from_pylist([{f"c{n}": [n] for n in range(40)}] * 9, schema)
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    raw = (tmp_path / "t.parquet").read_bytes()
    footer = raw[-8 - int.from_bytes(raw[-8:-4], "little") : -8]
    struct_, end = compact.read(footer)
    assert end == len(footer)
    assert compact.write(struct_) == footer
    for at in range(0, len(footer), len(footer) // 60):
        with pytest.raises(InvalidInput):
            compact.read(footer[:at])


def test_a_uniform_file_of_pyarrow_with_a_prefix_is_read(tmp_path: Path, key_file: Any) -> None:
    path = tmp_path / "u.parquet"
    properties = pe.create_encryption_properties(
        b"k" * 24, aad_prefix=b"here", store_aad_prefix=False, plaintext_footer=True
    )
    table = pa.table({"a": list(range(60_000))})
    pq.write_table(table, path, encryption_properties=properties, row_group_size=25_000)
    assert read(path, key_file(value_of(b"k" * 24, {}, b"here"))).equals(table)
