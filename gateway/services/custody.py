"""The part of the facade about keys: what there is, renewing it, and destroying."""

from __future__ import annotations

import gateway.wire as W
from gateway.domain.dataset import DatasetRef
from gateway.services import erase, rotate_keys, shapes
from gateway.services.house import House
from gateway.services.request_access import Caller


class Custody:
    """Mixed into the facade, whose House it works on."""

    __slots__ = ()
    house: House

    async def keys(self, caller: Caller) -> list[W.KeyView]:
        """The tenant's keys by generation and age."""
        return await rotate_keys.list_(self.house, caller)

    async def rotate_keys(self, caller: Caller, key: str) -> W.Operation:
        """Renew roots or KEKs; answers with an Operation."""
        return shapes.operation_view(await rotate_keys.rotate(self.house, caller, key))

    async def erase_dataset(
        self, caller: Caller, ref: str, wanted: W.ErasureRequest
    ) -> W.Operation:
        """Destroy a dataset, version or column; without `yes` say what would happen."""
        found = await erase.erase(self.house, caller, DatasetRef.parse(ref), wanted)
        return shapes.operation_view(found)
