"""MosaicML streaming: MDS shards by a torch DataLoader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import streaming
import turns
from torch.utils.data import DataLoader


def tokens(directory: Path) -> turns.Pass:
    rows = np.load(directory / "tokens.npy", mmap_mode="r")
    share = rows[: max(256, len(rows) // 16)]  # it is slow: its rate over a part of the rows

    def make(place: Path) -> None:
        columns = {"tokens": f"ndarray:int32:{rows.shape[1]}"}
        with streaming.MDSWriter(out=str(place / "mds"), columns=columns) as out:
            for row in share:
                out.write({"tokens": np.array(row)})

    streaming.base.util.clean_stale_shared_memory()
    place = turns.ready(directory / "mosaic", make) / "mds"
    dataset = streaming.StreamingDataset(local=str(place), shuffle=False, batch_size=256)
    loader = DataLoader(dataset, batch_size=256, num_workers=0)
    return lambda: (batch["tokens"] for batch in loader)


if __name__ == "__main__":
    turns.take({"mosaic": tokens}, f"mosaicml-streaming {streaming.__version__}")
