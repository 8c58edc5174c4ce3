"""Views: what a Plan lets through, when pages alone cannot serve it. Parent side.

A decoder child reads the shards with the keys of the planned and the filter columns, filters
on original values, masks, drops, and writes sealed Arrow frames under a fresh key into a file
that the parent opened for it. Bytes: docs/formats/view-v0.md.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.domain.access import Plan
from gateway.domain.layout import Layout, layout_of
from gateway.domain.manifest import Leaf, Manifest
from gateway.domain.rowfilter import columns_of
from gateway.errors import IntegrityError, InvalidInput, Unavailable
from gateway.process.channel import ChannelClosed, Message
from gateway.process.spawn import Child, Confinement, Launch, spawn
from gateway.shards.watch import ChildStopped, Watched, error_of, next_message

Progress = Callable[[float, str], None]
KEY_BYTES = 32
DECODER_RESIDENT_MAX = 400 << 20
FRAME = struct.Struct("<QII")  # offset, length, rows
UNREAD = ("x-drop", "replace-with-null")  # masks that need no value and no key
_DATA_BYTES_MAX = 1 << 30
_log = logging.getLogger("gateway.views")
_OPEN_FILES_MAX = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewJob:
    """One view to build."""

    view: str  # id that the frames are bound to
    manifest: Manifest
    plan: Plan
    plan_digest: str  # that the frames are bound to; what the worker's lease will say
    paths: Mapping[str, str]  # shard id -> path on this host
    deks: Mapping[str, bytes] = field(repr=False)  # DEK id -> key, for `needed_leaves`
    mask_key: bytes = field(repr=False)  # 32 bytes, of (dataset, recipient tenant)
    out: str  # path of the file to make; nothing is there yet
    rows_max: int | None = None  # a preview stops after so many rows


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewFile:
    """A finished view."""

    view: str
    path: str
    key: bytes = field(repr=False)
    plan_digest: str
    schema: bytes  # Arrow IPC schema message; each opened frame is one record batch message
    rows: int
    bytes: int
    frames: tuple[tuple[int, int, int], ...] = field(repr=False)  # offset, length, rows


def is_direct(manifest: Manifest, plan: Plan) -> bool:
    """Whether pages alone can serve the Plan: no filter, no mask, only direct columns."""
    return (
        plan.row_filter is None
        and bool(plan.columns)
        and all(c.mask is None and c.field_id in manifest.direct for c in plan.columns)
    )


def numpy_layout(type_text: str) -> tuple[str, tuple[int, ...]]:
    """Numpy dtype and row shape of a direct column; raises InvalidInput for other types."""
    layout: Layout | None = layout_of(type_text)
    if layout is None:
        raise InvalidInput(f"`{type_text[:80]}` has no fixed width")
    return layout.dtype, layout.shape


def needed_fields(manifest: Manifest, plan: Plan) -> frozenset[int]:
    """Field ids whose keys a decoder needs: planned columns (not dropped) and filter columns."""
    ids = {column.name: column.field_id for column in manifest.columns}
    planned = {c.field_id for c in plan.columns if c.mask not in UNREAD}
    filtered = set() if plan.row_filter is None else set(columns_of(plan.row_filter))
    if not filtered <= ids.keys():
        raise InvalidInput("the row filter reads a column that the version does not have")
    if not {c.field_id for c in plan.columns} <= set(ids.values()):
        raise InvalidInput("the plan has a column that the version does not have")
    return frozenset(planned | {ids[name] for name in filtered})


def needed_leaves(manifest: Manifest, plan: Plan) -> tuple[Leaf, ...]:
    """Leaves whose keys a ViewJob must bring: footers and `needed_fields` of the split."""
    ids = needed_fields(manifest, plan)
    return tuple(
        leaf
        for shard in manifest.shards_of(plan.split)
        for leaf in (shard.footer, *shard.leaves_of(ids))
    )


class DecoderStopped(Unavailable):
    """A decoder crashed or hung, instead of saying what is wrong."""


def build_view(job: ViewJob, progress: Progress) -> ViewFile:
    """Build a view in a decoder child; the file is durable only as long as the host runs.

    A decoder that crashes or hangs is replaced once: what it was working on may be to blame,
    or the machine.

    Args:
        job: what to build.
        progress: told a fraction 0…1 and a short text, from this thread.

    Raises:
        IntegrityError: a shard, page or key is not the recorded one.
        InvalidInput: filter or mask do not fit the columns.
        Unavailable: the decoder could not work; trying again may help.
    """
    try:
        return _build(job, progress)
    except DecoderStopped as first:
        _log.warning("a decoder is replaced: %s", first.message, extra={"view": job.view})
        return _build(job, progress)


def _build(job: ViewJob, progress: Progress) -> ViewFile:
    key = secrets.token_bytes(KEY_BYTES)
    out = Path(job.out)
    descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, descriptor)
            decoder = stack.enter_context(_decoder(job, descriptor))
            _send_job(decoder, job, key)
            built = _wait(decoder, progress)
        return _view_file(job, key, built)
    except BaseException:
        out.unlink(missing_ok=True)
        raise


def _decoder(job: ViewJob, descriptor: int) -> Child:
    return spawn(
        Launch(
            module="gateway.shards.decoder",
            confinement=Confinement(
                data_bytes_max=_DATA_BYTES_MAX,
                open_files_max=_OPEN_FILES_MAX,
                read_paths=tuple(job.paths[s.id] for s in job.manifest.shards_of(job.plan.split)),
            ),
            descriptors={"out": descriptor},
        )
    )


def _send_job(decoder: Child, job: ViewJob, key: bytes) -> None:
    needed = {leaf.dek for leaf in needed_leaves(job.manifest, job.plan)}
    deks = {name: dek for name, dek in job.deks.items() if name in needed}
    manifest = job.manifest.to_bytes()
    try:
        decoder.channel.send(
            "build",
            b"".join((key, job.mask_key, *deks.values(), manifest)),
            view=job.view,
            plan=job.plan.to_dict(),
            plan_digest=job.plan_digest,
            paths=dict(job.paths),
            deks=list(deks),
            rows_max=job.rows_max,
        )
    except ChannelClosed as cause:
        raise DecoderStopped("the decoder ended at its start", advice="try again") from cause


def _wait(decoder: Child, progress: Progress) -> Message:
    while True:
        try:
            message = next_message(decoder, (Watched(decoder, DECODER_RESIDENT_MAX),))
        except ChildStopped as cause:
            raise DecoderStopped(
                f"the decoder stopped ({cause.why})", advice="try again; `gateway doctor` helps"
            ) from cause
        if message.kind == "built":
            return message
        if message.kind != "progress":
            raise error_of(message, (IntegrityError, InvalidInput, Unavailable))
        progress(min(1.0, float(message.body["fraction"])), "building the view")


def _view_file(job: ViewJob, key: bytes, built: Message) -> ViewFile:
    count, size = int(built.body["frames"]), Path(job.out).stat().st_size
    data = bytes(built.payload)
    frames: Any = tuple(FRAME.iter_unpack(data[: count * FRAME.size]))
    end = 0
    for offset, length, rows in frames:
        if offset != end or not rows:
            raise IntegrityError("the decoder's frames make no sense")
        end = offset + length
    if end != size or len(frames) != count:
        raise IntegrityError("the decoder's frames make no sense")
    return ViewFile(
        view=job.view,
        path=job.out,
        key=key,
        plan_digest=job.plan_digest,
        schema=data[count * FRAME.size :],
        rows=sum(rows for _, _, rows in frames),
        bytes=size,
        frames=frames,
    )
