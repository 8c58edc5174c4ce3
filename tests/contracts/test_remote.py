"""A whole gateway whose objects lie in S3 and whose root keys in AWS KMS; both go and come back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from gateway.client import GatewayClient
from gateway.errors import IntegrityError, KeyUnavailable, Unavailable
from tests.contracts.machines import AWS, Door, Moto
from tests.journeys import audit
from tests.journeys.home import Home
from tests.journeys.story import DIRECT, HOW, PURPOSE, VIEW, Story

REGION = "eu-central-1"


@dataclass(frozen=True)
class Remote:
    """The gateway, its people, and the doors to what it depends on."""

    home: Home
    story: Story
    hasty: GatewayClient
    s3: Any
    objects: Door
    keys: Door


@pytest.fixture(scope="module")
def remote(moto: Moto, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    moto.reset()
    objects, keys = Door(moto.url), Door(moto.url)
    s3 = boto3.session.Session(region_name=REGION).client("s3", endpoint_url=moto.url)
    s3.create_bucket(Bucket="sealed", CreateBucketConfiguration={"LocationConstraint": REGION})
    variables = {
        **AWS,
        "GATEWAY_STORE": f"s3://sealed/centre?region={REGION}&endpoint={objects.url}",
        "GATEWAY_KMS": f"awskms:?region={REGION}&endpoint={keys.url}",
    }
    home = Home.make(tmp_path_factory.mktemp("remote"), variables=variables)
    try:
        home.start()
        story = Story(home)
        story.register("a")
        story.publish("a")
        yield Remote(home, story, home.client(patience_seconds=1), s3, objects, keys)
        home.stop()
    finally:
        home.end()
        objects.shut()
        keys.shut()


def shards(remote: Remote) -> list[str]:
    found = remote.s3.list_objects_v2(Bucket="sealed", Prefix="centre/shards/")["Contents"]
    return [item["Key"] for item in found if item["Key"].endswith(".parquet")]


def read(gateway: GatewayClient, dataset: str, columns: list[str]) -> int:
    asked: Any = {"purpose": PURPOSE, "columns": columns, "output": "arrow", **HOW}
    with gateway.stream(dataset, **asked) as stream:
        return sum(batch.num_rows for batch in stream)


def test_a_dataset_in_s3_is_streamed_as_pages_and_as_a_view(remote: Remote) -> None:
    rows = remote.story.source("a").num_rows
    assert shards(remote)
    assert not (remote.home.settings.state_dir / "objects").exists()
    assert read(remote.story.gateway, "home/a", DIRECT) == rows
    assert read(remote.story.gateway, "home/a", VIEW) == rows
    copies = list((remote.home.settings.state_dir / "cache").rglob("*.parquet"))
    assert {f"centre/shards/{copy.name}" for copy in copies} == set(shards(remote))


def test_an_object_that_was_changed_in_the_bucket_is_denied(remote: Remote) -> None:
    before = set(shards(remote))
    remote.story.register("b")
    remote.story.publish("b")
    (key,) = set(shards(remote)) - before
    body = bytearray(remote.s3.get_object(Bucket="sealed", Key=key)["Body"].read())
    body[len(body) // 2] ^= 1
    remote.s3.put_object(Bucket="sealed", Key=key, Body=bytes(body))
    with pytest.raises(IntegrityError):
        read(remote.hasty, "home/b", DIRECT)


def test_without_s3_a_stream_cannot_begin_and_can_when_it_is_back(remote: Remote) -> None:
    remote.home.run("doctor", expect=audit.doctor_code())
    remote.objects.shut()
    assert "object store does not answer" in remote.home.run("doctor", expect=1)
    with pytest.raises(Unavailable) as refused:
        read(remote.hasty, "home/a", DIRECT)
    assert refused.value.advice
    remote.objects.unlock()
    assert read(remote.story.gateway, "home/a", DIRECT) == remote.story.source("a").num_rows


def test_without_the_key_service_new_grants_are_denied_and_running_streams_go_on(
    remote: Remote, tmp_path: Path
) -> None:
    gateway, rows = remote.story.gateway, remote.story.source("a").num_rows
    asked: Any = {"purpose": PURPOSE, "columns": DIRECT, "output": "arrow", **HOW}
    with gateway.stream("home/a", **asked) as stream:
        received = next(stream).num_rows
        remote.keys.shut()
        with pytest.raises(KeyUnavailable) as denied:
            remote.hasty.tokens.request("home/a", purpose=PURPOSE, columns=["x"])
        with pytest.raises(KeyUnavailable):
            remote.hasty.datasets.register("home/c", remote.story.file("c"))
        received += sum(batch.num_rows for batch in stream)
    assert received == rows
    assert denied.value.advice
    assert denied.value.decision
    remote.keys.unlock()
    explained = gateway.policies.explain(denied.value.decision)
    assert "key-unavailable" in str(explained.to_dict())
    remote.hasty.tokens.request("home/a", purpose=PURPOSE, columns=["x"])
    assert [d.dataset for d in gateway.datasets.list() if d.dataset.startswith("home/c")] == []
    remote.story.register("c")
