"""Child: take Arrow batches from the parser, deal them to splits, seal them into shards.

It holds the keys of this one registration. What comes from the parser is hostile: bounded
frames, declared schema only, every batch validated in full before a value is touched.

Descriptors: `files` (the parser asks for byte ranges of the uploads), `stream` (it sends a
plan, then batches). Channel to control: `seal` in; `progress`, `shard`…, `sealed` or
`refused`, `failed` out.
"""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from gateway.crypto.person_tags import Tagger
from gateway.crypto.private_files import DISK_ADVICE
from gateway.domain.dataset import Column, next_field_ids
from gateway.domain.layout import layout_of
from gateway.domain.lookalikes import escaped
from gateway.errors import GatewayError, IntegrityError, SourceRefused
from gateway.process.channel import Channel, ChannelClosed, Message
from gateway.shards import geometry
from gateway.shards.hints import Sample
from gateway.shards.job import (
    EXPANSION_FREE_BYTES,
    EXPANSION_MAX,
    SealJob,
    fraction_of,
    shard_to_message,
)
from gateway.shards.memory import keep_small
from gateway.shards.parts import UploadReader
from gateway.shards.persons import ShardPersons, require_ids
from gateway.shards.remote_file import READ_BYTES_MAX
from gateway.shards.shard_file import FilePlan, ShardFile
from gateway.shards.splits import Dealer, dealer, require_dealable
from gateway.shards.types import is_fixed_width, kept_metadata, normal_schema, type_text

BATCH_BYTES_MAX = 64 << 20
_TYPED = {"parquet", "arrow"}  # formats whose files say the types of their columns
_PROGRESS_STEP, _PROGRESS_SECONDS = 0.01, 5.0  # a large file takes long for a hundredth


def main(channel: Channel, options: dict[str, Any]) -> None:
    """Serve one registration, then end."""
    keep_small()
    message = channel.receive()
    job = SealJob.from_message(message.body, bytes(message.payload))
    stream = _channel(options["descriptors"]["stream"])
    files = _channel(options["descriptors"]["files"])
    try:
        uploads = [UploadReader(f.parts, job.parts_key, file=n) for n, f in enumerate(job.files)]
        threading.Thread(target=_serve_files, args=(files, uploads), daemon=True).start()
        _Sealer(channel, stream, job, sum(upload.size for upload in uploads)).run()
    except _ParserGone as gone:
        channel.send("parser-gone", ended=isinstance(gone.__cause__, ChannelClosed))
    except SourceRefused as refusal:
        channel.send("refused", message=refusal.message, advice=refusal.advice)
    except GatewayError as error:
        channel.send("failed", code=error.code, message=error.message)
    except (pa.ArrowException, OSError, MemoryError) as error:
        why = (isinstance(error, OSError) and error.strerror) or type(error).__name__
        channel.send(
            "failed", code="unavailable", message=f"sealing stopped: {why}", advice=DISK_ADVICE
        )
    finally:
        stream.close()


def _channel(descriptor: int) -> Channel:
    return Channel(
        socket.socket(fileno=descriptor),
        payload_bytes_max=BATCH_BYTES_MAX,
        allocate=pa.allocate_buffer,  # from Arrow's pool: fresh pages cost more than the copy
    )


class _ParserGone(Exception):
    """The parser ended without a word, or said what ours never says."""


def _serve_files(channel: Channel, uploads: list[UploadReader]) -> None:
    sizes = [upload.size for upload in uploads]
    with contextlib.suppress(ChannelClosed, IntegrityError):
        while True:
            ask = channel.receive()
            if ask.kind == "open":
                channel.send("opened", sizes=sizes)
                continue
            number, at, length = (int(ask.body[name]) for name in ("file", "at", "length"))
            if not 0 <= number < len(uploads) or length > READ_BYTES_MAX:
                raise IntegrityError("the parser asks for what there is not")
            channel.send("bytes", uploads[number].read_at(at, length))
    channel.close()


