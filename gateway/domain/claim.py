"""What a tenant claims about its lineage, as the journal keeps it: things and what came of what.

Made of OpenLineage events that others send (wire/openlineage.py). A claim is never a fact of
the gateway: it stands on the side of the tenant that claims it and on no other, and no decision
rests on it. Names of datasets and columns stand in clear, as our own do; a job stands as a keyed
tag, because its name is free text.
"""

from __future__ import annotations

from gateway.domain import facts as f

CLAIM_BYTES_MAX = 1 << 20  # of one OpenLineage event, as JSON
SEALED_CHARS_MAX = 512 << 10  # of the same, compressed: what the journal keeps of it
FACTS_BYTES_MAX = 192 << 10  # of what stands in clear
NAME_CHARS_MAX = 512  # of a namespace, a dataset, a job, a column
THINGS_MAX = 512  # datasets, jobs and runs that one event names
EDGES_MAX = 2048
COLUMNS_MAX = 4096  # edges between columns

_THING = f.record_of(
    kind=f.CODE,  # `dataset`, `job` or `run`
    namespace=f.TEXT | None,  # null: a dataset of this gateway, a job, a run
    name=f.TEXT,  # a job's is a keyed tag
    version=f.COUNT | None,  # of a dataset of this gateway
)
_EDGE = f.record_of(source=f.COUNT, target=f.COUNT)  # places in `things`
_COLUMN = f.record_of(
    source=f.COUNT,
    source_column=f.TEXT,
    target=f.COUNT,
    target_column=f.TEXT | None,  # null: every column (a filter, a sort, a join)
    type=f.CODE | None,  # `DIRECT` or `INDIRECT`
    subtype=f.CODE | None,
    masking=f.FLAG,
)

FACTS: f.Schema = {
    "claim": f.SHA256,  # of the event: the same one twice is taken once
    "type": f.CODE,  # `run`, `job` or `dataset` event
    "state": f.CODE | None,  # `START`, `COMPLETE` … of a run
    "claimed_at": f.COUNT,  # Unix microseconds, as the sender's clock says
    "about": f.COUNT | None,  # place of the run or job that the event is about
    "things": f.list_of(_THING, at_most=THINGS_MAX),
    "edges": f.list_of(_EDGE, at_most=EDGES_MAX),
    "columns": f.list_of(_COLUMN, at_most=COLUMNS_MAX),
}
