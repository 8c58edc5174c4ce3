"""Send the files of a registration in parts, each once; also after an interruption.

What has arrived is asked of the gateway, which keeps it for a day, over restarts too. On
`--resume` every source is read again from its start, and a part is sent only if it came out
with other bytes: right for a file that did not change, and never wrong for a query whose rows
come in another order now.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import gateway.wire as W
from gateway.client.sources import parts_of
from gateway.client.targets import segment
from gateway.errors import IntegrityError, InvalidInput, NotFound, Unavailable
from gateway.ports import SourceFile
from gateway.wire import codec

if TYPE_CHECKING:
    from gateway.client.client import GatewayClient, Progress
    from gateway.client.records import Record

_MEGABYTE = 1_000_000
COMMITS_MAX = 5  # of one registration, when the gateway restarts meanwhile


class Upload:
    """One registration on its way."""

    def __init__(
        self,
        gateway: GatewayClient,
        request: W.RegistrationRequest,
        files: Sequence[SourceFile],
        resume: str | None,
    ) -> None:
        """Begin a registration, or go on with the one called `resume`."""
        if resume is None:
            reply = gateway.post("/v1/registrations", request)
        else:
            reply = gateway.get(f"/v1/registrations/{segment(resume)}")
        found = codec.decode_reply(W.Registration, reply)
        if found.dataset != request.dataset:
            raise InvalidInput(f"the registration `{found.id}` is of another dataset")
        if resume is not None and found.request is not None:
            _require_same(found.id, found.request, request)
        self._gateway, self._files, self._dataset = gateway, files, request.dataset
        self._part_bytes = found.part_bytes_max
        self._arrived = {(part.file, part.n): part.sha256 for part in found.parts_received}
        self._is_open = found.state == "open"
        self.id = found.id

    @property
    def is_long(self) -> bool:
        """Whether it has more than one part, as far as is known before."""
        sizes = [file.bytes for file in self._files]
        return None in sizes or sum(size or 0 for size in sizes) > self._part_bytes

    def send(self, progress: Progress | None) -> Any:
        """Send what has not arrived, then commit; the Operation."""
        sizes = [file.bytes for file in self._files]
        total = None if None in sizes else max(1, sum(size or 0 for size in sizes))
        sent = 0
        with restart_told(self._dataset):
            for index, file in enumerate(self._files if self._is_open else ()):
                for part in self._send_file(index, file):
                    sent += part
                    if progress is not None:
                        done = f"{sent // _MEGABYTE:,} MB" if total is None else ""
                        progress(f"upload {file.name} {done}".rstrip(), sent / (total or sent or 1))
            return self._commit()

    def made(self, operation: Any, progress: Progress | None) -> Record:
        """Wait for the version; when a restart ended the Operation, commit again or find it."""
        for _ in range(COMMITS_MAX - 1):
            with suppress(NotFound):
                return self._gateway.finished(operation, progress)
            operation = self._commit()
        return self._gateway.finished(operation, progress)

    def _commit(self) -> Any:
        return self._gateway.post(f"/v1/registrations/{segment(self.id)}/commit")

    def _send_file(self, index: int, file: SourceFile) -> Iterator[int]:
        n = 0
        with file.open() as opened:
            for part in parts_of(opened, self._part_bytes):
                self._send_part(index, n, part)
                n += 1
                yield len(part)
        if file.bytes is None:
            self._send_part(index, n, b"")  # its end

    def _send_part(self, file: int, n: int, part: bytes) -> None:
        digest = hashlib.sha256(part).hexdigest()
        if self._arrived.get((file, n)) == digest:
            return
        reply = self._gateway.transport.request(
            "PUT",
            f"/v1/registrations/{segment(self.id)}/parts/{n}",
            query={"file": file},
            body=part,
            headers={"Content-Type": "application/octet-stream"},
        )
        if codec.decode_reply(W.PartReceipt, reply.json()).sha256 != digest:
            raise IntegrityError("a part arrived with other bytes than it was sent")


def _require_same(begun: str, asked: W.RegistrationRequest, now: W.RegistrationRequest) -> None:
    """An interrupted registration goes on as it was begun, or not at all.

    Raises:
        InvalidInput: an option differs; it would have been ignored.
    """
    before, after = codec.encode(asked), codec.encode(now)
    before["card"] = {k: v for k, v in asked.card.items() if k != "derived_from"}  # the gateway's
    before["files"] = [(file.bytes, dict(file.partition)) for file in asked.files]
    after["files"] = [(file.bytes, dict(file.partition)) for file in now.files]
    if len(asked.derived_from) == len(now.derived_from):
        pairs = zip(asked.derived_from, now.derived_from, strict=True)
        if all(_pins(pinned, given) for pinned, given in pairs):
            after["derived_from"] = before["derived_from"]
    differing = [name for name in before if before[name] != after[name]]
    if differing:
        raise InvalidInput(
            f"the registration `{begun}` was begun with another `{differing[0]}`",
            advice="resume it with the same files and options, or register anew",
            field=differing[0],
        )


def _pins(pinned: str, given: str) -> bool:
    """Whether the gateway's exact reference is what was given, with version or tenant added."""
    run = "run:"
    if pinned.startswith(run):
        name, asked = pinned.removeprefix(run), given.removeprefix(run)
        return given.startswith(run) and (name == asked or name.endswith(f"/{asked}"))
    return pinned == given or pinned.startswith(f"{given}@")


@contextmanager
def restart_told(dataset: str) -> Iterator[None]:
    """A registration that ended and Operations of a dead control: say that, not `not found`.

    Raises:
        Unavailable: what was there a moment ago is gone.
    """
    try:
        yield
    except NotFound as cause:
        raise Unavailable(
            f"the gateway restarted while `{dataset}` was registered",
            advice=f"register it again, unless `gateway dataset show {dataset}` has the version",
        ) from cause
