"""What a preview looks like to its caller: a small table that prints well."""

from __future__ import annotations

import base64
import binascii
from functools import cached_property
from typing import Any

from gateway.client.records import Record, escape
from gateway.errors import IntegrityError


class Preview(Record):
    """The first rows of a Plan, filtered and masked by the gateway."""

    # No __slots__: the table is decoded once and kept.

    @cached_property
    def table(self) -> Any:
        """The rows as a pyarrow.Table."""
        import pyarrow as pa

        try:
            data = base64.b64decode(self._fields["arrow"], validate=True)
            return pa.ipc.open_stream(data).read_all()
        except (pa.ArrowException, OSError, ValueError, binascii.Error) as cause:
            raise IntegrityError("the preview holds what is no Arrow stream") from cause

    @property
    def items(self) -> list[dict[str, Any]]:
        """The rows, each by column name."""
        found: list[dict[str, Any]] = self.table.to_pylist()
        return found

    def to_dict(self) -> dict[str, Any]:
        """Facts about the preview, and its rows as Python values."""
        facts = {name: value for name, value in self._fields.items() if name != "arrow"}
        return {**facts, "items": self.items}

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Export as an Arrow stream (PyCapsule interface)."""
        return self.table.__arrow_c_stream__(requested_schema)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __repr__(self) -> str:
        return f"Preview(dataset={self.dataset!r}, rows={len(self)})"

    def _repr_html_(self) -> str:
        masks = {column["name"]: column["mask"] for column in self._fields["columns"]}
        names = self.table.schema.names
        head = "".join(f"<th>{escape(_titled(name, masks.get(name)))}</th>" for name in names)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(_cell(row[name]))}</td>" for name in names) + "</tr>"
            for row in self.items
        )
        return f"<table><tr>{head}</tr>{body}</table>"


def _titled(name: str, mask: str | None) -> str:
    return f"{name} ({mask})" if mask else name


def _cell(value: Any) -> str:
    return "" if value is None else str(value)
