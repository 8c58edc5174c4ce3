"""Register uploaded files: parser child, sealer child, and the parent that watches both.

Control calls `seal_upload` in a thread. It never reads a byte of the upload itself; what the
children return is checked before it is believed. Nothing is registered by this: the result is
files in a staging directory and keys in memory.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from gateway.crypto.key_sheet import Dek
from gateway.domain import field_metadata
from gateway.domain.dataset import Column
from gateway.domain.proposals import Hint
from gateway.errors import GatewayError, IntegrityError, SourceRefused, Unavailable
from gateway.process.channel import Channel, Message
from gateway.process.spawn import Child, Confinement, Launch, spawn
from gateway.shards.job import (
    SealedShard,
    SealedVersion,
    SealJob,
    UploadedFile,
    fraction_of,
    shard_from_message,
)
from gateway.shards.watch import ChildStopped, Watched, error_of, next_message, text_of

__all__ = ["SealJob", "SealedShard", "SealedVersion", "UploadedFile", "seal_upload"]

Progress = Callable[[float, str], None]
PARSER_RESIDENT_MAX = 230 << 20  # both together stay below 600 MB
SEALER_RESIDENT_MAX = 340 << 20
_DATA_BYTES_MAX = 1 << 30  # address space that may be written; the watchdog is stricter
PARSER_SECONDS, SEALER_SECONDS = 10, 30  # of processor time, and one more per _BYTES_PER_SECOND
_BYTES_PER_SECOND = 256 << 10
_WAIT_SECONDS = 120  # beyond the processor time of both, for a busy machine
_ANSWER_BYTES_MAX = 1 << 20  # the keys of one shard


def seal_upload(job: SealJob, progress: Progress) -> SealedVersion:
    """Parse the uploaded files and seal them into shards under `job.staging`.

    Args:
        job: what to seal; its staging directory exists and is empty.
        progress: told a fraction 0…1 and a short text, from this thread.

    Raises:
        SourceRefused: the files are damaged, hostile, or not as the job says.
        IntegrityError: sealed parts do not open.
        Unavailable: a child could not work (disk full, killed); trying again may help.
    """
    pairs = {name: socket.socketpair() for name in ("files", "stream")}
    with contextlib.ExitStack() as stack:
        sealer = stack.enter_context(_sealer(job, {n: p[0].fileno() for n, p in pairs.items()}))
        parser = stack.enter_context(_parser(job, {n: p[1].fileno() for n, p in pairs.items()}))
        for pair in pairs.values():
            pair[0].close()
            pair[1].close()
        body, payload = job.to_message()
        sealer.channel.send("seal", payload, **body)
        return _Watch(job, parser, sealer, progress).run()


def _seconds_by_size(job: SealJob) -> int:
    size = sum(Path(part).stat().st_size for file in job.files for part in file.parts)
    return size // _BYTES_PER_SECOND


def _sealer(job: SealJob, descriptors: dict[str, int]) -> Child:
    folders = {str(Path(part).parent) for file in job.files for part in file.parts}
    child = spawn(
        Launch(
            module="gateway.shards.sealer",
            confinement=Confinement(
                data_bytes_max=_DATA_BYTES_MAX,
                cpu_seconds_max=SEALER_SECONDS + _seconds_by_size(job),
                open_files_max=4096,
                read_paths=tuple(sorted(folders)),
                write_paths=(job.staging,),
            ),
            descriptors=descriptors,
        )
    )
    child.channel = Channel(child.channel.socket, payload_bytes_max=_ANSWER_BYTES_MAX)
    return child


def _parser(job: SealJob, descriptors: dict[str, int]) -> Child:
    return spawn(
        Launch(
            module="gateway.shards.parser",
            confinement=Confinement(
                data_bytes_max=_DATA_BYTES_MAX,
                cpu_seconds_max=PARSER_SECONDS + _seconds_by_size(job),
                file_bytes_max=0,
            ),
            options={
                "files": [{"name": f.name[:200], "partition": f.partition} for f in job.files],
                "profile": job.profile,
            },
            descriptors=descriptors,
        ),
        stderr=subprocess.DEVNULL,  # what hostile bytes make a library say fills no log
    )


@dataclass(slots=True)
class _Watch:
    """Reads what the sealer says and ends children that grow, hang or die."""

    job: SealJob
    parser: Child
    sealer: Child
    progress: Progress
    shards: list[SealedShard] = field(default_factory=list)
    deks: dict[str, Dek] = field(default_factory=dict)
    deadline: float = 0.0  # of time.monotonic

    def run(self) -> SealedVersion:
        seconds = PARSER_SECONDS + SEALER_SECONDS + _WAIT_SECONDS + 2 * _seconds_by_size(self.job)
        self.deadline = time.monotonic() + seconds
        while True:
            message = self._next()
            if message.kind == "progress":
                self.progress(fraction_of(message.body), text_of(message, "text"))
            elif message.kind == "shard":
                self._keep(message)
            elif message.kind == "sealed":
                return self._version(message.body)
            else:
                self._raise(message)

    def _next(self) -> Message:
        watched = (
            Watched(self.parser, PARSER_RESIDENT_MAX),
            Watched(self.sealer, SEALER_RESIDENT_MAX),
        )
        try:
            return next_message(self.sealer, watched, deadline=self.deadline)
        except ChildStopped as cause:
            if cause.why == "memory":
                text = "the file needs more memory than its parser may use"
                raise SourceRefused(text, advice=_REWRITE) from cause
            if cause.why == "silence":
                raise SourceRefused("reading makes no progress", advice=_REWRITE) from cause
            if cause.why == f"gone, signal {int(signal.SIGXCPU)}":
                raise SourceRefused(
                    f"the file cannot be sealed: {_SLOW}", advice=_REWRITE
                ) from cause
            raise Unavailable(f"the sealer stopped ({cause.why})", advice="try again") from cause

    def _raise(self, message: Message) -> NoReturn:
        if message.kind == "refused":
            advice = text_of(message, "advice") or None
            raise SourceRefused(text_of(message, "message"), advice=advice)
        if message.kind == "parser-gone":
            text = f"the file cannot be read: {self._end_of_parser(message)}"
            raise SourceRefused(text, advice=_REWRITE)
        raise error_of(message, (IntegrityError, Unavailable))

    def _end_of_parser(self, message: Message) -> str:
        if message.body.get("ended") is not True:
            return "its parser gave up"
        with contextlib.suppress(Exception):
            self.parser.process.wait(timeout=5)
        code = self.parser.process.returncode
        if code == -signal.SIGXCPU:
            return _SLOW
        return (
            f"its parser ended with signal {-code}" if code and code < 0 else "its parser gave up"
        )

    def _keep(self, message: Message) -> None:
        try:
            sealed, deks = shard_from_message(message.body, bytes(message.payload), self.job)
        except (KeyError, TypeError, ValueError, GatewayError) as cause:
            raise IntegrityError("the sealer's answer makes no sense") from cause
        staging = Path(self.job.staging).resolve()
        for path in sealed.paths.values():
            if Path(path).parent.resolve() != staging or not Path(path).is_file():
                raise IntegrityError("the sealer names a file outside its directory")
        if any(known.path == sealed.path for known in self.shards):
            raise IntegrityError("the sealer names a file twice")
        self.shards.append(sealed)
        self.deks.update(deks)

    def _version(self, body: dict[str, Any]) -> SealedVersion:
        try:
            field_metadata.check(body["metadata"])
            return SealedVersion(
                version=self.job.version,
                dataset_id=self.job.dataset_id,
                profile=body["profile"],
                columns=tuple(Column(**column) for column in body["columns"]),
                direct=tuple(body["direct"]),
                schema=body["schema"],
                shards=tuple(self.shards),
                deks=self.deks,
                source_bytes=body["source_bytes"],
                formats=tuple(body["formats"]),
                metadata=body["metadata"],
                hints=tuple(Hint.parse(value) for value in body["hints"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as cause:
            raise IntegrityError("the sealer's answer makes no sense") from cause


_SLOW = "it takes more processor time than a file of its size may"
_REWRITE = "write the file again with row groups or record batches of at most 32 MiB"
