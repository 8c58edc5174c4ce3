"""How many rows make a block, a row group and a shard (DESIGN §6)."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.domain.lease import CHUNK_BYTES_MAX

FRAME_BYTES = CHUNK_BYTES_MAX  # of a view: each is used where it lies in a slot of the ring
PAGE_BYTES_MAX = 256 << 10  # stays in the processor's second cache while it is decrypted
BLOCK_BYTES_MAX = 16 << 20  # one segment holds at least one block
BLOCKS_MIN = 64  # per shard, so that shuffling has something to shuffle
SMALL_BLOCK_ROWS = 64  # … but no smaller blocks than this for that reason
ROW_GROUP_BYTES = 32 << 20  # over all splits that are being written: memory of the sealer
SHARD_BYTES = 128 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Rows per block, per row group (whole blocks) and per shard (whole blocks)."""

    block_rows: int
    row_group_rows: int
    shard_rows: int


def plan(
    *, widest_bytes: int, row_bytes: int, rows: int, shard_bytes: int, row_group_bytes: int
) -> Geometry:
    """Choose the geometry of one split.

    Args:
        widest_bytes: bytes per value of the widest column.
        row_bytes: bytes per row over all columns.
        rows: rows expected in the split; a guess is enough.
        shard_bytes: wanted size of a shard.
        row_group_bytes: wanted size of a row group, which is held in memory.
    """
    rows, row_bytes = max(rows, 1), max(row_bytes, 1)
    shards = max(1, -(-rows * row_bytes // shard_bytes))
    in_shard = -(-rows // shards)
    by_size = min(PAGE_BYTES_MAX // max(widest_bytes, 1), BLOCK_BYTES_MAX // row_bytes)
    block = max(1, min(by_size, max(SMALL_BLOCK_ROWS, in_shard // BLOCKS_MIN)))
    group = max(1, row_group_bytes // (row_bytes * block)) * block
    # Splits by hash come out uneven: a little room spares a last shard of a few rows.
    room = in_shard + (in_shard // 32 if shards > 1 else 0)
    return Geometry(
        block_rows=block, row_group_rows=group, shard_rows=max(1, -(-room // block)) * block
    )
