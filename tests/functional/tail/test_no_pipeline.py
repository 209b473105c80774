"""Jobs whose record names no pipeline: the tail asks for each by itself, and stops when it has ended."""

from __future__ import annotations

import asyncio

import pytest

from asyncjobs import JobFinished, JobRef, JobStarted, LogLine, TailEvent
from tests.support.clients import open_client
from tests.support.rawserver import RawServer, Received, Wire, http

REF = JobRef("group/app", 8)


async def all_events(server: RawServer) -> list[TailEvent]:
    """Everything a tail of the job gives; it must end by itself."""
    async with open_client(server.url) as client, asyncio.timeout(3600), client.tail(REF) as stream:
        return [event async for event in stream]


@pytest.mark.parametrize("archived", [False, True])
@pytest.mark.parametrize("statuses", [["success"], ["skipped"], ["manual"], ["running"] * 5 + ["failed"]])
async def test_tail_of_a_job_without_a_pipeline_ends(statuses: list[str], archived: bool) -> None:
    """Iteration ends with the job, whether its log is ever archived or not, and so do the questions."""
    told = iter(statuses)
    asked = 0
    artifacts = [{"file_type": "trace", "size": 6, "filename": "job.log"}] if archived else []

    async def script(received: Received, wire: Wire) -> None:
        nonlocal asked
        if "/trace" in received.target:
            await wire.write(http(200, b"hello\n", {"Content-Type": "text/plain"}))
            return
        asked += 1
        status = next(told, statuses[-1])
        record = {"id": 8, "name": "build", "status": status, "stage": "test", "pipeline": None}
        await wire.write(http(200, {**record, "artifacts": artifacts}))

    async with RawServer(script) as server:
        events = await all_events(server)
    ran = statuses[-1] not in {"skipped", "manual"}
    assert [type(event) for event in events] == [JobStarted, *[LogLine] * ran, JobFinished]
    assert asked <= len(statuses) + 5
