"""Our own loader, as a trainer uses it; the server is another process tree (loaders.py)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import peer_arrow
import pyarrow as pa
import turns

import gateway
from connectors.loaders.numpy import GatewayBatches

PURPOSE = "product-training"


def _open(dataset: str, *, shuffle: bool, output: str, **more: Any) -> GatewayBatches:
    return GatewayBatches(dataset, purpose=PURPOSE, shuffle=shuffle, output=output,
                          run="run:loaders", **more)  # fmt: skip


def tokens(_: Path) -> turns.Pass:
    batches = _open("home/tokens", shuffle=False, output="numpy")
    return lambda: (batch["tokens"] for batch in batches)


def tokens_shuffled(_: Path) -> turns.Pass:
    batches = _open("home/tokens", shuffle=True, output="numpy", seed=7)
    return lambda: (batch["tokens"] for batch in batches)


def blobs(_: Path) -> turns.Pass:
    batches = _open("home/blobs", shuffle=False, output="arrow")

    def one() -> Iterator[np.ndarray]:
        for batch in batches:
            yield peer_arrow.values(batch.column(0))

    return one


def people(_: Path) -> turns.Pass:
    """The filter `age >= 18` and the mask of `name` are rules; nothing here says them."""
    batches = _open("home/people", shuffle=False, output="arrow", batch_size=8192)

    def one() -> Iterator[np.ndarray]:
        for batch in batches:
            names = ("id", "age", "x0", "x1", "name")
            yield from peer_arrow.columns([batch.column(name) for name in names])

    return one


if __name__ == "__main__":
    turns.take(
        {
            "gateway": tokens,
            "gateway-shuffled": tokens_shuffled,
            "gateway-blobs": blobs,
            "gateway-people": people,
        },
        f"gateway {gateway.__version__ if hasattr(gateway, '__version__') else ''}, "
        f"pyarrow {pa.__version__}",
    )
