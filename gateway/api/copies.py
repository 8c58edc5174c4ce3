"""Acts on what leaves as a whole: a preview of some rows, sealed shards and their keys."""

from __future__ import annotations

import gateway.wire as W
from gateway.api.acts import Act, Asked
from gateway.api.datasets import ONE
from gateway.api.facade import Gateway
from gateway.errors import InvalidInput
from gateway.wire import codec


async def _preview(gateway: Gateway, asked: Asked) -> W.Preview:
    wanted = W.ExportRequest(
        dataset=asked.ref,
        purpose=asked.query.get("purpose"),
        columns=_columns(asked.query.get("columns")),
        split=asked.query.get("split"),
    )
    rows = asked.number("rows", W.PREVIEW_ROWS_DEFAULT)
    return await gateway.preview(asked.caller, asked.ref, wanted, rows)


def _columns(text: str | None) -> tuple[str, ...] | None:
    """A JSON list, since a column's name may hold any character."""
    if text is None:
        return None
    names = codec.loads(text)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidInput("`columns` is not a JSON list of names", field="columns")
    return tuple(names)


ACTS = (
    Act(
        method="GET",
        path=ONE + "/versions/{version}/preview",
        summary="The first rows that the rules let you preview, as Arrow IPC in base64",
        call=_preview,
        query={
            "purpose": "why",
            "columns": "a JSON list of names (default: all that may be had)",
            "split": "one split of the version",
            "rows": f"1 to {W.PREVIEW_ROWS_MAX} (default {W.PREVIEW_ROWS_DEFAULT})",
        },
        reply=W.Preview,
    ),
    Act(
        method="POST",
        path="/v1/exports",
        summary="Release the keys of whole columns of whole shards (never kept for a retry)",
        call=lambda g, a: g.release_keys(a.caller, a.value(W.ExportRequest)),
        body=W.ExportRequest,
        reply=W.Export,
        status=201,
        is_secret=True,
    ),
    Act(
        method="GET",
        path="/v1/exports/{id}/shards/{n}",
        summary="Sealed bytes of the n-th shard of an export, from `start` on",
        call=lambda g, a: g.exported_part(
            a.caller, a.path["id"], a.number("n"), a.number("start", 0)
        ),
        query={"start": "the first byte (default 0); at most 8 MiB come"},
        reply=bytes,
    ),
)
