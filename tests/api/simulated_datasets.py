"""The simulator's part about datasets, registrations, copies and keys."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import gateway.wire as W
from gateway.domain.dataset import DatasetRef, parse_tag
from gateway.errors import (
    AccessDenied,
    Conflict,
    InvalidInput,
    NotFound,
    PreconditionFailed,
)

NOW = "2026-11-23T10:00:00Z"
ICU = W.DatasetDetail(
    dataset="clinic/icu",
    dataset_id="0" * 32,
    version=1,
    columns=(
        W.ColumnView(
            field_id=1,
            name="age",
            type="int64",
            nullable=False,
            tags=("restricted",),
            proposed=W.ProposedTag(tag="pii.indirect", reason="name", percent=None),
        ),
        W.ColumnView(field_id=2, name="hr", type="double", nullable=True, tags=("restricted",)),
    ),
    splits=(W.SplitView(name="train", rows=80), W.SplitView(name="test", rows=20)),
    rows=100,
    bytes=4096,
    shards=2,
    profile="train",
    manifest_digest="ab" * 32,
    registered_at=NOW,
    registered_by="clinic/owner",
    suspended=False,
    versions=(1,),
)


class SimulatedDatasets:
    """Every dataset is seen by everybody; its owner changes it."""

    sets: dict[str, W.DatasetDetail]
    registrations: dict[str, W.Registration]
    requests: dict[str, W.RegistrationRequest]
    parts: dict[tuple[str, int, int], bytes]
    acts: dict[str, W.Operation]
    durable: int

    def _id(self, prefix: str) -> str:
        raise NotImplementedError

    def _seen(self, caller: Any, ref: str) -> W.DatasetDetail:
        at = DatasetRef.parse(ref)
        found = self.sets.get(str(at.unversioned))
        if found is None or at.version not in (None, *found.versions):
            raise NotFound(f"no dataset `{ref}`")
        return found

    async def datasets(
        self, caller: Any, tag: str | None, text: str | None
    ) -> Sequence[W.DatasetSummary]:
        return tuple(
            W.DatasetSummary(
                dataset=d.dataset,
                version=d.version,
                rows=d.rows,
                columns=len(d.columns),
                tags=tuple(sorted({t for c in d.columns for t in c.tags})),
                suspended=d.suspended,
                registered_at=NOW,
            )
            for d in self.sets.values()
            if (text or "") in d.dataset and (not tag or any(tag in c.tags for c in d.columns))
        )

    async def dataset(self, caller: Any, ref: str) -> W.DatasetDetail:
        return self._seen(caller, ref)

    async def columns(self, caller: Any, ref: str) -> Sequence[W.ColumnView]:
        return self._seen(caller, ref).columns

    async def versions(self, caller: Any, ref: str) -> Sequence[W.VersionView]:
        d = self._seen(caller, ref)
        return (
            W.VersionView(
                version=d.version,
                rows=d.rows,
                bytes=d.bytes,
                shards=d.shards,
                profile=d.profile,
                splits=d.splits,
                manifest_digest=d.manifest_digest,
                registered_at=NOW,
                registered_by=d.registered_by,
            ),
        )

    async def manifest(self, caller: Any, ref: str) -> Mapping[str, Any]:
        return {"digest": self._seen(caller, ref).manifest_digest}

    async def classify(
        self, caller: Any, ref: str, tags: Mapping[str, Sequence[str]], if_match: str | None
    ) -> W.DatasetDetail:
        found = self._seen(caller, ref)
        if if_match not in (None, "*", W.etag_of(found)):
            raise PreconditionFailed("the dataset is another one now")
        if caller.subject.tenant != found.dataset.partition("/")[0]:
            raise AccessDenied("only the owner classifies columns", decision="dec_x")
        names = {c.name for c in found.columns}
        unknown = [name for name in tags if name not in names]
        if unknown:
            raise InvalidInput(f"`{unknown[0]}` is not a column")
        columns = tuple(
            replace(c, tags=tuple(sorted(parse_tag(t) for t in tags.get(c.name, c.tags))))
            for c in found.columns
        )
        self.sets[found.dataset] = replace(found, columns=columns)
        self.durable += 1
        return self.sets[found.dataset]

    async def update_dataset(
        self, caller: Any, ref: str, changes: W.DatasetChanges, if_match: str | None
    ) -> W.DatasetDetail:
        found = self._seen(caller, ref)
        if caller.subject.tenant != found.dataset.partition("/")[0]:
            raise AccessDenied("only the owner changes a dataset", decision="dec_x")
        if if_match not in (None, "*", W.etag_of(found)):
            raise PreconditionFailed("the dataset is another one now")
        given = {
            name: value
            for name in ("card", "owners", "contact", "suspended")
            if (value := getattr(changes, name)) is not None
        }
        if not given:
            raise InvalidInput("nothing is to be changed")
        self.sets[found.dataset] = replace(found, **given)
        self.durable += 1
        return self.sets[found.dataset]

    async def erase_dataset(self, caller: Any, ref: str, request: W.ErasureRequest) -> W.Operation:
        found = self._seen(caller, ref)
        if caller.subject.tenant != found.dataset.partition("/")[0]:
            raise AccessDenied("only the owner erases a dataset", decision="dec_x")
        if request.yes:
            del self.sets[found.dataset]
        act = W.Operation(
            id=self._id("op_"),
            kind="erase" if request.yes else "erase-plan",
            state="done",
            progress=1.0,
            result={"dataset": found.dataset, "versions": [1]},
        )
        self.acts[act.id] = act
        return act

    async def keys(self, caller: Any) -> list[W.KeyView]:
        tenant = caller.subject.tenant
        return [W.KeyView(id="root", kind="root", name=tenant, state="in use", generation=1)]

    async def rotate_keys(self, caller: Any, key: str) -> W.Operation:
        if key not in {"root", "kek"}:
            raise NotFound(f"no key `{key[:80]}` that can be rotated")
        act = W.Operation(
            id=self._id("op_"),
            kind=f"rotate-{key}",
            state="done",
            progress=1.0,
            result={"kind": key, "root": 2, "keys": 3},
        )
        self.acts[act.id] = act
        return act

    async def begin_registration(
        self, caller: Any, request: W.RegistrationRequest, key: str | None
    ) -> W.Registration:
        ref = DatasetRef.parse(request.dataset)
        if ref.tenant != caller.subject.tenant:
            raise AccessDenied("only its owner registers a dataset", decision="dec_x")
        made = W.Registration(
            id=self._id("reg_"),
            dataset=str(ref),
            part_bytes_max=1 << 16,
            parts_received=(),
            state="open",
            expires_at=NOW,
            request=request,
        )
        self.registrations[made.id] = made
        self.requests[made.id] = request
        return made

    async def put_part(
        self, caller: Any, registration: str, file: int, n: int, stream: AsyncIterator[bytes]
    ) -> W.PartReceipt:
        found = await self.registration(caller, registration)
        data = b"".join([chunk async for chunk in stream])
        receipt = W.PartReceipt(
            file=file, n=n, bytes=len(data), sha256=hashlib.sha256(data).hexdigest()
        )
        self.parts[registration, file, n] = data
        self.registrations[registration] = replace(
            found, parts_received=(*found.parts_received, receipt)
        )
        return receipt

    async def registration(self, caller: Any, registration: str) -> W.Registration:
        if registration not in self.registrations:
            raise NotFound("no such registration")
        return self.registrations[registration]

    async def abort_registration(self, caller: Any, registration: str) -> None:
        await self.registration(caller, registration)
        del self.registrations[registration]

    async def commit_registration(self, caller: Any, registration: str) -> W.Operation:
        found = await self.registration(caller, registration)
        request = self.requests[registration]
        for i, source in enumerate(request.files):
            got = sum(len(v) for (r, f, _), v in self.parts.items() if (r, f) == (registration, i))
            if source.bytes is not None and got != source.bytes:
                raise Conflict(f"file {i} has {got} of {source.bytes} bytes")
        self.sets[found.dataset] = replace(ICU, dataset=found.dataset)
        made = W.Operation(
            id=self._id("op_"),
            kind="register",
            state="done",
            progress=1.0,
            result={"dataset": f"{found.dataset}@1", "rows": 100},
        )
        self.acts[made.id] = made
        return made

    async def operations(self, caller: Any) -> Sequence[W.Operation]:
        return tuple(self.acts.values())

    async def operation(self, caller: Any, operation: str) -> W.Operation:
        if operation not in self.acts:
            raise NotFound("no such operation")
        return self.acts[operation]

    async def cancel_operation(self, caller: Any, operation: str) -> W.Operation:
        found = await self.operation(caller, operation)
        return replace(found, state="cancelled")

    async def preview(self, caller: Any, ref: str, wanted: W.ExportRequest, rows: int) -> W.Preview:
        self._seen(caller, ref)
        if not 1 <= rows <= W.PREVIEW_ROWS_MAX:
            raise InvalidInput("a preview has 1 to 100 rows")
        raise AccessDenied("no rule allows it")

    async def release_keys(self, caller: Any, wanted: W.ExportRequest) -> W.Export:
        self._seen(caller, wanted.dataset)
        raise AccessDenied("no rule allows it")

    async def evidence(self, caller: Any, wanted: W.EvidenceRequest) -> W.Operation:
        raise NotFound("no tenant that you may audit")

    async def evidence_part(self, caller: Any, pack: str, start: int) -> bytes:
        raise NotFound("no such pack")

    async def exported_part(self, caller: Any, export_: str, shard: int, start: int) -> bytes:
        raise NotFound(f"no export `{export_[:80]}` of yours")
