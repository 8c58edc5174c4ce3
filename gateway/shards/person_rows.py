"""Child: does any row of one person pass a row filter? It says yes or no, and nothing else.

It holds the keys of the footers, the column of persons and the filter's columns, and the key
that tags persons; it has no network and writes nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from gateway.crypto.person_tags import Tagger
from gateway.domain.access import as_tuple
from gateway.domain.manifest import Manifest
from gateway.errors import GatewayError
from gateway.process.channel import Channel, Message
from gateway.shards.memory import keep_small
from gateway.shards.person_filter import Search
from gateway.shards.persons import tagged
from gateway.shards.reader import ShardReader, file_plan
from gateway.shards.rowfilters import passing
from gateway.shards.views import KEY_BYTES

_READ_ROWS = 65_536


def main(channel: Channel, _options: dict[str, Any]) -> None:
    """Answer one search, then end."""
    keep_small()
    try:
        channel.send("found", passes=_passes(_search(channel.receive())))
    except GatewayError as error:
        channel.send("failed", code=error.code, message=error.message)
    except (pa.ArrowException, OSError, MemoryError, ValueError) as error:
        # Arrow's text may quote values: only its kind leaves this process.
        channel.send("failed", code="unavailable", message=f"searching: {type(error).__name__}")


def _search(message: Message) -> Search:
    body, data = message.body, bytes(message.payload)
    end = (1 + len(body["deks"])) * KEY_BYTES
    keys = [data[at : at + KEY_BYTES] for at in range(0, end, KEY_BYTES)]
    manifest = Manifest.parse(data[end:])
    return Search(
        manifest=manifest,
        shards=tuple(shard for shard in manifest.shards if shard.id in set(body["shards"])),
        row_filter=as_tuple(body["row_filter"]),
        person=body["person"],
        tag=body["tag"],
        tag_key=keys[0],
        paths=body["paths"],
        deks=dict(zip(body["deks"], keys[1:], strict=True)),
    )


def _passes(search: Search) -> bool:
    tagger, name = Tagger(search.tag_key), search.manifest.column(search.person).name
    fields, plan = tuple(sorted(search.fields())), file_plan(search.manifest)
    for shard in search.shards:
        reader = ShardReader(search.paths[shard.id], plan, shard, search.deks)
        for batch in reader.batches(fields, rows=_READ_ROWS):
            tags, known = tagged(tagger, batch.column(name))
            mine = known & (tags == np.uint64(search.tag))
            if mine.any() and passing(search.row_filter, batch.filter(pa.array(mine))).true_count:
                return True
        reader.close()
    return False
