"""The loaders: pass after pass, resumable, and on their own."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from connectors.loaders.numpy import GatewayBatches
from gateway.client.launcher import RUNS, environment_of_training
from gateway.client.signed import KEYS
from gateway.client.streaming import GrantedToken, open_dataset
from gateway.config import Settings
from gateway.crypto.signing import Signer
from gateway.errors import (
    AccessDenied,
    Conflict,
    IntegrityError,
    InvalidInput,
    LeaseRevoked,
    Unavailable,
)
from tests.delivery.world import Answer, Gateway, Worker, direct_data


@dataclass
class Reply:
    access_token: str
    expires_in: int
    grant: str | None
    authorization_details: tuple[dict[str, Any], ...]


class Exchanging(Gateway):
    """The simulated gateway, which also exchanges tokens."""

    denies = False
    keys_asked = 0
    seconds = 600
    tls = None

    def exchange(self, details: Mapping[str, Any]) -> Reply:
        self.details = [*getattr(self, "details", []), dict(details)]
        if self.denies:
            raise AccessDenied("the purpose is not allowed", advice="ask for `health-research`")
        given = {"columns": [{"name": "id", "mask": None}, {"name": "age", "mask": "x-drop"}]}
        return Reply(f"token-{len(self.details)}", self.seconds, "grant_1", (given,))

    def request(self, method: str, path: str, *, json: Any = None, token: str | None = None) -> Any:
        if method == "PATCH":
            return Answer({"path": path, **json})
        if path == KEYS:
            self.keys_asked += 1
            return super().request(method, path)
        assert token is not None
        return super().request(method, path, json=json, token=token)


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.close()


@pytest.fixture
def gateway(tmp_path: Path, worker: Worker) -> Iterator[Exchanging]:
    gateway = Exchanging(direct_data(tmp_path), worker)
    yield gateway
    gateway.close()


def batches_of(gateway: Exchanging, **wanted: Any) -> GatewayBatches:
    return GatewayBatches(
        "clinic/icu@1", transport=gateway, **{"batch_size": 100, "seed": 5, **wanted}
    )


def test_a_denied_token_opens_nothing(gateway: Exchanging) -> None:
    gateway.denies = True
    with pytest.raises(AccessDenied, match="purpose"):
        list(batches_of(gateway, purpose="marketing"))
    assert not gateway.control.opened


def test_an_unknown_word_is_refused(gateway: Exchanging) -> None:
    with pytest.raises(InvalidInput, match="`colums`"):
        len(batches_of(gateway, colums=["age"]))
    with pytest.raises(InvalidInput, match="list of names"):
        len(batches_of(gateway, columns="age"))


@pytest.mark.parametrize(
    "word",
    [
        *({"seed": wrong} for wrong in ("7", 1.5, None, True, [7])),
        *({"batch_size": wrong} for wrong in ("8", 2.5, None, True)),
        {"epoch": "1"}, {"epoch": 1.5}, {"lanes": "8"}, {"window_blocks": None},
        {"rank": "0", "world": "1"}, {"prefetch_segments": 1.5}, {"prefetch_bytes": "1"},
        {"max_rows": "9"},
    ],
    ids=str,
)  # fmt: skip
def test_a_word_that_is_no_whole_number_is_refused(
    gateway: Exchanging, word: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput, match=f"`{next(iter(word))}` is .* no whole number"):
        batches_of(gateway, **word)
    with pytest.raises(InvalidInput, match="no whole number"):
        open_dataset(gateway, "clinic/icu", word, Settings())  # type: ignore[arg-type]
    assert not gateway.control.opened


def test_numbers_of_numpy_are_numbers(gateway: Exchanging) -> None:
    wanted = {"seed": np.int64(5), "batch_size": np.uint8(100), "epoch": np.int32(2), "lanes": None}
    batches = batches_of(gateway, **wanted)
    batches.set_epoch(np.int64(3))  # type: ignore[arg-type]
    assert sum(len(batch["id"]) for batch in batches) == 1700
    assert (gateway.control.opened[0].order.seed, batches.epoch) == (5, 4)
    with pytest.raises(InvalidInput, match="`epoch`"):
        batches.set_epoch("3")  # type: ignore[arg-type]


def test_a_column_that_is_asked_for_and_not_given_is_said(
    gateway: Exchanging, caplog: pytest.LogCaptureFixture
) -> None:
    batches_of(gateway, columns=["id"]).state_dict()
    assert not caplog.records
    batches_of(gateway, columns=["id", "ag\n", "age"]).state_dict()
    assert caplog.messages == ["not given of the columns asked for: 'ag\\n', 'age'"]


def test_a_manifest_that_no_key_of_the_gateway_signed_is_refused(gateway: Exchanging) -> None:
    batches = batches_of(gateway)
    assert sum(len(batch["id"]) for batch in batches) == 1700
    genuine, honest = gateway.signer, gateway.open
    gateway.signer = Signer(b"\x05" * 32, "view")  # after a restart it may have another
    assert sum(len(batch["id"]) for batch in batches) == 1700
    assert gateway.keys_asked == 2
    for forged in (
        {"key_id": genuine.key_id},
        {"payload": base64.b64encode(b"{}").decode()},
        {"signature": base64.b64encode(bytes(64)).decode()},
        {"more": 1},
    ):
        answer = lambda asked: forge(honest(asked), forged)  # noqa: B023, E731 - used at once
        gateway.open = answer  # type: ignore[method-assign]
        with pytest.raises(IntegrityError):
            next(iter(batches))


def forge(view: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    return {**view, "manifest": {**view["manifest"], **change}}


def test_each_pass_is_the_next_epoch_under_one_grant(gateway: Exchanging) -> None:
    batches = batches_of(gateway, purpose="health-research")
    passes = []
    for _ in range(2):
        assert len(batches) == 17
        passes.append(np.concatenate([b["id"] for b in batches]).tolist())
    assert sorted(passes[0]) == sorted(passes[1]) == list(range(1700))
    assert passes[0] != passes[1]
    assert [r.order.epoch for r in gateway.control.opened] == [0, 1]
    assert gateway.details == [
        {
            "type": "dataset_access",
            "actions": ["stream"],
            "dataset": "clinic/icu@1",
            "purpose": "health-research",
        }
    ]


def test_a_token_that_ends_is_replaced_under_the_same_grant(gateway: Exchanging) -> None:
    clock = [1000.0]
    detail = {"type": "dataset_access", "dataset": "clinic/icu"}
    token = GrantedToken(gateway, detail, now=lambda: clock[0])  # type: ignore[arg-type]
    assert (token(), token()) == ("token-1", "token-1")
    clock[0] += 580
    assert token() == "token-2"
    assert gateway.details[1] == {"type": "dataset_access", "grant": "grant_1"}


def test_a_pass_goes_on_from_a_state(gateway: Exchanging) -> None:
    first = batches_of(gateway, epoch=3)
    seen: list[int] = []
    for number, batch in enumerate(first):
        seen += batch["id"].tolist()
        state = first.state_dict()
        if number == 4:
            with pytest.raises(Conflict):
                first.load_state_dict(state)
            break
    first.close()
    second = batches_of(gateway, batch_size=64)
    second.load_state_dict(state)
    assert second.state_dict() == state
    assert second.epoch == 3
    seen += [int(i) for batch in second for i in batch["id"]]
    assert sorted(seen) == list(range(1700))
    assert second.epoch == 4


def test_a_pass_that_was_left_goes_on_from_a_state(gateway: Exchanging) -> None:
    batches = batches_of(gateway)
    seen = [next(iter(batches))["id"] for _ in range(1)]
    state = batches.state_dict()
    batches.load_state_dict(state)
    assert len(batches) == 16
    seen += [batch["id"] for batch in batches]
    assert sorted(np.concatenate(seen).tolist()) == list(range(1700))
    next(iter(batches))
    batches.set_epoch(4)
    assert (batches.state_dict()["epoch"], batches.state_dict()["rows"]) == (4, 0)
    batches.close()


def test_a_stopped_pass_goes_on_from_the_position_of_its_error(gateway: Exchanging) -> None:
    few = {"window_blocks": 1, "prefetch_segments": 1}
    batches = batches_of(gateway, shuffle=False, batch_size=10, **few)
    seen = []
    with pytest.raises(LeaseRevoked) as stop:  # noqa: PT012 - the loop is what is stopped
        for batch in batches:
            seen += batch["id"].tolist()
            if len(seen) == 10:
                gateway.revoke(next(reversed(gateway.specs)))
    assert stop.value.position.rows == len(seen) < 1700
    batches.load_state_dict(stop.value.position)
    assert seen + [int(i) for batch in batches for i in batch["id"]] == list(range(1700))
    for wrong in (None, 5, "x", [], {"rows": 1}):
        with pytest.raises(InvalidInput, match="stream position"):
            batches.load_state_dict(wrong)  # type: ignore[arg-type]


def test_a_gateway_that_is_away_between_passes_is_a_pause(
    gateway: Exchanging, caplog: pytest.LogCaptureFixture
) -> None:
    batches = batches_of(gateway)
    gateway.is_closed = True
    with pytest.raises(Unavailable):
        len(batches)  # never heard of: it is perhaps no gateway at all
    gateway.is_closed = False
    assert sum(len(batch["id"]) for batch in batches) == 1700
    gateway.is_closed = True
    back = threading.Timer(0.4, setattr, (gateway, "is_closed", False))
    back.start()
    assert sum(len(batch["id"]) for batch in batches) == 1700
    back.join()
    said = [record.getMessage() for record in caplog.records]
    assert said[0].startswith("the stream pauses, for 600 s at most: no gateway answers")
    assert said[1].startswith("the stream goes on after")


def test_a_loader_says_what_it_fetched_and_how(gateway: Exchanging) -> None:
    batches = batches_of(gateway)
    assert batches.stats == {}
    for _ in batches:
        assert batches.stats["rows"] > 0
    assert (batches.stats["producer"], batches.stats["rows"]) == ("direct", 1700)
    assert batches.stats["bytes"] / batches.stats["seconds"] > 0


def test_setting_the_epoch_forgets_a_state(gateway: Exchanging) -> None:
    batches = batches_of(gateway)
    state = batches.state_dict()
    batches.set_epoch(7)
    assert batches.state_dict()["order"] != state["order"]
    batches.close()


@pytest.fixture
def unlaunched(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No launcher has said anything."""
    for name in (*RUNS, "RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_several_ranks_without_a_run_are_told_what_to_set(
    unlaunched: pytest.MonkeyPatch, gateway: Exchanging
) -> None:
    unlaunched.setenv("RANK", "1")
    unlaunched.setenv("WORLD_SIZE", "4")
    unlaunched.setenv("TORCHELASTIC_RUN_ID", "none")
    with pytest.raises(InvalidInput, match="there are 4 ranks") as refusal:
        batches_of(gateway)
    assert "GATEWAY_RUN_ID" in refusal.value.advice
    assert batches_of(gateway, run="mine")._wanted["run"] == "mine"
    assert batches_of(gateway, world=1, rank=0)._wanted["world"] == 1
    unlaunched.setenv("WORLD_SIZE", "many")
    with pytest.raises(InvalidInput, match="`WORLD_SIZE` is `many`"):
        batches_of(gateway, run="mine")


