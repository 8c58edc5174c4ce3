"""An answer that came as an Arrow IPC stream: every value as exact as DuckDB had it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from gateway.errors import IntegrityError


class ArrowAnswer:
    """Rows that pyarrow, polars and DuckDB read without a copy: `pyarrow.table(answer)`."""

    def __init__(self, stream: bytes, facts: Mapping[str, Any]) -> None:
        """Hold the bytes; `facts` are `as_of_index`, `truncated`, … as of a Table."""
        self._stream = stream
        self.facts = dict(facts)

    @cached_property
    def table(self) -> Any:
        """The rows as a pyarrow.Table; IntegrityError when they are none."""
        import pyarrow as pa

        try:
            return pa.ipc.open_stream(self._stream).read_all()
        except (pa.ArrowException, OSError, ValueError) as cause:
            raise IntegrityError("the answer holds what is no Arrow stream") from cause

    @property
    def columns(self) -> tuple[str, ...]:
        """Their names, each once."""
        return tuple(self.table.column_names)

    def save(self, path: str | Path) -> None:
        """Write the stream into a file, once it proved readable."""
        assert self.table is not None
        Path(path).write_bytes(self._stream)

    def to_dict(self) -> dict[str, Any]:
        """The facts, and how many rows of which types."""
        types = {field.name: str(field.type) for field in self.table.schema}
        return {**self.facts, "rows": len(self), "columns": types}

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Export as an Arrow stream (PyCapsule interface)."""
        return self.table.__arrow_c_stream__(requested_schema)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __repr__(self) -> str:
        return repr(self.table)
