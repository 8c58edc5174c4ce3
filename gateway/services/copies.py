"""The part of the facade about what leaves as a whole: previews and exports."""

from __future__ import annotations

import gateway.wire as W
from gateway.domain.access import Limits
from gateway.services import export, preview
from gateway.services.house import House
from gateway.services.request_access import Ask, Caller


class Copies:
    """Mixed into the facade, whose House it works on."""

    __slots__ = ()
    house: House

    async def preview(
        self, caller: Caller, ref: str, wanted: W.ExportRequest, rows: int
    ) -> W.Preview:
        """The first rows of a version, as the Plan lets them through."""
        return await preview.preview(self.house, caller, _ask(ref, "preview", wanted), rows)

    async def release_keys(self, caller: Caller, wanted: W.ExportRequest) -> W.Export:
        """The keys of what may be exported as it is stored; recorded before they leave."""
        return await export.release(self.house, caller, _ask(wanted.dataset, "export", wanted))

    async def exported_part(self, caller: Caller, export_: str, shard: int, start: int) -> bytes:
        """Sealed bytes of one shard of an export."""
        return await export.part(self.house, caller, export_, shard, start)


def _ask(ref: str, action: str, wanted: W.ExportRequest) -> Ask:
    return Ask(
        dataset=ref,
        action=action,
        purpose=wanted.purpose,
        columns=wanted.columns,
        split=wanted.split,
        limits=Limits(max_rows=wanted.max_rows, max_bytes=wanted.max_bytes),
        run=wanted.run,
    )
