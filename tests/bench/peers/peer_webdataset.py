"""webdataset: tar files of single samples."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import turns
import webdataset as wds


def _urls(place: Path, samples: Iterator[bytes]) -> None:
    with wds.ShardWriter(f"file:{place}/%06d.tar", maxsize=256 << 20, verbose=0) as out:
        for number, data in enumerate(samples):
            out.write({"__key__": f"{number:09d}", "bin": data})


def _reader(place: Path) -> Any:
    urls = [f"file:{path}" for path in sorted(place.glob("*.tar"))]
    return wds.WebDataset(urls, shardshuffle=False, empty_check=False).to_tuple("bin")


def tokens(directory: Path) -> turns.Pass:
    rows = np.load(directory / "tokens.npy", mmap_mode="r")
    share = rows[: max(256, len(rows) // 16)]  # it is slow: its rate over a part of the rows
    place = turns.ready(
        directory / "webdataset-tokens", lambda p: _urls(p, (row.tobytes() for row in share))
    )

    def one() -> Iterator[np.ndarray]:
        reader = _reader(place).batched(256, partial=True, collation_fn=list)
        for batch in reader:
            yield np.stack([np.frombuffer(data, np.int32) for (data,) in batch])

    return one


def blobs(directory: Path) -> turns.Pass:
    def make(place: Path) -> None:
        blobs = np.load(directory / "blobs.npy", mmap_mode="r")
        ends = np.load(directory / "blobs-ends.npy")
        samples = zip([0, *ends[:-1]], ends, strict=True)
        _urls(place, (blobs[begin:end].tobytes() for begin, end in samples))

    place = turns.ready(directory / "webdataset-blobs", make)
    return lambda: turns.of_bytes(data for (data,) in _reader(place))


if __name__ == "__main__":
    turns.take({"webdataset": tokens, "webdataset-blobs": blobs}, f"webdataset {wds.__version__}")
