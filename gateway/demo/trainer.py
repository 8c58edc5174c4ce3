"""A training job of the demo: a process of its own, with a URL and a token or key file, no more.

`python -m gateway.demo.trainer JOB`, where JOB is JSON: server, token_file or key_file, dataset,
purpose, columns, batch_rows, run, task, and for some tasks split, seed, features. It prints JSON
lines; the last one is its result, or `{"stopped": code, "position": …}` when the stream was ended
before its time.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from connectors.loaders.numpy import GatewayBatches
from gateway.demo import models
from gateway.demo.cast import client_of
from gateway.errors import GatewayError, StreamStopped

Job = dict[str, Any]
_BUCKETS = 1 << 20


def main(arguments: list[str]) -> int:
    """Do one job; 0 also when the stream was ended, which is told in the last line."""
    job: Job = json.loads(arguments[0])
    try:
        result = _TASKS[job["task"]](job)
    except StreamStopped as stop:
        position = stop.position.to_dict() if hasattr(stop.position, "to_dict") else stop.position
        cause = stop.facts.get("cause_code")
        result = {"stopped": cause or stop.code, "position": position, "message": stop.message}
    except GatewayError as refused:
        result = {"stopped": refused.code, "position": None, "message": refused.message}
    _say(result)
    return 0


def _batches(job: Job, **more: Any) -> GatewayBatches:
    client = client_of(
        job["server"], key_file=job.get("key_file"), token_file=job.get("token_file")
    )
    return GatewayBatches(
        job["dataset"],
        transport=client.transport,
        purpose=job["purpose"],
        columns=job["columns"],
        batch_size=job["batch_rows"],
        run=job["run"],
        **more,
    )


def _say(value: Job) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def _flights(job: Job) -> Job:
    return _told(models.late_arrivals(_batches(job, shuffle=False)))


def _verses(job: Job) -> Job:
    """Also says in which order the verses came, so that another side can do the same."""
    order: list[int] = []

    def noted() -> Iterator[models.Batch]:
        for batch in _batches(job, shuffle=True, seed=job["seed"]):
            order.extend(int(verse) for verse in batch["verse"])
            yield batch

    return {**_told(models.later_verses(noted())), "verses": order}


def _told(trained: models.Trained) -> Job:
    return {
        "rows": trained.rows,
        "score": trained.score,
        "digest": trained.digest,
        "rows_digest": trained.rows_digest,
    }


def _risk(job: Job) -> Job:
    train, test = (
        models.gathered(_batches(job, split=split, shuffle=False)) for split in ("train", "test")
    )
    keys: list[list[int]] = []
    if "zper" in test:
        pairs = zip(test["zper"], test["year"], strict=True)
        keys = [[int(person), int(year)] for person, year in pairs]
    auc = models.doctor_visits(train, test, job["features"])
    rows = len(train[models.RISK_LABEL]) + len(test[models.RISK_LABEL])
    return {"auc": auc, "rows": rows, "test_keys": keys}


def _count(job: Job) -> Job:
    """Count pairs of neighbouring tokens, epoch after epoch, until somebody ends it."""
    counts = np.zeros(_BUCKETS, dtype=np.int64)
    rows = 0
    batches = _batches(job, shuffle=True, seed=7)
    while True:
        for batch in batches:
            tokens = batch["tokens"].astype(np.int64)
            pairs = (tokens[:, :-1] * 31 + tokens[:, 1:]) % _BUCKETS
            counts += np.bincount(pairs.ravel(), minlength=_BUCKETS)
            rows += len(tokens)
            _say({"rows": rows, "epoch": batches.epoch})


def _read(job: Job) -> Job:
    rows = 0
    for batch in _batches(job, shuffle=False):
        rows += len(next(iter(batch.values())))
    return {"rows": rows}


_TASKS: dict[str, Callable[[Job], Job]] = {
    "flights": _flights,
    "verses": _verses,
    "risk": _risk,
    "count": _count,
    "read": _read,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
