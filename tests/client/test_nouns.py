"""The nouns of the client against a served gateway: owner, trainer, auditor, operator."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from gateway.client.datasets import read_card
from gateway.client.records import Decision, Record, Table
from gateway.errors import AccessDenied, InvalidInput, PreconditionFailed
from tests.api.secured import SecuredSimulator
from tests.client.conftest import Login


def test_what_does_not_fit_is_refused_before_anything_is_sent(
    login: Login, gateway: SecuredSimulator
) -> None:
    client = login("startup/ml")
    with pytest.raises(InvalidInput, match="list of names"):
        client.access.check("clinic/icu", columns="age")
    with pytest.raises(InvalidInput, match="either a dataset, a grant or a parent"):
        client.tokens.request()
    with pytest.raises(InvalidInput, match="not a field"):
        client.access.check("clinic/icu", colour="red")  # type: ignore[call-arg]
    with pytest.raises(InvalidInput, match="nothing to register"):
        client.datasets.register("clinic/new")
    with pytest.raises(InvalidInput, match="not a source"):
        client.datasets.register("clinic/new", 7)
    assert gateway.issued == 0


def test_a_decision_has_no_truth_value(login: Login) -> None:
    client = login("startup/ml")
    decision = client.access.check("clinic/icu", purpose="marketing")
    with pytest.raises(TypeError):
        bool(decision)
    with pytest.raises(AccessDenied):
        decision.require()
    allowed = client.access.check("clinic/icu", purpose="research", at="2026-12-24").require()
    assert allowed.plan["columns"][0]["name"] == "age"


def test_a_file_is_registered_in_parts_and_an_interrupted_one_goes_on(
    login: Login, gateway: SecuredSimulator, tmp_path: Path
) -> None:
    client = login("clinic/owner")
    source = tmp_path / "icu.csv"
    source.write_bytes(b"a,b\n" + b"1,2\n" * 60_000)  # four parts of 64 KiB
    steps: list[tuple[str, float]] = []
    honest, sent = gateway.put_part, []

    async def breaks_off(*given: object) -> object:
        sent.append(given[2:4])
        if len(sent) == 3:
            raise InvalidInput("the part came too slowly")
        return await honest(*given)  # type: ignore[arg-type]

    gateway.put_part = breaks_off  # type: ignore[assignment, method-assign]
    with pytest.raises(InvalidInput):
        client.datasets.register("clinic/new", source)
    (registration,) = gateway.registrations
    for name, other in {"profile": "archive", "splits": {"a": 1.0}, "card": {"title": "b"}}.items():
        with pytest.raises(InvalidInput, match=f"begun with another `{name}`") as refusal:
            client.datasets.register("clinic/new", source, resume=registration, **{name: other})
        assert "same files and options" in refusal.value.advice
    shorter = tmp_path / "shorter.csv"
    shorter.write_bytes(b"a,b\n")
    with pytest.raises(InvalidInput, match="begun with another `files`"):
        client.datasets.register("clinic/new", shorter, resume=registration)
    made = client.datasets.register(
        "clinic/new", source, resume=registration, progress=lambda *step: steps.append(step)
    )
    assert made.dataset == "clinic/new"
    assert sorted(sent) == [(0, 0), (0, 1), (0, 2), (0, 2), (0, 3)]
    data = b"".join(gateway.parts[registration, 0, n] for n in range(4))
    assert data == source.read_bytes()
    assert steps[0][1] < steps[-1][1] == 1.0


def test_an_arrow_table_is_registered_as_arrow(login: Login, gateway: SecuredSimulator) -> None:
    client = login("clinic/owner")
    table = pa.table({"a": [1, 2, 3]})
    operation = client.datasets.register("clinic/new", table, wait=False)
    assert operation.kind == "register"
    part, end = gateway.parts.values()
    assert end == b""  # its size was not known before
    assert pa.ipc.open_stream(part).read_all() == table


def test_an_owner_classifies_and_revokes(login: Login) -> None:
    owner, trainer = login("clinic/owner"), login("startup/ml")
    icu = owner.datasets.show("clinic/icu").classify({"age": "pii.indirect", "hr": ["a", "b.c"]})
    assert [c["tags"] for c in icu.columns] == [["pii.indirect"], ["a", "b.c"]]
    token = trainer.tokens.request("clinic/icu@1", purpose="research", columns=["age"], run="r1")
    assert "access_token" not in repr(token)
    again = trainer.tokens.request(grant=token.grant)
    assert again.grant == token.grant
    (grant,) = owner.grants.list(dataset="clinic/icu@1")
    assert grant.subject == "startup/ml"
    done = owner.grants.revoke(grant.id, reason="contract ended")
    assert repr(done) == "Revocation(grants=1, streams_stopped=0, slowest_ms=0)"
    assert owner.grants.show(grant.id).revoked is True


def test_an_owner_updates_suspends_and_resumes(login: Login, tmp_path: Path) -> None:
    (tmp_path / "icu.toml").write_text('title = "ICU"\nbeds = 12\n')
    owner = login("clinic/owner")
    icu = owner.datasets.show("clinic/icu")
    assert icu.update(card=tmp_path / "icu.toml", contact="x").card == {"title": "ICU", "beds": 12}
    assert icu.update(owners=["clinic/owner"]).contact == "x"
    with pytest.raises(PreconditionFailed):
        icu.update(contact="y", if_match=icu.etag)
    now = owner.datasets.show("clinic/icu").etag
    assert icu.update(contact="y", if_match=now).contact == "y"
    with pytest.raises(PreconditionFailed):
        icu.classify({"age": "public"}, if_match=now)
    assert icu.suspend(reason="an audit").suspended is True
    assert icu.resume().suspended is False


def test_rules_are_pushed_over_the_bundle_that_was_read(
    login: Login, gateway: SecuredSimulator, tmp_path: Path
) -> None:
    owner = login("clinic/owner")
    (tmp_path / "rules/sub").mkdir(parents=True)
    (tmp_path / "rules/sub/a.yaml").write_text("x: 1\n")
    (tmp_path / "rules/notes.txt").write_text("not a rule")
    made = owner.policies.push(tmp_path / "rules")
    assert made.files == {"sub/a.yaml": "x: 1\n"}
    assert owner.policies.test({"a.yaml": ""}).ok is False
    with pytest.raises(InvalidInput):
        owner.policies.push(tmp_path / "none")
    honest = gateway.bundle

    async def stale(caller: object, tenant: str) -> object:
        view = await honest(caller, tenant)
        return type(view)(tenant=tenant, hash="1" * 64, files={}, rules=0)

    gateway.bundle = stale  # type: ignore[assignment, method-assign]
    real = gateway.publish

    async def publish(caller: object, tenant: str, files: dict[str, str], if_match: str) -> object:
        gateway.bundle = honest  # type: ignore[method-assign]
        return await real(caller, tenant, files, if_match)

    gateway.publish = publish  # type: ignore[assignment, method-assign]
    with pytest.raises(PreconditionFailed):
        owner.policies.push({"a.yaml": "y"})


def test_a_parameter_may_be_called_question(login: Login) -> None:
    # As that of `questions-asked` is; what it means is for the server to say.
    assert login("clinic/owner").lineage.ask("who-read", question="denials")


def test_an_auditor_gets_tables_that_arrow_reads(login: Login, tmp_path: Path) -> None:
    auditor = login("clinic/owner")
    assert [q.name for q in auditor.lineage.questions()] == ["who-read"]
    reads = auditor.lineage.ask("who-read", dataset="clinic/icu", since=None)
    assert (reads[0].subject, reads[0].rows) == ("startup/ml", 100)
    table = pa.table(auditor.lineage.query("SELECT 1"))
    assert table.to_pydict() == {"n": [1, 2], "x": [None, 2.5]}
    assert pa.table(auditor.lineage.query("SELECT 1", as_arrow=True)) == table
    auditor.lineage.trace("clinic/icu@1").save(tmp_path / "t.svg")
    assert "run:1" in (tmp_path / "t.svg").read_text()


def test_an_operator_adds_tenants_and_identities(login: Login) -> None:
    operator = login("platform/operator")
    assert operator.tenants.add("startup").tenant == "startup"
    assert [t.tenant for t in operator.tenants.list()] == ["startup"]
    made = operator.identities.add("startup/ml", public_key="A" * 43, roles=["trainer"], type="job")
    assert made.identity == "startup/ml"
    assert [i.type for i in operator.identities.list(tenant="startup")] == ["job"]


def test_everything_shows_itself_without_running_what_it_holds() -> None:
    nasty = Record({"name": "<script>alert(1)</script>", "rows": 3})
    assert "<script>" not in nasty._repr_html_()
    table = Table.of([nasty])
    assert "<script>" not in table._repr_html_()
    assert table.to_dict() == {"items": [nasty.to_dict()]}
    with pytest.raises(AttributeError, match="not one of"):
        _ = nasty.colour
    assert isinstance(Decision({"effect": "deny", "reasons": []}), Record)


def test_a_card_is_read_from_the_usual_formats(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('title = "icu"\nfrom = 2026-01-01\n')
    (tmp_path / "c.yaml").write_text("title: icu\n")
    (tmp_path / "c.json").write_text("[1]")
    (tmp_path / "c.txt").write_text("x")
    assert read_card(tmp_path / "c.toml") == {"title": "icu", "from": "2026-01-01"}
    assert read_card(tmp_path / "c.yaml") == {"title": "icu"}
    for bad in ("c.json", "c.txt", "none.json"):
        with pytest.raises(InvalidInput):
            read_card(tmp_path / bad)
