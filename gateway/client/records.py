"""What the client hands out: values that print well, turn into dicts, and become tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, Self

from gateway.errors import AccessDenied
from gateway.wire import codec


class Record:
    """One thing the gateway said, with its fields as attributes."""

    __slots__ = ("_fields", "_gateway")

    def __init__(self, fields: Mapping[str, Any], gateway: Any = None) -> None:
        """Hold the fields; `gateway` is the client that verbs of the record use."""
        self._fields = dict(fields)
        self._gateway = gateway

    @classmethod
    def of(cls, view: Any, gateway: Any = None) -> Self:
        """Wrap a wire dataclass."""
        return cls(codec.encode(view), gateway)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dict(self._fields)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self._fields[name]
        except KeyError:
            raise AttributeError(f"`{name}` is not one of: {', '.join(self._fields)}") from None

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._fields]

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.to_dict() == self.to_dict()

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{name}={value!r}"
            for name, value in self._fields.items()
            if value is not None and not isinstance(value, (list, dict))
        )
        return f"{type(self).__name__}({shown})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{escape(str(name))}</th><td>{escape(_shown(value))}</td></tr>"
            for name, value in self._fields.items()
        )
        return f"<table>{rows}</table>"


class Dataset(Record):
    """A dataset at one version."""

    __slots__ = ()

    def update(self, **changes: Any) -> Dataset:
        """Change card, owners or contact; see `Datasets.update`."""
        updated: Dataset = self._gateway.datasets.update(self.dataset, **changes)
        return updated

    def suspend(self, *, reason: str | None = None) -> Dataset:
        """Release nothing of it, at once and until it is resumed."""
        suspended: Dataset = self._gateway.datasets.suspend(self.dataset, reason=reason)
        return suspended

    def resume(self, *, reason: str | None = None) -> Dataset:
        """Undo a suspension."""
        resumed: Dataset = self._gateway.datasets.resume(self.dataset, reason=reason)
        return resumed

    def classify(
        self, tags: Mapping[str, str | Sequence[str]], *, if_match: str | None = None
    ) -> Dataset:
        """Set the tags of the named columns; `if_match=dataset.etag`: as they were read."""
        classified: Dataset = self._gateway.datasets.classify(self.dataset, tags, if_match=if_match)
        return classified


class Grant(Record):
    """A recorded permission."""

    __slots__ = ()

    def revoke(self, *, reason: str | None = None) -> Revocation:
        """End it and its streams."""
        revocation: Revocation = self._gateway.grants.revoke(self.id, reason=reason)
        return revocation


class Revocation(Record):
    """What a revocation did."""

    __slots__ = ()


class Decision(Record):
    """An answer of the judge. It has no truth value: use `require()`."""

    __slots__ = ()

    @property
    def is_allowed(self) -> bool:
        """For display; enforcement happens at the gateway."""
        return bool(self.effect == "allow")

    def require(self) -> Decision:
        """Return itself, or raise AccessDenied with the reasons and what would have to change."""
        if not self.is_allowed:
            why = "; ".join(reason["text"] for reason in self.reasons) or "denied"
            raise AccessDenied(why, advice=self.advice, decision=self.decision)
        return self

    def __bool__(self) -> NoReturn:
        raise TypeError("a Decision has no truth value; use decision.require()")


class AccessRequest(Record):
    """What was asked of the owner's people, and their answer."""

    __slots__ = ()

    def approve(
        self,
        *,
        narrow_columns: Sequence[str] | None = None,
        valid: str | None = None,
        reason: str | None = None,
    ) -> AccessRequest:
        """Say yes, to all of it or to less."""
        answered: AccessRequest = self._gateway.access.approve(
            self.id, narrow_columns=narrow_columns, valid=valid, reason=reason
        )
        return answered

    def reject(self, *, reason: str) -> AccessRequest:
        """Say no; the asker reads the reason."""
        answered: AccessRequest = self._gateway.access.reject(self.id, reason=reason)
        return answered


class Token(Record):
    """A dataset token; it works only together with this process's key."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Token(grant={self.grant!r}, expires_in={self.expires_in})"

    def _repr_html_(self) -> str:
        return escape(repr(self))


class Trace(Record):
    """A part of the lineage graph: `nodes` and `edges`."""

    __slots__ = ()

    def save(self, path: str | Path) -> None:
        """Draw it into an SVG file."""
        Path(path).write_text(self._repr_svg_(), "utf-8")

    def _repr_svg_(self) -> str:
        from gateway.client.graph import svg

        return svg(self.nodes, self.edges)


class Table(Sequence[Any]):
    """Rows with named columns: a list of Records that Arrow, polars, pandas can read."""

    def __init__(
        self, columns: Sequence[str], rows: Sequence[Record], facts: Mapping[str, Any] | None = None
    ) -> None:
        """Hold the rows; `facts` are about the table as a whole (`as_of_index`, `truncated`)."""
        self.columns = tuple(columns)
        self._rows = list(rows)
        self.facts = dict(facts or {})

    @classmethod
    def of(cls, records: Sequence[Record]) -> Table:
        """A table of like records."""
        return cls(tuple(records[0].to_dict()) if records else (), records)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**self.facts, "items": [row.to_dict() for row in self._rows]}

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Export as an Arrow stream (PyCapsule interface)."""
        import pyarrow as pa

        data = {name: [row.to_dict().get(name) for row in self._rows] for name in self.columns}
        return pa.table(data).__arrow_c_stream__(requested_schema)

    def __getitem__(self, index: Any) -> Any:
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)

    def __repr__(self) -> str:
        return "\n".join(repr(row) for row in self._rows) or "(nothing)"

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(name)}</th>" for name in self.columns)
        body = "".join(
            "<tr>"
            + "".join(
                f"<td>{escape(_shown(row.to_dict().get(name)))}</td>" for name in self.columns
            )
            + "</tr>"
            for row in self._rows
        )
        return f"<table><tr>{head}</tr>{body}</table>"


def escape(value: str) -> str:
    """As `html.escape`, whose module is loaded only when something is shown."""
    import html

    return html.escape(value)


def _shown(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    return "" if value is None else str(value)
