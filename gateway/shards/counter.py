"""Child: count persons in the rows of Plans, without a word about any of them.

It holds the keys of the footers, the column of persons and the filters' columns, and no
others; it has no network and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gateway.domain.access import as_tuple
from gateway.domain.manifest import Manifest, Shard
from gateway.errors import GatewayError, InvalidInput
from gateway.process.channel import Channel, Message
from gateway.shards.groups import Released
from gateway.shards.memory import keep_small
from gateway.shards.reader import ShardReader, file_plan
from gateway.shards.rowfilters import passing
from gateway.shards.views import KEY_BYTES

_READ_ROWS = 65_536


def main(channel: Channel, _options: dict[str, Any]) -> None:
    """Answer one question, then end."""
    keep_small()
    try:
        sets = [_released(channel.receive()) for _ in range(channel.receive().body["sets"])]
        counted = _persons(sets) if sets[0].person is not None else _rows(sets)
        channel.send("counted", size=counted[0], differences=counted[1])
    except GatewayError as error:
        channel.send("failed", code=error.code, message=error.message)
    except (pa.ArrowException, OSError, MemoryError, ValueError) as error:
        # Arrow's text may quote values: only its kind leaves this process.
        channel.send("failed", code="unavailable", message=f"counting: {type(error).__name__}")


def _released(message: Message) -> Released:
    body, data = message.body, bytes(message.payload)
    size = len(body["deks"]) * KEY_BYTES
    keys = [data[at : at + KEY_BYTES] for at in range(0, size, KEY_BYTES)]
    return Released(
        manifest=Manifest.parse(data[size:]),
        split=body["split"],
        row_filter=as_tuple(body["row_filter"]),
        person=body["person"],
        paths=body["paths"],
        deks=dict(zip(body["deks"], keys, strict=True)),
    )


def _persons(sets: list[Released]) -> tuple[int, list[int | None]]:
    """By the values of the column of persons; None where those of two versions do not compare."""
    first = _distinct(sets[0])
    differences: list[int | None] = []
    for other in map(_distinct, sets[1:]):
        if other.type != first.type:
            differences.append(None)
            continue
        common = pc.sum(pc.is_in(first, value_set=other)).as_py() or 0
        differences.append(len(first) + len(other) - 2 * common)
    return len(first), differences


def _distinct(each: Released) -> Any:
    assert each.person is not None
    name = each.manifest.column(each.person).name
    kind = dict(zip(file_plan(each.manifest).field_ids, file_plan(each.manifest).schema,
                    strict=True))[each.person].type  # fmt: skip
    found = pa.array([], kind)
    for shard in each.manifest.shards_of(each.split):
        pieces = [found]
        for batch, chosen in _chosen(each, shard):
            persons = batch.column(name).filter(chosen)
            if persons.null_count:
                raise InvalidInput("a row is about nobody, so that persons cannot be counted")
            pieces.append(pc.unique(persons))
        found = pc.unique(pa.concat_arrays(pieces))
    return found


def _rows(sets: list[Released]) -> tuple[int, list[int | None]]:
    """By row: the same shard is the same rows; what else two versions share nobody knows."""
    first = _passing(sets[0])
    differences: list[int | None] = []
    for each in sets[1:]:
        other = _passing(each)
        both_new = bool(first.keys() - other.keys()) and bool(other.keys() - first.keys())
        if both_new and each.manifest.version != sets[0].manifest.version:
            differences.append(None)
            continue
        nothing = np.zeros(0, bool)
        differences.append(
            sum(
                int(np.count_nonzero(first[s] ^ other[s]))
                if s in first and s in other
                else int(np.count_nonzero(first.get(s, other.get(s, nothing))))
                for s in first.keys() | other.keys()
            )
        )
    return sum(int(np.count_nonzero(rows)) for rows in first.values()), differences


def _passing(each: Released) -> dict[str, Any]:
    """Per shard, which rows pass."""
    shards = each.manifest.shards_of(each.split)
    if each.row_filter is None:
        return {shard.id: np.ones(shard.rows, bool) for shard in shards}
    found = {}
    for shard in shards:
        pieces = [chosen.to_numpy(zero_copy_only=False) for _, chosen in _chosen(each, shard)]
        found[shard.id] = np.concatenate(pieces) if pieces else np.zeros(0, bool)
    return found


def _chosen(each: Released, shard: Shard) -> Iterator[tuple[Any, Any]]:
    """Batches of what is read, each with which of its rows pass."""
    fields = tuple(sorted(each.fields()))
    reader = ShardReader(each.paths[shard.id], file_plan(each.manifest), shard, each.deks)
    for batch in reader.batches(fields, rows=_READ_ROWS):
        everything = pa.repeat(pa.scalar(True), len(batch))
        yield batch, everything if each.row_filter is None else passing(each.row_filter, batch)
    reader.close()
