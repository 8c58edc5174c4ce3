"""StreamPosition: the whole state of a streaming run, under 200 bytes of JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gateway.errors import InvalidInput, PlanChanged

POSITION_FORMAT = 0
_FIELDS = {"v", "order", "seed", "epoch", "shuffle", "lanes", "window", "rows"}


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPosition:
    """Rows of the global visible-row order that all ranks together have received.

    The same on every rank after equally many batches, and valid for any world size up to
    `lanes`.
    """

    order: str  # order_id: version, plan, seed, epoch, lanes, window; a change is refused
    seed: int
    epoch: int
    shuffle: bool
    lanes: int
    window: int
    rows: int
    v: int = POSITION_FORMAT

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any] | StreamPosition) -> StreamPosition:
        """Read what `to_dict` wrote, or take the position as it is; raises InvalidInput."""
        if isinstance(value, StreamPosition):
            return value
        if not isinstance(value, Mapping) or set(value) != _FIELDS or value["v"] != POSITION_FORMAT:
            raise InvalidInput("this is not a stream position of this version")
        numbers = ("seed", "epoch", "lanes", "window", "rows")
        if any(type(value[name]) is not int or not 0 <= value[name] < 1 << 53 for name in numbers):
            raise InvalidInput("a stream position holds a number that is none")
        if type(value["shuffle"]) is not bool or not isinstance(value["order"], str):
            raise InvalidInput("a stream position holds a value of the wrong type")
        return cls(**value)

    def require(self, order: str, rows: int) -> None:
        """Raise PlanChanged when the position is of another order, or beyond `rows`."""
        if self.order != order or self.rows > rows:
            raise PlanChanged(
                "this position belongs to another plan, version, seed, epoch or order",
                advice="resume with the words it was taken under (a loader does so by itself), "
                "or begin an order anew",
                position=self,
            )
