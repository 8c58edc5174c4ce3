"""What a consumer keeps of streams that are over does not grow by a ring for each of them."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.client.slots import RINGS_KEPT_MAX
from tests.delivery.spies import eventually, stream_of
from tests.delivery.test_arriving import one_column
from tests.delivery.world import Gateway, Worker, direct_data, view_data


@pytest.fixture(params=["one column", "view"])
def gateway(worker: Worker, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Gateway]:
    is_view = request.param == "view"
    data = view_data(tmp_path) if is_view else one_column(direct_data(tmp_path))
    gateway = Gateway(data, worker)
    yield gateway
    gateway.close()


def rings() -> int:
    """How many rings this process has in its memory."""
    return Path("/proc/self/maps").read_text().count("memfd:gateway-ring")


def first_batch(gateway: Gateway, output: str) -> Any:
    with stream_of(gateway, delivery="ring", output=output) as stream:
        return next(stream)


def test_a_batch_of_each_of_many_passes_keeps_a_few_rings_and_its_rows(gateway: Gateway) -> None:
    gc.collect()  # what tests before this one left in cycles
    before = rings()
    kept = [first_batch(gateway, "arrow") for _ in range(3 * RINGS_KEPT_MAX)]
    assert 0 < rings() - before <= RINGS_KEPT_MAX
    for batch in kept:
        assert batch.equals(kept[0])
    name, column = next(iter(gateway.control.data.expected.items()))
    np.testing.assert_array_equal(
        np.array(kept[-1].column(name).to_pylist()), column[: len(kept[-1])]
    )
    kept.clear()
    del batch
    eventually(lambda: rings() <= before)  # nothing keeps a ring that nobody looks at
    before = rings()
    held = first_batch(gateway, "arrow")
    assert rings() == before + 1, "and rows are used where they lie again"
    assert held.num_rows == 50


def test_rings_that_only_cycles_keep_cost_nobody_a_copy(gateway: Gateway) -> None:
    """As an error does with its traceback, and a stream that is forgotten."""
    gc.collect()
    gc.disable()
    try:
        for _ in range(RINGS_KEPT_MAX):
            cycle: list[Any] = [first_batch(gateway, "arrow")]
            cycle.append(cycle)
        del cycle
        before = rings()
        held = first_batch(gateway, "arrow")
    finally:
        gc.enable()
    assert 1 <= rings() < before, "theirs are gone, and its own is used"
    assert held.num_rows == 50
