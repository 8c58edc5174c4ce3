"""Acts on datasets: list, show, classify; register in parts; long acts with progress."""

from __future__ import annotations

from typing import Any

import gateway.wire as W
from gateway.api import bodies
from gateway.api.acts import Act, Asked, location
from gateway.api.facade import Gateway
from gateway.errors import InvalidInput

ONE = "/v1/datasets/{tenant}/{name}"
REGISTRATION = "/v1/registrations/{id}"
_PARTS_MAX = 1 << 20


async def _put_part(gateway: Gateway, asked: Asked) -> W.PartReceipt:
    n = asked.number("n")
    if n >= _PARTS_MAX:
        raise InvalidInput(f"`n` must be below {_PARTS_MAX}", field="n")
    stream = bodies.stream_bytes(asked.http, asked.settings.part_bytes_max)
    return await gateway.put_part(
        asked.caller, asked.path["id"], asked.number("file", 0), n, stream
    )


async def _update(gateway: Gateway, asked: Asked) -> W.DatasetDetail:
    return await gateway.update_dataset(
        asked.caller, asked.ref, asked.value(W.DatasetChanges), asked.if_match
    )


async def _erase(gateway: Gateway, asked: Asked) -> W.Operation:
    return await gateway.erase_dataset(asked.caller, asked.ref, asked.value(W.ErasureRequest))


def _etag(detail: Any) -> dict[str, str]:
    return {"ETag": f'"{W.etag_of(detail)}"'}


def operation_location(operation: Any) -> dict[str, str]:
    """Where to poll a long act."""
    return {"Location": f"/v1/operations/{operation.id}"}


ACTS = (
    Act(
        method="GET",
        path="/v1/datasets",
        summary="List the datasets that you may see",
        call=lambda g, a: g.datasets(a.caller, a.query.get("tag"), a.query.get("text")),
        query={
            "tag": "only those with a column of this tag",
            "text": "only those whose name or card holds this text",
        },
        reply=W.DatasetSummary,
        is_page=True,
    ),
    Act(
        method="GET",
        path=ONE,
        summary="Show a dataset at its newest version",
        call=lambda g, a: g.dataset(a.caller, a.ref),
        reply=W.DatasetDetail,
        headers=_etag,
    ),
    Act(
        method="PATCH",
        path=ONE,
        summary="Change card, owners or contact; suspend or resume (If-Match: its ETag, optional)",
        call=_update,
        body=W.DatasetChanges,
        reply=W.DatasetDetail,
        headers=_etag,
    ),
    Act(
        method="DELETE",
        path=ONE,
        summary="Erase a dataset or columns of all its versions; without `yes` a dry run",
        call=_erase,
        body=W.ErasureRequest,
        reply=W.Operation,
        status=202,
        headers=operation_location,
    ),
    Act(
        method="GET",
        path=ONE + "/columns",
        summary="List the columns of the newest version with their tags",
        call=lambda g, a: g.columns(a.caller, a.ref),
        reply=W.ColumnView,
        is_page=True,
    ),
    Act(
        method="PATCH",
        path=ONE + "/columns",
        summary="Classify columns: set the tags of the named ones (If-Match: optional)",
        call=lambda g, a: g.classify(a.caller, a.ref, a.value(W.ColumnTags).tags, a.if_match),
        body=W.ColumnTags,
        reply=W.DatasetDetail,
        headers=_etag,
    ),
    Act(
        method="GET",
        path=ONE + "/versions",
        summary="List the versions",
        call=lambda g, a: g.versions(a.caller, a.ref),
        reply=W.VersionView,
        is_page=True,
    ),
    Act(
        method="GET",
        path=ONE + "/versions/{version}",
        summary="Show a dataset at one version",
        call=lambda g, a: g.dataset(a.caller, a.ref),
        reply=W.DatasetDetail,
    ),
    Act(
        method="DELETE",
        path=ONE + "/versions/{version}",
        summary="Erase a version or columns of it; without `yes` a dry run",
        call=_erase,
        body=W.ErasureRequest,
        reply=W.Operation,
        status=202,
        headers=operation_location,
    ),
    Act(
        method="GET",
        path=ONE + "/versions/{version}/manifest",
        summary="The signed Manifest of a version (its owner and auditors only)",
        call=lambda g, a: g.manifest(a.caller, a.ref),
        reply=dict,
    ),
    Act(
        method="POST",
        path="/v1/registrations",
        summary="Begin to register a dataset or its next version",
        call=lambda g, a: g.begin_registration(
            a.caller, a.value(W.RegistrationRequest), a.idempotency_key
        ),
        body=W.RegistrationRequest,
        reply=W.Registration,
        status=201,
        headers=location("/v1/registrations/"),
    ),
    Act(
        method="GET",
        path=REGISTRATION,
        summary="Show which parts have arrived",
        call=lambda g, a: g.registration(a.caller, a.path["id"]),
        reply=W.Registration,
    ),
    Act(
        method="DELETE",
        path=REGISTRATION,
        summary="Abort a registration and delete its parts",
        call=lambda g, a: g.abort_registration(a.caller, a.path["id"]),
    ),
    Act(
        method="PUT",
        path=REGISTRATION + "/parts/{n}",
        summary="Upload one part of a file; sending it again replaces it",
        call=_put_part,
        query={"file": "index of the file in the registration (default 0)"},
        is_binary=True,
        reply=W.PartReceipt,
    ),
    Act(
        method="POST",
        path=REGISTRATION + "/commit",
        summary="Seal the parts into a version; answers with an Operation",
        call=lambda g, a: g.commit_registration(a.caller, a.path["id"]),
        reply=W.Operation,
        status=202,
        headers=operation_location,
    ),
    Act(
        method="GET",
        path="/v1/operations",
        summary="List your long acts",
        call=lambda g, a: g.operations(a.caller),
        reply=W.Operation,
        is_page=True,
    ),
    Act(
        method="GET",
        path="/v1/operations/{id}",
        summary="Show how far a long act is",
        call=lambda g, a: g.operation(a.caller, a.path["id"]),
        reply=W.Operation,
    ),
    Act(
        method="DELETE",
        path="/v1/operations/{id}",
        summary="Cancel a long act",
        call=lambda g, a: g.cancel_operation(a.caller, a.path["id"]),
        reply=W.Operation,
    ),
)
