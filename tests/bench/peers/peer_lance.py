"""Lance, by its own torch dataset."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import turns
from lance.torch.data import LanceDataset


def tokens(directory: Path) -> turns.Pass:
    def make(place: Path) -> None:
        rows = np.load(directory / "tokens.npy", mmap_mode="r")
        cells = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
        lance.write_dataset(pa.table({"tokens": cells}), str(place / "tokens.lance"))

    path = turns.ready(directory / "lance", make) / "tokens.lance"
    rows = LanceDataset(lance.dataset(str(path)), batch_size=256, columns=["tokens"])

    def one() -> Iterator[Any]:
        for batch in rows:
            yield batch["tokens"] if isinstance(batch, dict) else batch

    return one


if __name__ == "__main__":
    turns.take({"lance": tokens}, f"pylance {lance.__version__}")