def test_the_run_is_the_first_that_is_set(
    unlaunched: pytest.MonkeyPatch, gateway: Exchanging
) -> None:
    unlaunched.setenv("TORCHELASTIC_RUN_ID", "none")
    assert environment_of_training() == {}
    for variable, prefix in reversed(RUNS.items()):
        unlaunched.setenv(variable, "a1")
        assert environment_of_training() == {"run": f"run:{prefix}a1"}
    assert batches_of(gateway, run="mine")._wanted["run"] == "mine", "explicit wins"
    unlaunched.setenv("SLURM_PROCID", "1")
    unlaunched.setenv("SLURM_NTASKS", "4")
    assert environment_of_training() == {"rank": 1, "world": 4, "run": "run:a1"}


def test_finishing_names_the_model_and_its_digest(gateway: Exchanging, tmp_path: Path) -> None:
    artifact = tmp_path / "model.bin"
    artifact.write_bytes(b"weights")
    with pytest.raises(Conflict):
        batches_of(gateway).finish("m")
    with pytest.raises(InvalidInput, match="cannot be read: No such file"):
        batches_of(gateway, run="run:x").finish("m", str(artifact) + "s")
    answer = batches_of(gateway, run="run:x").finish("m", str(artifact))
    assert answer["path"] == "/v1/runs/run%3Ax"
    assert answer["artifact_sha256"].startswith("9b") or len(answer["artifact_sha256"]) == 64


