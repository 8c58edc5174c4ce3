"""Hugging Face datasets: by a torch DataLoader, and by its fastest way, Arrow batches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import torch
import turns
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler


def _dataset(directory: Path) -> Any:
    def make(place: Path) -> None:
        rows = np.load(directory / "tokens.npy", mmap_mode="r")
        cells = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
        datasets.Dataset(pa.table({"tokens": cells})).save_to_disk(str(place / "tokens"))

    return datasets.load_from_disk(str(turns.ready(directory / "hf", make) / "tokens"))


def loader(directory: Path) -> turns.Pass:
    """Whole batches of a mapped dataset by a sampler; in int32, which it would widen to int64."""
    rows = _dataset(directory).with_format("torch", dtype=torch.int32)
    batches = BatchSampler(SequentialSampler(rows), batch_size=256, drop_last=False)
    found = DataLoader(rows, sampler=batches, batch_size=None, num_workers=0)
    return lambda: (batch["tokens"] for batch in found)


def arrow(directory: Path) -> turns.Pass:
    rows = _dataset(directory).with_format("arrow")

    def one() -> Iterator[np.ndarray]:
        for batch in rows.iter(batch_size=256):
            for chunk in batch["tokens"].chunks:
                yield chunk.flatten().to_numpy()

    return one


if __name__ == "__main__":
    turns.take({"hf-loader": loader, "hf-arrow": arrow}, f"datasets {datasets.__version__}")
