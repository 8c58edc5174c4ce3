"""The key that signs tokens is renewed: nothing issued fails, and an old key ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway import bootstrap, failpoints
from gateway.config import Settings
from gateway.domain.events import EventKind
from gateway.errors import AccessDenied, ConfigError, NotAuthenticated, NotFound
from gateway.services import exchange, rotate_keys, signing_keys
from gateway.services.house import House
from tests.services.conftest import open_house
from tests.services.registrations import ended
from tests.services.simulator import OPERATOR
from tests.services.test_access import OWNER, run, shared
from tests.services.test_exchange import Job

__all__ = ["shared"]


@pytest.fixture
def job(shared: House, tmp_path: Path) -> Job:
    return Job(shared, tmp_path)


def rotate(house: House) -> Any:
    async def act() -> object:
        operation = await rotate_keys.rotate(house, OPERATOR, "token")
        result = await ended(operation)
        assert operation.task is not None
        await operation.task  # tells of a kill
        return result

    return run(act())


def published(house: House) -> set[str]:
    return {key["kid"] for key in exchange.public_keys(house).keys if key["kid"][:5] == "token"}


def later(job: Job, seconds: float) -> None:
    present = job.gateway.house.now()
    job.gateway.house.now = job.now = lambda: present + seconds


def test_only_an_operator_renews_the_key_that_signs_tokens(shared: House) -> None:
    for key in ("token", "log"):
        with pytest.raises(NotFound):
            run(rotate_keys.rotate(shared, OWNER, key))
    with pytest.raises(NotFound, match="no key `log`"):
        run(rotate_keys.rotate(shared, OPERATOR, "log"))
    with pytest.raises(AccessDenied):
        run(signing_keys.rotate(shared, OWNER))


def test_the_new_key_signs_at_once_and_the_old_one_verifies_until_its_tokens_end(job: Job) -> None:
    house, old = job.gateway.house, job.api_token()
    first, start = house.signers.token.key_id, house.journal.durable_size
    done = rotate(house)
    assert (done["replaced"], done["key_id"]) == (first, house.signers.token.key_id)
    (event,) = [e for e in house.journal.read(start) if e.kind == EventKind.KeyIntroduced]
    assert (event.facts["key_id"], event.actor) == (done["key_id"], OPERATOR.subject.id)
    assert published(house) == {first, done["key_id"]}
    new = job.api_token()
    for token in (old, new):
        assert job.call("/v1/whoami", token).subject.id == "startup/job"
    later(job, signing_keys.OVERLAP_SECONDS + 1)
    assert published(house) == {done["key_id"]}
    with pytest.raises(NotAuthenticated, match="kid"):
        job.call("/v1/whoami", old)
    states = [key.state for key in signing_keys.views(house) if key.name == "token"]
    assert states == ["retired", "in use"]


def test_both_keys_outlive_a_restart(settings: Settings, tmp_path: Path) -> None:
    bootstrap.init(settings)
    house = open_house(settings)
    first = house.signers.token.key_id
    second, third = rotate(house)["key_id"], rotate(house)["key_id"]
    house.journal.close()
    house = open_house(settings)
    assert house.signers.token.key_id == third
    assert published(house) == {first, second, third}
    house.journal.close()


@pytest.mark.parametrize("step", ["signing.made", "signing.recorded"])
def test_a_renewal_that_was_killed_is_whole_or_has_not_been(settings: Settings, step: str) -> None:
    bootstrap.init(settings)
    house = open_house(settings)
    first = house.signers.token.key_id

    def kill(reached: str) -> None:
        if reached == step:
            raise KeyboardInterrupt

    failpoints.arm(kill)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(signing_keys.rotate(house, OPERATOR))
    finally:
        failpoints.arm(None)
    house.journal.close()
    house = open_house(settings)
    keys = [key.key_id for key in house.catalog.keys() if key.use == "token"]  # noqa: SIM118
    assert len(keys) == (2 if step == "signing.recorded" else 1)
    assert house.signers.token.key_id == keys[-1]
    assert (keys[-1] == first) == (step == "signing.made")
    assert [path.name for path in (settings.config_dir / "keys").glob("*next*")] == []
    house.journal.close()


def test_a_key_file_from_before_a_renewal_is_refused_and_a_lost_one_is_replaced(
    settings: Settings,
) -> None:
    bootstrap.init(settings)
    path = settings.config_dir / "keys" / "token.json"
    old = path.read_bytes()
    house = open_house(settings)
    rotate(house)
    house.journal.close()
    path.unlink()
    house = open_house(settings)
    assert len(published(house)) == 3
    house.journal.close()
    path.write_bytes(old)
    with pytest.raises(ConfigError, match="replaced since"):
        open_house(settings)
