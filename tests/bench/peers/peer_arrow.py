"""np.memmap, Arrow IPC and Parquet by pyarrow: what is written by hand where nothing is sealed.

`pme-fsl` is the naive gateway: standard encrypted Parquet of lists, decoded by pyarrow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import turns
from pyarrow.parquet import encryption as pe

BATCH = 256
KEY = bytes(range(32))


def _tokens(directory: Path) -> np.ndarray:
    return np.load(directory / "tokens.npy", mmap_mode="r")


def memmap(directory: Path) -> turns.Pass:
    rows = _tokens(directory)
    return lambda: (rows[at : at + BATCH] for at in range(0, len(rows), BATCH))


def memmap_shuffled(directory: Path) -> turns.Pass:
    """A new global order of the rows in every pass."""
    rows, random = _tokens(directory), np.random.default_rng(7)

    def one() -> Iterator[np.ndarray]:
        order = random.permutation(len(rows))
        for at in range(0, len(rows), BATCH):
            yield np.take(rows, order[at : at + BATCH], axis=0)

    return one


def _table(directory: Path, *, binary: bool) -> Any:
    rows = _tokens(directory)
    width = rows.shape[1]
    if binary:
        cells = pa.py_buffer(rows.reshape(-1).view(np.uint8))
        kind = pa.binary(width * 4)
        column = pa.Array.from_buffers(kind, len(rows), [None, cells])
    else:
        column = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), width)
    return pa.table({"tokens": column})


def ipc_tokens(directory: Path) -> turns.Pass:
    def make(place: Path) -> None:
        table = _table(directory, binary=False)
        with pa.ipc.new_file(place / "tokens.arrow", table.schema) as out:
            out.write_table(table, max_chunksize=BATCH)

    return _mapped(turns.ready(directory / "ipc-tokens", make) / "tokens.arrow", _lists)


def ipc_blobs(directory: Path) -> turns.Pass:
    def make(place: Path) -> None:
        blobs = pq.read_table(directory / "blobs.parquet")
        with pa.ipc.new_file(place / "blobs.arrow", blobs.schema) as out:
            out.write_table(blobs, max_chunksize=BATCH)

    return _mapped(turns.ready(directory / "ipc-blobs", make) / "blobs.arrow", values)


def _mapped(path: Path, cells: Callable[[Any], np.ndarray]) -> turns.Pass:
    reader = pa.ipc.open_file(pa.memory_map(str(path)))

    def one() -> Iterator[np.ndarray]:
        for number in range(reader.num_record_batches):
            yield cells(reader.get_batch(number).column(0))

    return one


def _lists(column: Any) -> np.ndarray:
    return column.flatten().to_numpy()


def values(column: Any) -> np.ndarray:
    """The bytes of a binary column, in one piece."""
    wide = np.int64 if pa.types.is_large_binary(column.type) else np.int32
    _, offsets, data = column.buffers()
    ends = np.frombuffer(offsets, wide)[column.offset : column.offset + len(column) + 1]
    return np.frombuffer(data, np.uint8)[ends[0] : ends[-1]]


def _parquet(directory: Path, name: str, *, binary: bool, sealed: bool) -> turns.Pass:
    """The settings that pyarrow reads fastest; 16 MiB row groups, 256 KiB pages."""

    def make(place: Path) -> None:
        options: dict[str, Any] = {
            "compression": "none", "use_dictionary": False, "write_statistics": False,
            "row_group_size": 4096, "data_page_size": 256 << 10, "write_batch_size": 64,
        }  # fmt: skip
        if sealed:
            options["encryption_properties"] = pe.create_encryption_properties(footer_key=KEY)
        pq.write_table(_table(directory, binary=binary), place / "tokens.parquet", **options)

    path = turns.ready(directory / name, make) / "tokens.parquet"

    def one() -> Iterator[np.ndarray]:
        opened = pe.create_decryption_properties(footer_key=KEY) if sealed else None
        with pq.ParquetFile(path, decryption_properties=opened) as file:
            for batch in file.iter_batches(batch_size=BATCH):
                column = batch.column(0)
                if binary:
                    width = column.type.byte_width
                    data = np.frombuffer(column.buffers()[1], np.uint8)
                    yield data[column.offset * width : (column.offset + len(column)) * width]
                else:
                    yield _lists(column)

    return one


def plan_over_parquet(directory: Path) -> turns.Pass:
    """Encrypted Parquet, decoded, filtered and masked anew in every pass."""

    def make(place: Path) -> None:
        sealed = pe.create_encryption_properties(footer_key=KEY)
        people = pq.read_table(directory / "people.parquet")
        pq.write_table(people, place / "people.parquet", compression="zstd",
                       row_group_size=65_536, encryption_properties=sealed)  # fmt: skip

    path = turns.ready(directory / "pme-people", make) / "people.parquet"

    def one() -> Iterator[np.ndarray]:
        opened = pe.create_decryption_properties(footer_key=KEY)
        with pq.ParquetFile(path, decryption_properties=opened) as file:
            for batch in file.iter_batches(batch_size=8192):
                kept = batch.filter(pc.greater_equal(batch["age"], 18))
                age = kept["age"].to_numpy()
                masked = pa.array(age - age % 10)
                yield from columns([kept["id"], masked, kept["x0"], kept["x1"], kept["name"]])

    return one


def columns(found: list[Any]) -> Iterator[np.ndarray]:
    """Each column's bytes of a batch: its values, without offsets and gaps."""
    for column in found:
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            yield values(column.cast(pa.large_binary()))
        else:
            yield pc.fill_null(column, 0).to_numpy()


LOADERS: dict[str, Callable[[Path], turns.Pass]] = {
    "memmap": memmap,
    "memmap-shuffled": memmap_shuffled,
    "ipc-tokens": ipc_tokens,
    "ipc-blobs": ipc_blobs,
    "parquet-fsb": lambda d: _parquet(d, "parquet-fsb", binary=True, sealed=False),
    "parquet-fsl": lambda d: _parquet(d, "parquet-fsl", binary=False, sealed=False),
    "pme-fsl": lambda d: _parquet(d, "pme-fsl", binary=False, sealed=True),
    "pme-people": plan_over_parquet,
}

if __name__ == "__main__":
    turns.take(LOADERS, f"numpy {np.__version__}, pyarrow {pa.__version__}")
