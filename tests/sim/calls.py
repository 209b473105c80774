"""Lives of single calls and listings in a storm; what a life is stands in `tests.sim.lives`."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable
from contextlib import suppress

from asyncjobs._client import Client
from asyncjobs._errors import AsyncJobsError, FanOutError, OutcomeUnknownError
from asyncjobs._options import Limits
from tests.sim.loop import SimLoop
from tests.sim.storm import Trouble, storm


async def _interrupted(work: Awaitable[object], after: float) -> None:
    """Do the work and cancel it in the middle; a failure with a name is fine."""
    with suppress(TimeoutError, AsyncJobsError, FanOutError):
        async with asyncio.timeout(after):
            await work


async def fan_out(loop: SimLoop, seed: int, troubles: list[Trouble] | None = None) -> int:
    """Jobs of many projects: each once and none missing, or the target is in the failures."""
    async with storm(loop, seed, troubles) as world:
        truth: dict[str, set[int]] = {}
        for number in range(world.chance.randrange(1, 12)):
            project = world.gitlab.add_project(f"group/app{number}")
            pipelines = [project.add_pipeline("main") for _ in range(world.chance.randrange(1, 4))]
            made = [
                pipeline.add_job(f"job {n}")
                for pipeline in pipelines
                for n in range(world.chance.choice([0, 3, 90, 130]))
            ]
            truth[f"group/app{number}"] = {job.id for job in made}
        world.begin()
        limits = Limits(in_flight=world.chance.choice([1, 3, 16]), jobs_index_per_minute=None)
        async with world.client(limits=limits) as client:
            await _interrupted(_list(client, truth), world.chance.uniform(0.0, 60.0))
            await _list(client, truth)
            await world.until_calm()
            assert not await _list(client, truth), "failures in the calm"
        return world.wire.digest


async def _list(client: Client, truth: dict[str, set[int]]) -> int:
    found: dict[str, list[int]] = {path: [] for path in truth}
    async with client.stream_jobs(list(truth), on_error="collect") as jobs:
        async for ref, job in jobs:
            found[str(ref.project)].append(job.id)
    failed = {str(failure.target) for failure in jobs.failures}
    for path, ids in found.items():
        assert len(set(ids)) == len(ids), f"{path}: a job was given twice"
        assert set(ids) <= truth[path], f"{path}: jobs of somebody else"
        assert path in failed or set(ids) == truth[path], f"{path}: jobs are missing, and nothing says so"
    return len(failed)


async def actions(loop: SimLoop, seed: int, troubles: list[Trouble] | None = None) -> int:
    """Retries of jobs, with every trouble also after the server has done what was asked.

    What was said to have failed has not been done, what was said to be done has been done once, and where the
    outcome is said to be unknown it was done once or not at all.
    """
    async with storm(loop, seed, troubles) as world:
        pipeline = world.gitlab.add_project("group/app").add_pipeline("main")
        jobs = [pipeline.add_job(f"job {n}") for n in range(8)]
        for job in jobs:
            job.start()
            job.finish("failed")
        world.begin()
        for fault in world.gitlab.faults.waiting:
            # Who is sent away by a limiter, or told when to come again, has not been served.
            refused = fault.name.startswith("429") or fault.options.has("retry_after")
            fault.executed = not refused and world.chance.random() < 0.5
        async with world.client() as client:
            outcomes = await asyncio.gather(
                *(client.retry_job("group/app", job.id) for job in jobs), return_exceptions=True
            )
            await world.until_calm()
        made = Counter(job.name for job in pipeline.jobs)
        for job, outcome in zip(jobs, outcomes, strict=True):
            times = made[job.name] - 1
            assert times <= 1, f"{job.name} was retried {times} times"
            if isinstance(outcome, OutcomeUnknownError):
                continue
            if isinstance(outcome, BaseException):
                assert isinstance(outcome, AsyncJobsError), repr(outcome)
                assert times == 0, f"{job.name} was retried, and the caller was told {outcome!r}"
            else:
                assert times == 1
                assert outcome.id != job.id
        return world.wire.digest


async def closing(loop: SimLoop, seed: int, troubles: list[Trouble] | None = None) -> int:
    """A client that is closed in the middle of everything: each call ends at once, and says how."""
    async with storm(loop, seed, troubles) as world:
        pipeline = world.gitlab.add_project("group/app").add_pipeline("main")
        jobs = [pipeline.add_job(f"job {n}") for n in range(60)]
        for job in jobs:
            job.start()
            job.append_trace(b"some line\n" * 5000)
            if job.id % 2:
                job.finish("failed")
        other = world.gitlab.add_project("group/other").add_pipeline("main")
        others = {other.add_job(f"job {n}").id for n in range(250)}
        world.begin()
        client = world.new_client(limits=Limits(in_flight=world.chance.choice([1, 4]), tails=2))
        await client.__aenter__()
        tasks = [
            *(asyncio.ensure_future(client.get_job("group/app", job.id)) for job in jobs[:8]),
            *(asyncio.ensure_future(client.retry_job("group/app", job.id)) for job in jobs[8:12]),
            *(asyncio.ensure_future(client.get_trace("group/app", job.id)) for job in jobs[12:16]),
            *(asyncio.ensure_future(_follow(client, job.id)) for job in jobs[16:24]),
            asyncio.ensure_future(_list(client, {"group/other": others})),
        ]
        await asyncio.sleep(world.chance.expovariate(1 / 20))
        began = loop.now
        await client.aclose()
        await asyncio.wait(tasks, timeout=5.0)
        assert all(task.done() for task in tasks), [task for task in tasks if not task.done()]
        for task in tasks:
            error = task.exception()
            assert error is None or isinstance(error, AsyncJobsError | FanOutError), repr(error)
        assert loop.now - began < 5.0
        return world.wire.digest


async def _follow(client: Client, job_id: int) -> None:
    async with client.follow_trace(f"group/app/-/jobs/{job_id}") as trace:
        async for _ in trace:
            pass
