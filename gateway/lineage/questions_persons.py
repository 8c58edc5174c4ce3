"""Questions about one person: who received rows of it, and what it consented to.

They need the right to `audit-person`, and control asks them with the person's tag. What each
Grant had of the person control knows (services/person_delivery.py); here runs, times and
models are put to it.
"""

from __future__ import annotations

from gateway.lineage.parameters import Parameter
from gateway.lineage.question import HELD, LIMIT, PERSON, THE_DATASET, WHY, Question
from gateway.lineage.views import released

_RUNS = Question(
    name="runs-of-person",
    version=1,
    text="which runs and models received rows of a person: delivered, filtered out or never read",
    parameters=(THE_DATASET, PERSON, WHY, LIMIT),
    columns=(
        "dataset", "version", "split", "actor_tenant", "subject_tag", "run", "outcome", "because",
        "purposes", "columns", "first_read", "last_read", "models",
    ),
    views=("grant", "stream", "run"),
    ctes=(
        HELD,
        released(),
        """read AS (SELECT "grant", min(first_read) AS first_read, max(last_read) AS last_read
                    FROM seen_stream JOIN released USING (lease) GROUP BY "grant")""",
        """made AS (SELECT run, actor_tenant, list(model ORDER BY index) AS models FROM seen_run
                    WHERE model IS NOT NULL GROUP BY run, actor_tenant)""",
    ),
    sql="""
SELECT g.dataset, g.version, g.split, g.actor_tenant, g.subject_tag, g.run,
       arg_max(h.outcome, (h.strength, h.because)) AS outcome,
       arg_max(h.because, (h.strength, h.because)) AS because,
       list(DISTINCT g.purpose ORDER BY g.purpose) AS purposes,
       list_sort(list_distinct(flatten(list(g.columns)))) AS columns,
       min(r.first_read) AS first_read, max(r.last_read) AS last_read,
       any_value(m.models) AS models
FROM held h
JOIN seen_grant g ON g."grant" = h."grant"
LEFT JOIN read r ON r."grant" = h."grant"
LEFT JOIN made m ON m.run = g.run AND m.actor_tenant = g.actor_tenant
GROUP BY g.dataset, g.version, g.split, g.actor_tenant, g.subject_tag, g.run
ORDER BY max(h.strength) DESC, last_read DESC, g.actor_tenant, g.run, g.version LIMIT $limit""",
)  # fmt: skip

_CONSENTS = Question(
    name="consents-of-person",
    version=1,
    text="the newest word of a person on each purpose: given or withdrawn, since when",
    parameters=(
        PERSON, WHY,
        Parameter(name="dataset", type="dataset", text="only about this dataset or about all"),
        LIMIT,
    ),
    columns=("purpose", "dataset", "state", "since", "index"),
    views=("consent",),
    sql="""
SELECT purpose, dataset, arg_max(state, (holds_at, index)) AS state,
       arg_max(holds_at, (holds_at, index)) AS since, arg_max(index, (holds_at, index)) AS index
FROM seen_consent
WHERE person_tag = $person AND ($dataset IS NULL OR dataset IS NULL OR dataset = $dataset)
GROUP BY purpose, dataset ORDER BY index DESC LIMIT $limit""",
)  # fmt: skip

QUESTIONS = (_RUNS, _CONSENTS)
