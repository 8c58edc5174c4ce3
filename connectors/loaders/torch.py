"""A dataset as a torch IterableDataset that is its own loader.

    train = GatewayDataset("clinic/icu@3", split="train", batch_size=256, seed=7,
                           purpose="health-research", columns=["age", "hr", "label"])
    for batch in train:             # dict[str, Tensor], equally many on every rank
        step(batch)

It prefetches, shuffles, batches and shares out the rows among ranks itself: give it to the
training loop as it is. Loader workers and wrappers that split or collect again are refused,
because the rows a rank receives would no longer be the recorded ones.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any, Unpack

from connectors.loaders.numpy import GatewayBatches
from gateway.client.streaming import StreamAsk
from gateway.client.transport import Transport
from gateway.domain.position import StreamPosition
from gateway.errors import InvalidInput

try:
    import torch
    from torch.utils.data import IterableDataset, get_worker_info
except ImportError as cause:
    raise ImportError("this loader needs torch, which is your choice: pip install torch") from cause

_FRAMES_MAX = 12
_WRAPPERS = ("torchdata.", "accelerate.")


class GatewayDataset(IterableDataset):  # type: ignore[misc] # torch ships no usable types here
    """Batches of tensors; each pass is the next epoch."""

    def __init__(
        self, dataset: str, *, transport: Transport | None = None, **wanted: Unpack[StreamAsk]
    ) -> None:
        """Take what `connectors.loaders.numpy.GatewayBatches` takes."""
        super().__init__()
        self._batches = GatewayBatches(dataset, transport=transport, **wanted)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        _refuse_wrapping()
        return ({k: _tensor(v) for k, v in batch.items()} for batch in self._batches)

    def __len__(self) -> int:
        """Batches of a pass, the same on every rank."""
        return len(self._batches)

    @property
    def stats(self) -> dict[str, Any]:
        """What was fetched in the running pass, or in the last one, and how."""
        return self._batches.stats

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass."""
        self._batches.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return one global state for every rank and world size, under 200 bytes."""
        return self._batches.state_dict()

    def load_state_dict(self, state: Mapping[str, Any] | StreamPosition) -> None:
        """Let the next pass go on from a state, or from the `position` of an error."""
        self._batches.load_state_dict(state)

    def finish(self, model: str | None = None, artifact: str | None = None) -> Any:
        """Say that the run is over, and what came of it."""
        return self._batches.finish(model, artifact)


def _tensor(array: Any) -> Any:
    """Numbers become tensors; text, times and the like stay numpy arrays."""
    if array.dtype.kind not in "biuf":
        return array
    if not array.flags.writeable:
        array = array.copy()
    return torch.from_numpy(array)


def _refuse_wrapping() -> None:
    if get_worker_info() is not None:
        raise InvalidInput(
            "a gateway stream is not split among loader workers: "
            "write `for batch in dataset:`, or DataLoader(dataset, batch_size=None)",
            advice="leave out `num_workers`; the dataset prefetches already",
        )
    frame, depth = inspect.currentframe(), 0
    while frame is not None and depth < _FRAMES_MAX:
        name = str(frame.f_globals.get("__name__", ""))
        if name.startswith(_WRAPPERS):
            raise InvalidInput(
                f"`{name.partition('.')[0]}` would split the stream or keep a state of its own: "
                "write `for batch in dataset:`",
                advice="leave the dataset out of it; its own state_dict is one for all ranks",
            )
        if name.startswith("torch.utils.data") and frame.f_locals.get("auto_collation"):
            raise InvalidInput(
                "a DataLoader would make batches of batches: "
                "write `for batch in dataset:`, or DataLoader(dataset, batch_size=None)",
                advice="the dataset's own `batch_size` says how many rows a batch has",
            )
        frame, depth = frame.f_back, depth + 1