@dataclass(slots=True)
class _Sealer:
    """One registration under way."""

    channel: Channel
    stream: Channel
    job: SealJob
    upload_bytes: int
    schema: Any = None
    metadata: list[dict[str, str]] = field(default_factory=list)  # of each column
    plan: FilePlan | None = None
    dealer: Dealer | None = None
    rows_expected: int = 1
    rows: int = 0
    arrow_bytes: int = 0
    row_bytes: int = 0
    formats: list[str] = field(default_factory=list)
    sample: Sample | None = None
    reported: float = -1.0
    reported_at: float = 0.0  # time.monotonic
    open_files: dict[str, ShardFile] = field(default_factory=dict)
    persons: dict[str, ShardPersons] = field(default_factory=dict)  # of the open files
    tagger: Tagger | None = None

    def run(self) -> None:
        """From the parser's plan to the last shard."""
        self._accept_plan(self._receive("plan"))
        while (message := self._receive("batch", "done")).kind == "batch":
            self._take(message)
        if not self.rows and not _TYPED & set(self.formats):
            raise SourceRefused(
                "the files hold no rows, and only rows say the types of text",
                advice="register an empty Parquet or Arrow file: its columns have types",
            )
        for split in list(self.open_files):
            self._finish(split)
        assert self.plan
        assert self.sample
        self.channel.send(
            "sealed",
            profile=self.plan.profile,
            schema=base64.b64encode(self.plan.schema.serialize()).decode(),
            columns=[
                {"field_id": i, "name": f.name, "type": type_text(f.type), "nullable": f.nullable}
                for f, i in zip(self.plan.schema, self.plan.field_ids, strict=True)
            ],
            metadata={
                str(i): texts
                for i, texts in zip(self.plan.field_ids, self.metadata, strict=True)
                if texts
            },
            direct=sorted(self.plan.direct, key=self.plan.field_ids.index),
            source_bytes=self.upload_bytes,
            formats=self.formats,
            hints=[hint.to_list() for hint in self.sample.hints(self.plan.field_ids)],
        )

    def _receive(self, *kinds: str) -> Message:
        message = self._next()
        while message.kind == "working":
            self._report(fraction_of(message.body) * 0.3, "reading")
            message = self._next()
        if message.kind == "refused":
            text, advice = (str(message.body.get(n) or "")[:500] for n in ("message", "advice"))
            raise SourceRefused(escaped(text), advice=escaped(advice) or None)
        if message.kind not in kinds:
            raise _ParserGone
        return message

    def _next(self) -> Message:
        try:
            return self.stream.receive()
        except (ChannelClosed, IntegrityError) as cause:
            raise _ParserGone from cause

    def _accept_plan(self, message: Message) -> None:
        try:
            schema = pa.ipc.read_schema(pa.py_buffer(message.payload))
        except (pa.ArrowException, ValueError, OSError) as cause:
            raise SourceRefused("the file's schema cannot be read") from cause
        self.schema = pa.schema([pa.field(f.name, f.type) for f in schema])
        self.metadata = [kept_metadata(f) for f in schema]
        if normal_schema(self.schema) != self.schema:
            raise SourceRefused("the file's schema is not a plain one")
        rows, whole, self.formats = _stated(message, len(self.job.files))
        if not whole <= set(range(len(self.schema))):
            raise _ParserGone
        _check_required(self.job.required, self.schema, whole)
        if self.job.required:  # what the dataset says about missing values stays true
            whole = {n for n, column in enumerate(self.job.required) if not column.nullable}
        self._check_persons()
        self.rows_expected = max(1, min(rows, 1 << 50))
        self.dealer = dealer(
            shares=self.job.splits,
            key=self.job.split_key,
            by=self._existing(self.job.split_by),
            column=self._existing(self.job.split_column),
        )
        self.plan = self._file_plan(whole)
        self.sample = Sample(self.schema, self.rows_expected)

    def _existing(self, name: str | None) -> str | None:
        if name is not None and name not in self.schema.names:
            raise SourceRefused(f"there is no column `{name[:80]}` to split by")
        if name is not None:
            require_dealable(self.schema.field(name).type, name)
        return name

    def _check_persons(self) -> None:
        name = self.job.person_column
        if name is None:
            return
        if name not in self.schema.names:
            raise SourceRefused(f"there is no column `{name[:80]}` of persons")
        require_ids(self.schema.field(name).type, name)
        self.tagger = Tagger(self.job.person_key)

    def _file_plan(self, whole: set[int]) -> FilePlan:
        fields = list(self.schema)
        fits = [n in whole and is_fixed_width(f.type) for n, f in enumerate(fields)]
        profile = self.job.profile or ("train" if all(fits) else "archive")
        ids = next_field_ids(
            self.job.known, self.job.next_field_id, [(f.name, type_text(f.type)) for f in fields]
        )
        direct = [i for i, fit in zip(ids, fits, strict=True) if fit and profile == "train"]
        return FilePlan(
            dataset_id=self.job.dataset_id,
            version=self.job.version,
            profile=profile,
            schema=pa.schema(
                [pa.field(f.name, f.type, nullable=n not in whole) for n, f in enumerate(fields)]
            ),
            field_ids=ids,
            direct=frozenset(direct),
        )

    def _take(self, message: Message) -> None:
        assert self.plan
        assert self.dealer
        assert self.sample
        batch = self._validated(message)
        if not len(batch):
            raise _ParserGone  # ours sends none: it could go on for ever
        self.rows += len(batch)
        # A value counts as a byte at least: bits and empty texts are rows to write, too.
        self.arrow_bytes += max(batch.nbytes, batch.num_rows * batch.num_columns)
        self.row_bytes = max(1, self.arrow_bytes // self.rows)
        if self.arrow_bytes > EXPANSION_FREE_BYTES + EXPANSION_MAX * self.upload_bytes:
            raise SourceRefused(
                "the file expands to more than 200 times its size",
                advice="register the data less compressed",
            )
        self.sample.take(batch)
        for split, rows in self.dealer.deal(batch):
            self._add(split, rows)
        self._report(0.3 + 0.7 * min(1.0, self.rows / self.rows_expected), "sealing")

    def _validated(self, message: Message) -> Any:
        assert self.plan
        try:
            batch = pa.ipc.read_record_batch(pa.py_buffer(message.payload), self.schema)
            batch.validate(full=True)
        except (pa.ArrowException, ValueError, OSError, MemoryError) as cause:
            raise SourceRefused(
                "the file's rows are not sound Arrow data",
                advice="open it with the program that wrote it and write it again",
            ) from cause
        for column, kept in zip(batch.columns, self.plan.schema, strict=True):
            if column.null_count and not kept.nullable:
                raise SourceRefused(
                    f"the column `{kept.name[:80]}` holds missing values though its file says none",
                    advice="write the file again; its statistics are wrong",
                )
        return batch

    def _add(self, split: str, rows: Any) -> None:
        while len(rows):
            file = self.open_files.get(split) or self._open(split)
            fitting = rows.slice(0, file.room())
            file.add(fitting)
            if split in self.persons:
                self.persons[split].add(fitting)
            rows = rows.slice(len(fitting))
            if not file.room():
                self._finish(split)

    def _open(self, split: str) -> ShardFile:
        assert self.plan
        shares = dict(self.job.splits)
        share = shares.get(split, 1.0 if not self.job.split_column else 0.125)
        shape = geometry.plan(
            widest_bytes=self._widest(),
            row_bytes=self.row_bytes,
            rows=int(self.rows_expected * share),
            shard_bytes=self.job.shard_bytes,
            row_group_bytes=geometry.ROW_GROUP_BYTES // max(1, len(self.job.splits)),
        )
        shard_id = uuid.uuid4().hex
        path = Path(self.job.staging, f"{shard_id}.parquet")
        file = ShardFile(path, self.plan, shape, shard_id=shard_id, split=split)
        self.open_files[split] = file
        if self.job.person_column is not None:
            self.persons[split] = self._persons(file)
        return file

    def _persons(self, file: ShardFile) -> ShardPersons:
        assert self.plan
        assert self.tagger
        column = self.job.person_column or ""
        return ShardPersons(
            path=file.path.with_suffix(".persons"),
            dataset_id=self.job.dataset_id,
            shard=file.shard_id,
            field_id=self.plan.field_ids[self.schema.names.index(column)],
            tagger=self.tagger,
            column=column,
            block_rows=file.geometry.block_rows,
        )

    def _widest(self) -> int:
        assert self.plan
        direct = self.plan.direct
        kinds = [
            f.type for f, i in zip(self.schema, self.plan.field_ids, strict=True) if i in direct
        ]
        layouts = [layout_of(type_text(kind)) for kind in kinds]
        return max((layout.width for layout in layouts if layout), default=self.row_bytes)

    def _finish(self, split: str) -> None:
        file = self.open_files.pop(split)
        sealed = file.finish()
        table = file.path.with_suffix(".blocks")
        table.write_bytes(sealed.table)
        persons = self.persons.pop(split, None)
        if persons is not None:
            persons.finish()
        body, keys = shard_to_message(sealed.shard, sealed.deks, file.path, table, persons)
        self.channel.send("shard", keys, **body)

    def _report(self, fraction: float, text: str) -> None:
        now = time.monotonic()
        due = now - self.reported_at >= _PROGRESS_SECONDS
        if fraction > self.reported and (due or fraction - self.reported >= _PROGRESS_STEP):
            self.reported, self.reported_at = fraction, now
            self.channel.send("progress", fraction=fraction, text=text)


def _stated(message: Message, files: int) -> tuple[int, set[int], list[str]]:
    """Rows, columns without missing values and formats, as the parser says."""
    rows, whole, formats = (message.body.get(name) for name in ("rows", "whole", "formats"))
    if not (isinstance(rows, int) and isinstance(whole, list) and isinstance(formats, list)):
        raise _ParserGone
    if len(formats) != files or not all(isinstance(n, int) for n in whole):
        raise _ParserGone
    return rows, set(whole), [escaped(str(name)[:16]) for name in formats]


def _check_required(required: tuple[Column, ...], schema: Any, whole: set[int]) -> None:
    if not required:
        return
    wanted = [(column.name, column.type) for column in required]
    given = [(f.name, type_text(f.type)) for f in schema]
    for want, have in zip(wanted, given, strict=False):
        if want != have:
            raise SourceRefused(
                f"column `{have[0][:80]}` of type `{have[1]}` stands where the dataset has"
                f" `{want[0][:80]}` of type `{want[1]}`",
                advice="an append has the columns of the version it extends, in their order",
            )
    for n, column in enumerate(required):
        if not column.nullable and n not in whole:
            raise SourceRefused(
                f"column `{column.name[:80]}` has missing values; in the dataset it has none"
            )
    if len(wanted) != len(given):
        raise SourceRefused(f"the file has {len(given)} columns, the dataset {len(wanted)}")
