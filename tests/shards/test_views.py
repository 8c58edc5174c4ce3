"""Views: filtered on original values, then masked, sealed frame by frame, nothing more."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from gateway.crypto.pages import open_frame
from gateway.domain.access import Plan, PlannedColumn
from gateway.domain.dataset import DatasetRef
from gateway.domain.lease import CHUNK_BYTES_MAX
from gateway.errors import GatewayError, IntegrityError, InvalidInput, Unavailable
from gateway.shards import views
from gateway.shards.views import (
    ViewFile,
    ViewJob,
    build_view,
    is_direct,
    needed_fields,
    needed_leaves,
)
from tests.shards.kit import Registered, parquet_bytes, register

ROWS = 5000
PEOPLE = pa.table(
    {
        "name": pa.array([None if n % 7 == 0 else f"person {n}" for n in range(ROWS)]),
        "age": pa.array([n % 90 for n in range(ROWS)]),
        "income": pa.array([None if n % 5 == 0 else n * 1.5 for n in range(ROWS)]),
        "tags": pa.array([[f"t{n % 3}"] * (n % 4) for n in range(ROWS)]),
    }
)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Registered:
    folder = tmp_path_factory.mktemp("people")
    wishes: dict[str, Any] = {"splits": (("train", 0.8), ("test", 0.2)), "shard_bytes": 100_000}
    return register(folder, parquet_bytes(PEOPLE), **wishes)


def plan_of(
    *columns: tuple[str, str | None], row_filter: Any = None, split: str | None = None
) -> Plan:
    ids = {name: n + 1 for n, name in enumerate(PEOPLE.schema.names)}
    return Plan(
        dataset=DatasetRef("clinic", "icu", 1),
        split=split,
        columns=tuple(PlannedColumn(field_id=ids[n], name=n, mask=m) for n, m in columns),
        row_filter=row_filter,
        purpose="research",
        action="stream",
    )


def job_for(people: Registered, plan: Plan, folder: Path, **changes: Any) -> ViewJob:
    leaves = needed_leaves(people.manifest, plan)
    values: dict[str, Any] = {
        "view": secrets.token_hex(8),
        "manifest": people.manifest,
        "plan": plan,
        "plan_digest": plan.digest,
        "paths": people.paths,
        "deks": {leaf.dek: people.keys[leaf.dek] for leaf in leaves},
        "mask_key": bytes(range(32)),
        "out": str(folder / f"view-{secrets.token_hex(4)}"),
    }
    return ViewJob(**{**values, **changes})


def opened(view: ViewFile) -> Any:
    data = Path(view.path).read_bytes()
    schema = pa.ipc.read_schema(pa.py_buffer(view.schema))
    batches = []
    for number, (offset, length, rows) in enumerate(view.frames):
        frame = open_frame(
            view.key,
            data[offset : offset + length],
            view=view.view,
            plan_digest=view.plan_digest,
            number=number,
            count=len(view.frames),
        )
        batch = pa.ipc.read_record_batch(pa.py_buffer(frame), schema)
        batch.validate(full=True)
        assert len(batch) == rows
        batches.append(batch)
    return pa.Table.from_batches(batches, schema)


def test_a_view_holds_the_rows_that_pass_and_only_the_planned_columns(
    people: Registered, tmp_path: Path
) -> None:
    tree = ("and", ("cmp", ">=", "income", ("float", "3000.0")), ("not", ("null", "name")))
    plan = plan_of(("age", "x-bucket:10"), ("tags", None), row_filter=tree)
    assert not is_direct(people.manifest, plan)
    seen: list[float] = []
    view = build_view(job_for(people, plan, tmp_path), lambda f, _t: seen.append(f))
    table = opened(view)
    assert table.schema.names == ["age", "tags"]
    wanted = [r for r in PEOPLE.to_pylist() if (r["income"] or 0) >= 3000 and r["name"] is not None]
    got = sorted((row["age"], tuple(row["tags"])) for row in table.to_pylist())
    assert got == sorted((row["age"] // 10 * 10, tuple(row["tags"])) for row in wanted)
    assert view.rows == len(wanted)
    assert seen == sorted(seen)
    assert len(view.frames) >= 30


def test_frames_of_wide_rows_fit_into_a_chunk_and_nearly_fill_it(tmp_path: Path) -> None:
    size = 50_000
    blobs = pa.table({"name": pa.array([bytes((n,)) * (size - n * 9) for n in range(80)])})
    known = register(tmp_path, parquet_bytes(blobs))
    view = build_view(job_for(known, plan_of(("name", None)), tmp_path), lambda _f, _t: None)
    assert opened(view)["name"].to_pylist() == blobs["name"].to_pylist()
    *full, _ = [length for _, length, _ in view.frames]
    assert len(full) >= 3
    assert all(CHUNK_BYTES_MAX - 2 * size < length < CHUNK_BYTES_MAX for length in full)


def test_masks_apply_after_the_filter_on_the_same_column(
    people: Registered, tmp_path: Path
) -> None:
    tree = ("in", "name", (("str", "person 1"), ("str", "person 4999")))
    plan = plan_of(("name", "mask-alphanum"), ("age", None), row_filter=tree)
    table = opened(build_view(job_for(people, plan, tmp_path), lambda _f, _t: None))
    assert sorted(table["name"].to_pylist()) == ["xxxxxx n", "xxxxxx nnnn"]


def test_a_column_that_becomes_null_or_is_dropped_is_never_opened(
    people: Registered, tmp_path: Path
) -> None:
    plan = plan_of(("name", "replace-with-null"), ("age", None), ("income", "x-drop"))
    assert needed_fields(people.manifest, plan) == {2}
    assert {leaf.field_id for leaf in needed_leaves(people.manifest, plan)} == {None, 2}
    table = opened(build_view(job_for(people, plan, tmp_path), lambda _f, _t: None))
    assert table.schema.names == ["name", "age"]
    assert table["name"].null_count == ROWS
    only = plan_of(("name", "replace-with-null"))
    assert opened(build_view(job_for(people, only, tmp_path), lambda _f, _t: None)).num_rows == ROWS


def test_a_split_and_a_preview_are_parts_of_the_whole(people: Registered, tmp_path: Path) -> None:
    rows = {split.name: split.rows for split in people.manifest.splits}
    plan = plan_of(("age", None), split="test")
    assert build_view(job_for(people, plan, tmp_path), lambda _f, _t: None).rows == rows["test"]
    job = job_for(people, plan, tmp_path, rows_max=7)
    assert opened(build_view(job, lambda _f, _t: None)).num_rows == 7


def test_no_row_passing_is_an_empty_view(people: Registered, tmp_path: Path) -> None:
    plan = plan_of(("age", None), row_filter=("cmp", "<", "age", ("int", 0)))
    view = build_view(job_for(people, plan, tmp_path), lambda _f, _t: None)
    assert (view.rows, view.frames, view.bytes) == (0, (), 0)
    assert opened(view).schema.names == ["age"]


def test_frames_moved_within_or_between_views_do_not_open(
    people: Registered, tmp_path: Path
) -> None:
    plan = plan_of(("age", None), ("name", None))
    view = build_view(job_for(people, plan, tmp_path), lambda _f, _t: None)
    data = Path(view.path).read_bytes()
    offset, length, _ = view.frames[0]
    place = {"view": view.view, "plan_digest": view.plan_digest, "number": 0, "count": 99}
    frame = data[offset : offset + length]
    open_frame(view.key, frame, **place)  # type: ignore[arg-type]
    for change in ({"number": 1}, {"view": "other"}, {"plan_digest": "0" * 64}, {"count": 1}):
        with pytest.raises(IntegrityError):
            open_frame(view.key, frame, **{**place, **change})  # type: ignore[arg-type]
    assert b"person" not in data


BAD_PLANS = {
    "no such filter column": plan_of(("age", None), row_filter=("null", "absent")),
    "filter of another type": plan_of(("age", None), row_filter=("cmp", "==", "age", ("str", "x"))),
    "mask of another type": plan_of(("tags", "mask-alphanum")),
    "no such mask": plan_of(("age", "rot13")),
}


@pytest.mark.parametrize("what", BAD_PLANS)
def test_a_plan_that_does_not_fit_builds_nothing(
    what: str, people: Registered, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput):
        build_view(
            job_for(people, BAD_PLANS[what], tmp_path, deks=people.keys), lambda _f, _t: None
        )
    assert not list(tmp_path.iterdir())


def test_a_changed_shard_or_a_missing_key_builds_nothing(
    people: Registered, tmp_path: Path
) -> None:
    plan = plan_of(("age", None))
    first = people.manifest.shards[0]
    (tmp_path / "out").mkdir()
    data = bytearray(Path(people.paths[first.id]).read_bytes())
    for at in (200, len(data) // 2, len(data) - 20):
        changed = bytearray(data)
        changed[at : at + 64] = bytes(64)
        (tmp_path / "shard").write_bytes(changed)
        job = job_for(
            people,
            plan_of(*((name, None) for name in PEOPLE.schema.names)),
            tmp_path / "out",
            paths={**people.paths, first.id: str(tmp_path / "shard")},
        )
        with pytest.raises(IntegrityError):
            build_view(job, lambda _f, _t: None)
    keys = {name: key for name, key in people.keys.items() if not name.endswith("/2")}
    with pytest.raises(IntegrityError):
        build_view(job_for(people, plan, tmp_path / "out", deks=keys), lambda _f, _t: None)
    assert not list((tmp_path / "out").iterdir())


class Killed:
    """Decoders that get SIGKILL as they begin; those after `times` live."""

    def __init__(self, times: int) -> None:
        self.left, self.started, self._real = times, 0, views._decoder

    def __call__(self, job: ViewJob, descriptor: int) -> Any:
        child = self._real(job, descriptor)
        self.started += 1
        if self.left:
            self.left -= 1
            child.kill()
        return child


def test_a_decoder_that_dies_is_replaced_once_and_the_view_is_whole(
    people: Registered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = Killed(times=1)
    monkeypatch.setattr(views, "_decoder", killed)
    view = build_view(job_for(people, plan_of(("name", None)), tmp_path), lambda _f, _t: None)
    assert (view.rows, killed.started) == (ROWS, 2)


def test_decoders_that_die_again_are_an_error_and_leave_nothing(
    people: Registered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = Killed(times=9)
    monkeypatch.setattr(views, "_decoder", killed)
    job = job_for(people, plan_of(("name", None)), tmp_path)
    with pytest.raises(Unavailable, match="the decoder"):
        build_view(job, lambda _f, _t: None)
    assert killed.started == 2
    assert not Path(job.out).exists()


def test_a_view_is_never_written_over_another_file(people: Registered, tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"precious")
    job = job_for(people, plan_of(("age", None)), tmp_path, out=str(tmp_path / "there"))
    with pytest.raises((GatewayError, FileExistsError)):
        build_view(job, lambda _f, _t: None)
    assert (tmp_path / "there").read_bytes() == b"precious"


def test_pages_alone_serve_only_whole_direct_columns(tmp_path: Path) -> None:
    numbers = register(tmp_path, parquet_bytes(PEOPLE.select(["age"])))
    assert numbers.manifest.direct == (1,)
    age = PlannedColumn(field_id=1, name="age")
    base: dict[str, Any] = {
        "dataset": DatasetRef("clinic", "icu", 1), "split": None, "purpose": "research",
        "action": "stream",
    }  # fmt: skip
    masked = PlannedColumn(field_id=1, name="age", mask="x-bucket:10")
    assert is_direct(numbers.manifest, Plan(columns=(age,), **base))
    assert not is_direct(numbers.manifest, Plan(columns=(masked,), **base))
    assert not is_direct(numbers.manifest, Plan(columns=(), **base))
    assert not is_direct(numbers.manifest, Plan(columns=(age,), row_filter=("null", "age"), **base))


VECTORS = sorted((Path(__file__).parent.parent / "vectors" / "view-v0").glob("*.json"))


@pytest.mark.parametrize("path", VECTORS, ids=lambda p: p.stem)
def test_a_vector_opens_or_is_refused_as_its_name_says(path: Path) -> None:
    value = json.loads(path.read_text())
    schema = pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(value["schema"])))

    def read() -> list[Any]:
        names = {name: value[name] for name in ("view", "plan_digest", "count")}
        frames = [
            open_frame(bytes.fromhex(value["key"]), bytes.fromhex(text), number=number, **names)
            for number, text in enumerate(value["frames"])
        ]
        return [pa.ipc.read_record_batch(pa.py_buffer(frame), schema) for frame in frames]

    if path.stem.startswith("bad-integrity-"):
        with pytest.raises(IntegrityError):
            read()
    else:
        assert pa.Table.from_batches(read(), schema).num_rows in (0, 3)
