"""A question about a name that is not there says so, and never by a name of others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidInput, UnknownName
from gateway.lineage.asking import Asker, Table, ask
from gateway.lineage.projection import Projection
from gateway.lineage.questions import question
from tests.lineage.history import BEGIN, clinic_and_startup, tag

KEY = b"k" * 32


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Projection]:
    made = Projection(tmp_path_factory.mktemp("names"), KEY)
    history = clinic_and_startup()
    grant = history.decide("startup/ml", "rival/xray", run="startup:secret-9", columns=(4,))
    history.version("rival/xrays", names=("bones", "secret"))
    history.lease(grant)
    history.finish("startup", "startup:secret-9", model="rivals-model")
    history.version("clinic/wards", names=("bed", "ward"))
    made.append(history.pairs())
    yield made
    made.close()


def asked(
    story: Projection,
    name: str,
    tenant: str = "clinic",
    *,
    vouched: tuple[str, ...] = (),
    **given: Any,
) -> Table:
    with story.reading() as cursor:
        asker = Asker(tenant=tenant, vouched=vouched)
        return ask(cursor, question(name), given, asker=asker, now=BEGIN + 100_000)


def refused(story: Projection, name: str, tenant: str = "clinic", **given: Any) -> UnknownName:
    with pytest.raises(UnknownName) as unknown:
        asked(story, name, tenant, **given)
    return unknown.value


@pytest.mark.parametrize(
    ("name", "given", "nearest"),
    [
        ("who-read", {"dataset": "clinic/icu2"}, ["clinic/icu"]),
        ("who-read", {"dataset": "clinik/icu"}, ["clinic/icu"]),
        ("usage", {"dataset": "clinic/ward"}, ["clinic/wards"]),
        ("versions-at", {"dataset": "clinic/icu@7"}, ["clinic/icu@2"]),
        ("who-read", {"column": "diagnosys"}, ["diagnosis"]),
        ("who-read", {"dataset": "clinic/icu", "column": "AGE"}, ["age"]),
        ("column-unmasked", {"dataset": "clinic/wards", "column": "age"}, []),  # of clinic/icu
        ("grants-of-dataset", {"dataset": "clinic/icu@2", "column": "agee"}, ["age"]),
        ("who-read", {"run": "run-2"}, ["run-1"]),
        ("who-read", {"run": "run:rum-1"}, ["run-1"]),
        ("tokens-of-grant", {"grant": "grant_nobody"}, []),
        ("place-of-event", {"id": "dec_nobody"}, []),
        ("provenance-of-model", {"model": "sepsis"}, ["sepsis-v2"]),
        ("provenance-of-model", {"model": "model:lab-modell"}, ["lab-model"]),
        ("decisions-of-bundle", {"bundle": "ce" * 32}, []),
        ("questions-asked", {"question": "who-reads"}, ["who-read"]),
        ("runs-of-shard", {"dataset": "clinic/icu@1", "shard": 2}, ["1"]),
        ("who-read", {"subject": tag("nobody/nowhere")}, []),
        ("reads-after-withdrawal", {"dataset": "clinic/icuu"}, ["clinic/icu"]),
        ("reads-after-erasure", {"dataset": "clinic/icuu"}, ["clinic/icu"]),
        ("consents", {"dataset": "clinic/icuu"}, ["clinic/icu"]),
    ],
)
def test_a_mistyped_name_is_named_with_what_is_near_it(
    story: Projection, name: str, given: dict[str, Any], nearest: list[str]
) -> None:
    unknown = refused(story, name, **given)
    assert unknown.facts["nearest"][: len(nearest)] == nearest
    assert unknown.exit_code == 4
    assert "history of `clinic`" in unknown.message
    for said in nearest:
        assert f"`{said}`" in unknown.advice


def test_a_purpose_that_is_none_is_refused_with_those_that_are(story: Projection) -> None:
    with pytest.raises(InvalidInput, match="not a purpose") as refusal:
        asked(story, "who-read", purpose="health-reserch")
    assert "health-research" in refusal.value.advice


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("who-read", {"dataset": "clinic/wards"}),
        ("who-read", {"dataset": "clinic/wards@1", "column": "ward"}),
        ("who-read", {"column": "ward"}),
        ("who-read", {"purpose": "marketing"}),
        ("who-read", {"subject": tag("clinic/audit")}),  # asked a question, read nothing
        ("denials", {"dataset": "clinic/icu@2"}),
        ("column-unmasked", {"dataset": "clinic/icu", "column": "label", "since": "1h"}),
        ("runs-of-shard", {"dataset": "clinic/wards", "shard": 1}),
        ("keys-released", {"dataset": "clinic/icu"}),
    ],
)
def test_a_name_that_is_there_and_did_nothing_is_answered_with_nothing(
    story: Projection, name: str, given: dict[str, Any]
) -> None:
    assert asked(story, name, **given).rows == []


def test_somebody_whom_control_knows_need_not_have_done_anything(story: Projection) -> None:
    new = {"subject": tag("clinic/new")}
    assert refused(story, "who-read", **new).facts["parameter"] == "subject"
    assert asked(story, "who-read", vouched=("subject",), **new).rows == []


HIDDEN = (
    ("who-read", "dataset", "rival/xrays"),
    ("who-read", "dataset", "rival/xray"),
    ("who-read", "column", "secret"),
    ("who-read", "run", "startup:secret-9"),
    ("who-read", "run", "secret-9"),
    ("provenance-of-model", "model", "rivals-model"),
    ("who-read", "subject", tag("rival/owner")),
)


@pytest.mark.parametrize(("name", "parameter", "hidden"), HIDDEN)
def test_what_is_not_seen_and_what_is_not_there_are_one_answer(
    story: Projection, name: str, parameter: str, hidden: str
) -> None:
    for absent in (hidden[:-1] + "q", hidden + "q"):
        one, other = (refused(story, name, **{parameter: value}) for value in (hidden, absent))
        assert one.message.replace(hidden, absent) == other.message
        assert set(one.facts) == set(other.facts)
        assert not {"rival/xray", "rival/xrays", "secret", "rivals-model"} & {*one.facts["nearest"]}


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40))
def test_whatever_is_asked_no_name_of_others_is_told(text: str) -> None:
    for name, parameter, _ in HIDDEN[2:6]:
        for value in (text, f"secret{text}", f"rivals{text}"):
            try:
                asked(_SHARED, name, **{parameter: value})
            except UnknownName as unknown:
                told = " ".join((unknown.advice, *unknown.facts["nearest"]))
                assert not any(word in told for word in ("secret", "rivals", "bones", "xray"))


@pytest.fixture(autouse=True)
def _share(story: Projection) -> None:
    global _SHARED  # noqa: PLW0603 - hypothesis and fixtures of functions do not go together
    _SHARED = story


_SHARED: Projection


def test_an_owner_sees_the_columns_of_its_data_a_recipient_those_it_was_given(
    story: Projection,
) -> None:
    assert asked(story, "who-read", "clinic", dataset="clinic/icu", column="label").rows
    assert asked(story, "who-read", "lab", dataset="clinic/icu", column="diagnosis").rows
    refused(story, "who-read", "lab", dataset="clinic/icu", column="label")
