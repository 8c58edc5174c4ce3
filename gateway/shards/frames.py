"""Rows of a view are cut into frames that fit into a chunk (view-v0.md)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from gateway.shards.geometry import FRAME_BYTES

_MESSAGE_BYTES, _COLUMN_BYTES = 1024, 128  # of a message, beside the values: generously
_STEP = 16  # a frame may be this part smaller than it could be


def cut(batches: Iterator[Any], rows_max: int) -> Iterator[Any]:
    """Return the rows of `batches` as frames of at most `rows_max` rows, each one batch.

    A row that is larger than a frame should be is a frame of its own.
    """
    pending: list[Any] = []
    waiting, room = 0, 0
    guess = 1
    for batch in batches:
        piece = batch
        while len(piece):
            if not pending:
                waiting, room = 0, _room(piece)
            count = _fitting(piece, rows_max - waiting, room, max(1, guess - waiting))
            if count or not pending:
                pending.append(piece.slice(0, max(count, 1)))
                waiting += len(pending[-1])
                room -= pending[-1].nbytes
                piece = piece.slice(len(pending[-1]))
            if len(piece) or waiting == rows_max:
                yield pa.concat_batches(pending)
                guess, pending = waiting, []
    if pending:
        yield pa.concat_batches(pending)


def _room(batch: Any) -> int:
    """Bytes of values that a frame of such columns holds."""
    return int(
        max(FRAME_BYTES // 2, FRAME_BYTES - _MESSAGE_BYTES - _COLUMN_BYTES * batch.num_columns)
    )


def _fitting(piece: Any, most: int, room: int, guess: int) -> int:
    """How many rows of `piece` fit, nearly; frames of a view are mostly alike."""
    most = min(most, len(piece))
    count = min(guess, most)
    while count and piece.slice(0, count).nbytes > room:
        count -= max(1, count // _STEP)
    while count < most:
        more = min(most, count + max(1, count // _STEP))
        if piece.slice(0, more).nbytes > room:
            break
        count = more
    return count
