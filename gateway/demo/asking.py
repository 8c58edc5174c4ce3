"""Scene: the startup asks for access, and is denied, given less, or given all."""

from __future__ import annotations

from gateway.demo.cast import FLIGHTS, JOB, RAND, Play
from gateway.demo.models import RISK_FEATURES, RISK_LABEL
from gateway.demo.steps import Seen, Step, StepFailed, expect
from gateway.errors import AccessDenied

WITHHELD = {"black", "female"}


def scene(play: Play) -> list[Step]:
    """The steps, in order."""
    return [
        Step(
            name="denied",
            title="a token for the wrong purpose is denied, with what would have to change",
            act=lambda: _denied(play),
        ),
        Step(
            name="allowed-masked",
            title="the right purpose gets fewer columns, some of them masked",
            act=lambda: _masked(play),
        ),
        Step(
            name="allowed-full",
            title="public columns are given in full",
            act=lambda: _full(play),
        ),
    ]


def _denied(play: Play) -> Seen:
    try:
        play.client(JOB).tokens.request(RAND, purpose="marketing", columns=[RISK_LABEL, "income"])
    except AccessDenied as denied:
        said = f"{denied.message} {denied.advice}"
        expect("health-research" in said, f"the denial does not say what must change: {said}")
        expect(denied.decision, "the denial names no decision")
        play.facts["denied"] = denied.decision
        return Seen(
            text=f"startup asks {RAND} for marketing: DENIED, {denied.message}",
            facts={"decision": denied.decision, "advice": denied.advice},
            lines=(denied.advice,),
        )
    raise StepFailed("a token for marketing was given")


def _masked(play: Play) -> Seen:
    wanted = [RISK_LABEL, *RISK_FEATURES]
    decision = play.client(JOB).access.check(RAND, purpose="health-research", columns=wanted)
    plan = decision.require().plan
    given = {column["name"]: column["mask"] for column in plan["columns"]}
    masks = {name: mask for name, mask in given.items() if mask}
    expect(WITHHELD.isdisjoint(given), f"given although withheld: {WITHHELD & set(given)}")
    expect(set(masks) == {"income", "xage"}, f"the masks are {masks}")
    return Seen(
        text=(
            f"startup asks {RAND} for health research: ALLOWED, {len(given)} of {len(wanted)} "
            f"columns; withheld: {', '.join(sorted(WITHHELD))}"
        ),
        facts={"columns": sorted(given), "masks": masks, "withheld": sorted(WITHHELD)},
        lines=tuple(
            f"{name} comes in steps of {mask.rpartition(':')[2]} (mask {mask})"
            for name, mask in masks.items()
        ),
    )


def _full(play: Play) -> Seen:
    decision = play.client(JOB).access.check(FLIGHTS, purpose="methods-research")
    plan = decision.require().plan
    masks = [column for column in plan["columns"] if column["mask"]]
    expect(len(plan["columns"]) == 19 and not masks, f"the plan is {plan['columns']}")  # noqa: PLR2004
    return Seen(
        text=f"startup asks {FLIGHTS} for methods research: ALLOWED in full, 19 columns",
        facts={"columns": 19},
    )
