"""Long acts: progress, results, refusals, and whose they are."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.errors import NotFound, SourceRefused
from gateway.services.operations import Operation, Operations, Report


def operation(number: int = 1) -> Operation:
    return Operation(id=f"op_{number}", kind="register", tenant="clinic")


def finished(operations: Operations, act: Any, known: Operation) -> Operation:
    async def run() -> None:
        started = operations.start(known, act)
        assert started.task is not None
        await asyncio.gather(started.task, return_exceptions=True)

    asyncio.run(run())
    return known


def test_another_tenants_operation_is_not_there() -> None:
    async def act(_report: Report) -> dict[str, Any]:
        return {}

    operations = Operations()
    finished(operations, act, operation())
    with pytest.raises(NotFound):
        operations.get("op_1", "startup")
    assert operations.of("startup") == []


def test_a_refusal_is_kept_with_its_advice() -> None:
    async def act(_report: Report) -> dict[str, Any]:
        raise SourceRefused("not a Parquet file")

    known = finished(Operations(), act, operation())
    assert known.state == "failed"
    assert known.error is not None
    assert known.error.code == "source-refused"


def test_an_accident_fails_without_its_inner_words() -> None:
    async def act(_report: Report) -> dict[str, Any]:
        raise ZeroDivisionError("secret 42")

    known = finished(Operations(), act, operation())
    assert known.state == "failed"
    assert "42" not in str(known.error)


def test_progress_never_goes_back() -> None:
    async def act(report: Report) -> dict[str, Any]:
        report(0.5, "half")
        report(0.2, "earlier")
        return {"rows": 1}

    known = operation()
    finished(Operations(), act, known)
    assert (known.state, known.progress, known.result) == ("done", 1.0, {"rows": 1})