def test_one_pass_can_be_opened_by_name(gateway: Exchanging) -> None:
    with open_dataset(gateway, "clinic/icu", {"batch_size": 500}, Settings()) as stream:  # type: ignore[arg-type]
        assert [len(b["id"]) for b in stream] == [500, 500, 500, 200]


def test_streaming_needs_neither_arrow_nor_server_libraries(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys, connectors.loaders.numpy as m;"
        "bad = {'pyarrow', 'fastapi', 'duckdb', 'casbin', 'uvicorn', 'pydantic', 'torch'};"
        "sys.exit(', '.join(sorted(bad & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_memory_of_a_pass_is_for_the_next_unless_it_is_left_or_refused(
    gateway: Exchanging,
) -> None:
    batches = batches_of(gateway, lanes=2)
    first = [batch["id"] for batch in batches]
    as_they_were = [ids.copy() for ids in first]
    (trays,) = batches._memory._kept
    assert sum(len(batch["id"]) for batch in batches) == 1700
    assert list(batches._memory._kept) == [trays]
    assert all((a == b).all() for a, b in zip(first, as_they_were, strict=True))
    for _ in batches:
        break
    assert not batches._memory._kept
    assert len(list(batches)) == len(batches)
    batches.close()
    assert not batches._memory._kept
    list(batches)
    assert batches._memory._kept
    gateway.denies, gateway.seconds = True, 0
    batches._token = None
    with pytest.raises(AccessDenied):
        list(batches)
    assert not batches._memory._kept
