"""Child: read shards with the keys of one Plan, filter, mask, and seal what is left.

It holds the keys of the footers, the planned and the filter columns, and no others. It reads
only the shards named, writes only into the descriptor `out`, and has no network.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from gateway.crypto.pages import seal_frame
from gateway.domain.access import Plan
from gateway.domain.manifest import Manifest, Shard
from gateway.domain.rowfilter import columns_of
from gateway.errors import GatewayError
from gateway.process.channel import Channel, Message
from gateway.shards.frames import cut
from gateway.shards.geometry import BLOCKS_MIN, SMALL_BLOCK_ROWS
from gateway.shards.masks import MaskKeys, masked, masked_field
from gateway.shards.memory import keep_small
from gateway.shards.reader import ShardReader, file_plan
from gateway.shards.rowfilters import passing
from gateway.shards.shard_file import FilePlan
from gateway.shards.views import FRAME, KEY_BYTES, UNREAD

_READ_BYTES = 4 << 20
_READ_ROWS_MAX = 65_536
_GUESS_BYTES_PER_VALUE = 32


def main(channel: Channel, options: dict[str, Any]) -> None:
    """Serve one view, then end."""
    keep_small()
    message = channel.receive()
    try:
        decoder = _Decoder.of(message, channel, options["descriptors"]["out"])
        decoder.run()
    except GatewayError as error:
        channel.send("failed", code=error.code, message=error.message)
    except (pa.ArrowException, OSError, MemoryError, ValueError) as error:
        # Arrow's text may quote values: only its kind leaves this process.
        text = f"building the view stopped: {type(error).__name__}"
        channel.send("failed", code="unavailable", message=text)


@dataclass(slots=True)
class _Decoder:
    """One view under way."""

    channel: Channel
    out: int
    view: str
    plan: Plan
    plan_digest: str
    manifest: Manifest
    files: FilePlan
    paths: dict[str, str]
    deks: dict[str, bytes]
    view_key: bytes
    mask_keys: MaskKeys
    rows_max: int | None
    frames: list[tuple[int, int, int]] = field(default_factory=list)
    written: int = 0
    reported: float = 0.0

    @classmethod
    def of(cls, message: Message, channel: Channel, out: int) -> _Decoder:
        """Read the `build` message."""
        body, data = message.body, bytes(message.payload)
        keys = [
            data[at : at + KEY_BYTES]
            for at in range(0, (2 + len(body["deks"])) * KEY_BYTES, KEY_BYTES)
        ]
        manifest = Manifest.parse(data[len(keys) * KEY_BYTES :])
        return cls(
            channel=channel,
            out=out,
            view=body["view"],
            plan=Plan.from_dict(body["plan"]),
            plan_digest=body["plan_digest"],
            manifest=manifest,
            files=file_plan(manifest),
            paths=body["paths"],
            deks=dict(zip(body["deks"], keys[2:], strict=True)),
            view_key=keys[0],
            mask_keys=MaskKeys.of(keys[1], body["plan_digest"]),
            rows_max=body["rows_max"],
        )

    @property
    def shards(self) -> tuple[Shard, ...]:
        """Shards of the planned split."""
        return self.manifest.shards_of(self.plan.split)

    def run(self) -> None:
        """Count, then read, filter, mask, cut into frames, seal."""
        total = sum(shard.rows for shard in self.shards)
        selections = self._selections()
        visible = total if selections is None else sum(s.true_count for s in selections)
        if self.rows_max is not None:
            visible = min(visible, self.rows_max)
        schema = self._schema()
        frames = cut(
            self._rows_of(selections, visible), max(SMALL_BLOCK_ROWS, visible // BLOCKS_MIN)
        )
        done = 0
        for number, frame in enumerate(frames):
            done += len(frame)
            self._write(frame, number, is_last=done == visible)
            self._report((0.3 if selections else 0.0), done / visible)
        index = b"".join(FRAME.pack(*frame) for frame in self.frames)
        self.channel.send("built", index + schema.serialize().to_pybytes(), frames=len(self.frames))

    def _selections(self) -> list[Any] | None:
        """Per shard, which rows pass the filter (1 bit per row); None without a filter."""
        tree = self.plan.row_filter
        if tree is None:
            return None
        ids = {column.name: column.field_id for column in self.manifest.columns}
        wanted = tuple(ids[name] for name in columns_of(tree))
        selections: list[Any] = []
        left = self.rows_max
        for number, shard in enumerate(self.shards):
            if left is not None and left <= 0:
                break  # a preview reads no further than its rows
            reader = ShardReader(self.paths[shard.id], self.files, shard, self.deks)
            pieces = [
                passing(tree, batch) for batch in reader.batches(wanted, rows=self._rows(wanted))
            ]
            reader.close()
            selections.append(pa.concat_arrays(pieces))
            left = None if left is None else left - selections[-1].true_count
            self._report(0.0, 0.3 * (number + 1) / len(self.shards))
        return selections

    def _rows(self, field_ids: tuple[int, ...]) -> int:
        widths = {c.field_id: _GUESS_BYTES_PER_VALUE for c in self.manifest.columns}
        widths |= {i: f.type.byte_width for i, f in self._physical() if i in self.files.direct}
        row = sum(widths[i] for i in field_ids)
        return max(SMALL_BLOCK_ROWS, min(_READ_ROWS_MAX, _READ_BYTES // max(row, 1)))

    def _physical(self) -> Iterator[tuple[int, Any]]:
        return zip(self.files.field_ids, self.files.physical_schema(), strict=True)

    def _fields(self) -> dict[int, Any]:
        return dict(zip(self.files.field_ids, self.files.schema, strict=True))

    def _schema(self) -> Any:
        """Of the view: planned columns that are not dropped, in the version's order."""
        fields = self._fields()
        visible = [c for c in self.plan.columns if c.mask != "x-drop"]
        return pa.schema([masked_field(fields[c.field_id], c.mask) for c in visible])

    def _rows_of(self, selections: list[Any] | None, visible: int) -> Iterator[Any]:
        left = visible
        for batch in self._visible_batches(selections):
            yield batch.slice(0, left)
            left -= min(left, len(batch))
            if not left:
                break

    def _visible_batches(self, selections: list[Any] | None) -> Iterator[Any]:
        for number, shard in enumerate(self.shards):
            if selections is not None and number >= len(selections):
                return
            at = 0
            for batch in self._read(shard):
                rows = batch
                if selections is not None:
                    chosen = selections[number].slice(at, len(batch))
                    rows = batch if chosen.true_count == len(batch) else batch.filter(chosen)
                at += len(batch)
                if len(rows):
                    yield self._masked(rows)

    def _read(self, shard: Shard) -> Iterator[Any]:
        """Batches of the columns whose values are released (masked or not)."""
        ids = tuple(c.field_id for c in self.plan.columns if c.mask not in UNREAD)
        if not ids:  # only NULLs are released: how many is known
            for at in range(0, shard.rows, _READ_ROWS_MAX):
                count = min(_READ_ROWS_MAX, shard.rows - at)
                yield pa.RecordBatch.from_arrays([pa.nulls(count)], names=[""])
            return
        reader = ShardReader(self.paths[shard.id], self.files, shard, self.deks)
        yield from reader.batches(ids, rows=self._rows(ids))
        reader.close()

    def _masked(self, rows: Any) -> Any:
        schema = self._schema()
        columns = []
        for planned in (c for c in self.plan.columns if c.mask != "x-drop"):
            kind = schema.field(planned.name).type
            unread = planned.mask in UNREAD
            column = pa.nulls(len(rows), kind) if unread else rows.column(planned.name)
            columns.append(masked(column, planned.mask, self.mask_keys))
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    def _write(self, batch: Any, number: int, *, is_last: bool) -> None:
        frame = seal_frame(
            self.view_key,
            batch.serialize().to_pybytes(),
            view=self.view,
            plan_digest=self.plan_digest,
            number=number,
            count=number + 1 if is_last else None,
        )
        view = memoryview(frame)
        while view:
            view = view[os.write(self.out, view) :]
        self.frames.append((self.written, len(frame), len(batch)))
        self.written += len(frame)

    def _report(self, base: float, part: float) -> None:
        fraction = base + (1 - base) * part if base else part
        if fraction - self.reported >= 0.01:  # noqa: PLR2004 - a hundred steps are enough
            self.reported = fraction
            self.channel.send("progress", fraction=fraction)
