"""Reports: named questions in one document. The report is recorded once, before it is answered."""

from __future__ import annotations

import gateway.wire as W
from gateway.errors import InvalidInput
from gateway.lineage import report_text
from gateway.lineage.questions import QUESTIONS
from gateway.lineage.reports import FORMATS, report
from gateway.services import audit, persons, proofs
from gateway.services.house import House
from gateway.services.request_access import Caller
from gateway.wire.times import iso


async def make(house: House, caller: Caller, name: str, wanted: W.ReportRequest) -> W.Report:
    """Answer the questions of a report over one tenant's side of history, and write it down."""
    chosen, given = report(name), dict(wanted.parameters)
    chosen.check(given)
    if wanted.format not in FORMATS:
        raise InvalidInput(f"`format` is one of {', '.join(FORMATS)}", field="format")
    about = None
    if chosen.is_about_person:
        tenant = persons.side_of(caller, given)
        about = await persons.admitted(house, caller, tenant, (f"report-{name}", given))
        given = dict(about.told)  # a report names a person by tag alone
    else:
        tenant = audit.side_of(house, caller, given.get("tenant"), given.get("dataset"))
        await audit.recorded(house, caller, tenant, (f"report-{name}", given))
    parts, places, expired = [], [], set[str]()
    for section in chosen.sections:
        answer = await audit.answered(house, tenant, section.question, section.given(given), about)
        places.append(answer.as_of_index)
        expired.update(answer.expired)
        parts.append(
            report_text.Part(
                heading=section.heading,
                question=f"{section.question}/{QUESTIONS[section.question].version}",
                columns=answer.columns,
                rows=answer.rows,
                is_truncated=answer.truncated,
            )
        )
    head = [("tenant", tenant)]
    head += [(key, str(value)) for key, value in given.items() if key != "tenant"]
    head += [
        ("made at", iso(int(house.now()))),
        ("complete for journal events below", str(min(places))),
        ("witnessed", house.witnesses.told),
    ]
    if expired:
        head.append(("expired by retention", ", ".join(sorted(expired))))
    page = report_text.Page(title=chosen.title, about=head, parts=parts)
    return W.Report(
        name=name,
        format=wanted.format,
        text=report_text.text_of(page, wanted.format),
        as_of_index=min(places),
        truncated=any(part.is_truncated for part in parts),
        expired=tuple(sorted(expired)),
        checkpoint=await proofs.newest(house, wanted.pinned),
    )
