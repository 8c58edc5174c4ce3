"""litData: tokens by its TokensLoader, blobs as bytes; one process, which is faster here."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import litdata
import numpy as np
import pyarrow.parquet as pq
import torch
import turns
from litdata.streaming.item_loader import TokensLoader

SHARE = 4096  # rows that one call of `optimize` takes


def _rows(path: str, first: int) -> Iterator[torch.Tensor]:
    rows = np.load(path, mmap_mode="r")[first : first + SHARE]
    yield torch.from_numpy(np.array(rows).reshape(-1))


def _blobs(path: str, group: int) -> Iterator[bytes]:
    for value in pq.ParquetFile(path).read_row_group(group).column(0):
        yield value.as_py()


def _tokens(directory: Path, *, shuffle: bool) -> turns.Pass:
    path = str(directory / "tokens.npy")
    width, count = np.load(path, mmap_mode="r").shape[::-1]

    def make(place: Path) -> None:
        litdata.optimize(fn=partial(_rows, path), inputs=list(range(0, count, SHARE)),
                         output_dir=str(place / "tokens"), chunk_bytes="64MB", num_workers=1,
                         item_loader=TokensLoader(block_size=width))  # fmt: skip

    at = turns.ready(directory / "litdata-tokens", make) / "tokens"
    rows = litdata.StreamingDataset(str(at), item_loader=TokensLoader(block_size=width),
                                    shuffle=shuffle)  # fmt: skip
    return lambda: litdata.StreamingDataLoader(rows, batch_size=256, num_workers=0)


def blobs(directory: Path) -> turns.Pass:
    path = str(directory / "blobs.parquet")

    def make(place: Path) -> None:
        groups = list(range(pq.ParquetFile(path).num_row_groups))
        litdata.optimize(fn=partial(_blobs, path), inputs=groups,
                         output_dir=str(place / "blobs"), chunk_bytes="64MB",
                         num_workers=1)  # fmt: skip

    at = turns.ready(directory / "litdata-blobs", make) / "blobs"
    rows = litdata.StreamingDataset(str(at), shuffle=False)

    def one() -> Iterator[Any]:
        loader = litdata.StreamingDataLoader(rows, batch_size=256, collate_fn=list, num_workers=0)
        for batch in loader:
            yield from turns.of_bytes(batch)

    return one


if __name__ == "__main__":
    turns.take(
        {
            "litdata": lambda d: _tokens(d, shuffle=False),
            "litdata-shuffled": lambda d: _tokens(d, shuffle=True),
            "litdata-blobs": blobs,
        },
        f"litdata {litdata.__version__}",
    )
