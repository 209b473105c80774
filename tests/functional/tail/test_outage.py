"""Many tails while a server fails: it is left in peace, and nothing is lost."""

from __future__ import annotations

import asyncio

from asyncjobs import JobFinished, LogLine
from asyncjobs.testing import FakeGitLab
from tests.support.clients import open_client

JOBS = 80
BREAKS, MENDED = 120.0, 1_020.0
"""Seconds after the start."""


async def test_a_failing_server_gets_a_part_of_the_polls() -> None:
    """Most polls of many tails are held back while all of them fail, and every log is whole at last."""
    logs: dict[int, bytes] = {}
    async with (
        FakeGitLab(jobs_index_limit=None) as gitlab,
        open_client(gitlab.url, private_token=gitlab.token) as client,
    ):
        pipeline = gitlab.add_project("group/app").add_pipeline()
        for number in range(JOBS):
            job = pipeline.add_job(f"test {number}", status="running")
            job.script_trace(b"a line\n" * 100, every=30, pushes=45)
        loop = asyncio.get_running_loop()
        began = gitlab.clock.time()
        loop.call_later(BREAKS, lambda: gitlab.fail_next("status", status=502, where="*/trace", times=10**6))
        loop.call_later(MENDED, gitlab.faults.clear)
        async with client.tail([f"group/app/-/pipelines/{pipeline.id}"]) as events:
            finished = 0
            async for event in events:
                if isinstance(event, LogLine):
                    logs[event.ref.job_id] = logs.get(event.ref.job_id, b"") + event.raw
                finished += isinstance(event, JobFinished)
        assert finished == JOBS
        assert logs == {job.id: job.trace for job in pipeline.jobs}
        minutes = [0] * 60
        for request in gitlab.requests.filter("*/trace"):
            minutes[int((request.time - began) // 60)] += 1
    in_outage, before = minutes[6:17], minutes[1]
    assert max(in_outage) < JOBS / 4, "each asks every other minute there when nothing holds it back"
    assert min(in_outage) > 0, "and somebody always looks"
    assert before > JOBS
