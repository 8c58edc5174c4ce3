"""Loaders under torch, and what Arrow's readers make of a pass."""

from __future__ import annotations

import importlib.util
from typing import Any

import datasets
import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from connectors.loaders.numpy import GatewayBatches
from gateway.client.streaming import open_dataset
from gateway.config import Settings
from gateway.errors import Conflict, InvalidInput
from tests.loaders.test_loaders import Exchanging, batches_of, gateway, worker

__all__ = ["gateway", "worker"]


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
class TestTorch:
    def dataset(self, gateway: Exchanging, **wanted: Any) -> Any:
        from connectors.loaders.torch import GatewayDataset

        return GatewayDataset("clinic/icu@1", transport=gateway, batch_size=100, **wanted)

    def test_a_loader_that_collects_again_is_refused(self, gateway: Exchanging) -> None:
        from torch.utils.data import DataLoader

        with pytest.raises(InvalidInput, match=r"batches of batches.*`for batch in dataset:`"):
            next(iter(DataLoader(self.dataset(gateway), batch_size=4)))

    @pytest.mark.skipif(
        importlib.util.find_spec("torchdata") is None, reason="torchdata is not installed"
    )
    @pytest.mark.filterwarnings("ignore::UserWarning")
    def test_a_loader_with_a_state_of_its_own_is_refused(self, gateway: Exchanging) -> None:
        from torchdata.stateful_dataloader import StatefulDataLoader

        with pytest.raises(InvalidInput, match=r"`torchdata`.*`for batch in dataset:`"):
            next(iter(StatefulDataLoader(self.dataset(gateway), batch_size=None)))

    @pytest.mark.filterwarnings("ignore::UserWarning")
    def test_workers_of_a_loader_are_refused(self, gateway: Exchanging) -> None:
        from torch.utils.data import DataLoader

        loader = DataLoader(self.dataset(gateway), batch_size=None, num_workers=1)
        with pytest.raises(InvalidInput, match="`for batch in dataset:`"):
            next(iter(loader))

    def test_batches_are_tensors(self, gateway: Exchanging) -> None:
        import torch

        dataset = self.dataset(gateway, shuffle=False)
        assert len(dataset) == 17
        got = torch.cat([batch["tokens"] for batch in dataset])
        assert got.dtype == torch.int32
        np.testing.assert_array_equal(got.numpy(), gateway.control.data.expected["tokens"])

    def test_a_loader_that_only_passes_on_works(self, gateway: Exchanging) -> None:
        from torch.utils.data import DataLoader

        loader = DataLoader(self.dataset(gateway), batch_size=None)
        assert sum(len(batch["id"]) for batch in loader) == 1700


def test_without_torch_the_import_says_what_to_do() -> None:
    if importlib.util.find_spec("torch") is not None:
        pytest.skip("torch is installed")
    with pytest.raises(ImportError, match="pip install torch"):
        importlib.import_module("connectors.loaders.torch")


class TestReadersOfArrow:
    """Programs that take any Arrow stream take ours."""

    @pytest.fixture
    def batches(self, gateway: Exchanging) -> GatewayBatches:
        return batches_of(gateway, output="arrow")

    def test_numpy_batches_are_no_arrow_stream(self, gateway: Exchanging) -> None:
        with pytest.raises(Conflict, match="numpy") as refusal:
            batches_of(gateway).to_arrow()
        assert 'output="arrow"' in refusal.value.advice

    def test_each_stream_is_the_next_epoch(self, batches: GatewayBatches) -> None:
        first, second = (batches.to_arrow().read_all()["id"].to_pylist() for _ in range(2))
        assert first != second
        assert sorted(first) == sorted(second) == list(range(1700))
        assert batches.epoch == 2

    def test_duckdb_reads_one(self, batches: GatewayBatches) -> None:
        with duckdb.connect() as database:
            database.register("stream", batches.to_arrow())
            found = database.sql("SELECT count(*), sum(id) FROM stream").fetchall()
        assert found == [(1700, sum(range(1700)))]

    def test_polars_reads_one(self, batches: GatewayBatches) -> None:
        frame = pl.DataFrame(batches)
        assert frame.height == 1700
        assert frame["id"].sum() == sum(range(1700))

    def test_hugging_face_datasets_read_one(self, batches: GatewayBatches) -> None:
        whole = datasets.Dataset(batches.to_arrow().read_all())
        assert sorted(whole["id"]) == list(range(1700))

    def test_one_that_is_opened_by_name_is_read_the_same(self, gateway: Exchanging) -> None:
        ask = {"purpose": "research", "output": "arrow", "batch_size": 300}
        with open_dataset(gateway, "clinic/icu@1", ask, Settings()) as stream:  # type: ignore[arg-type]
            assert pa.table(stream)["id"].to_pylist() == list(range(1700))
