"""Lives of tails in a storm; what a life is stands in `tests.sim.lives`."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from asyncjobs._client import Client
from asyncjobs._errors import AsyncJobsError, FanOutError
from asyncjobs._models import (
    JobFinished,
    JobRef,
    JobRetried,
    JobStarted,
    LogLine,
    TailFailed,
    TraceCursor,
    TraceReset,
)
from asyncjobs._options import TailOptions
from asyncjobs.testing import FakeJob, FakePipeline
from tests.sim.loop import SimLoop
from tests.sim.storm import CALM_SECONDS, Storm, Trouble, storm


def _log(world: Storm, lines: int) -> bytes:
    kind = world.chance.randrange(4)
    if kind == 0:
        return b".\n" * lines
    if kind == 1:
        return b"".join(b"%d\r%d\n" % (n, n) for n in range(lines))
    return b"".join(b"line %d %d\n" % (n, world.chance.randrange(10**9)) for n in range(lines))


def plan(world: Storm, job: FakeJob) -> None:
    """A life of up to twenty minutes."""
    steps: list[tuple[float, Any]] = [(world.chance.uniform(0, 60), "running")]
    every = world.chance.choice([3.0, 30.0, 60.0])
    pushes = world.chance.randrange(0, 12)
    steps += [(every, _log(world, world.chance.choice([0, 1, 10, 1000]))) for _ in range(pushes)]
    steps.append((1.0, b"the end, without a newline"))
    steps.append((1.0, world.chance.choice(["success", "failed"])))
    job.script(steps)


class Reader:
    """Takes the events of a tail and keeps what they said, by job."""

    def __init__(self) -> None:
        self.logs: dict[int, bytes] = {}
        self.ended: dict[int, str] = {}
        self.cursors: dict[int, TraceCursor | None] = {}

    def take(self, event: object) -> None:
        """One more."""
        match event:
            case JobStarted(ref=ref):
                assert ref.job_id not in self.logs, "a job was started twice"
                self.logs[ref.job_id] = b""
            case LogLine(ref=ref):
                assert ref.job_id not in self.ended, "a line after the end"
                assert event.offset == len(self.logs[ref.job_id]), "a gap between two lines"
                self.logs[ref.job_id] += event.raw
            case TraceReset():
                raise AssertionError(f"no log was ever rewritten: {event}")
            case JobFinished(ref=ref):
                assert ref.job_id not in self.ended, "a job ended twice"
                self.ended[ref.job_id], self.cursors[ref.job_id] = "finished", event.cursor
            case TailFailed(ref=ref):
                assert ref.job_id not in self.ended, "a job ended twice"
                self.ended[ref.job_id], self.cursors[ref.job_id] = "failed", event.cursor
            case JobRetried(ref=ref):
                self.ended.setdefault(ref.job_id, "retried")
            case _:
                raise AssertionError(f"nobody expected {event}")


async def tail(loop: SimLoop, seed: int, troubles: list[Trouble] | None = None) -> int:
    """Logs of many jobs that grow: each byte once, and an end only where the log ends."""
    async with storm(loop, seed, troubles) as world:
        pipeline = world.gitlab.add_project("group/app").add_pipeline("main")
        jobs = {job.id: job for job in (pipeline.add_job(f"job {n}") for n in range(1 + seed % 6))}
        for job in jobs.values():
            job.enqueue()
            plan(world, job)
        world.begin()
        reader, pauses = Reader(), world.chance.choice([0, 0, 10])
        async with world.client() as client:
            with suppress(FanOutError):
                async with client.tail([f"group/app/-/pipelines/{pipeline.id}"]) as events:
                    async for event in events:
                        reader.take(event)
                        if pauses and world.chance.random() < 0.1:
                            pauses -= 1
                            await asyncio.sleep(world.chance.choice([0.01, 40.0, 200.0]))
            for job_id, how in reader.ended.items():
                if how == "finished":
                    assert reader.logs[job_id] == jobs[job_id].trace, f"job {job_id} ended with another log"
                else:
                    assert jobs[job_id].trace.startswith(reader.logs[job_id])
            await world.until_calm()
            await _finish_tails(client, jobs, reader)
        return world.wire.digest


async def _finish_tails(client: Client, jobs: dict[int, FakeJob], reader: Reader) -> None:
    """Go on with what failed from its cursor, and with what was never met from its start."""
    for job_id, job in jobs.items():
        if reader.ended.get(job_id) == "finished":
            continue
        cursor = reader.cursors.get(job_id)
        known = reader.logs.get(job_id, b"")[: cursor.offset if cursor is not None else 0]
        async with client.follow_trace(JobRef("group/app", job_id), cursor=cursor) as trace:
            async for chunk in trace:
                assert chunk.offset == len(known), "no log was ever rewritten"
                known += chunk.data
        assert trace.job is not None
        assert known == job.trace, f"job {job_id} is not its log after going on"


async def follow(loop: SimLoop, seed: int, troubles: list[Trouble] | None = None) -> int:
    """One log, read by a process that is stopped again and again and goes on from the printed cursor."""
    async with storm(loop, seed, troubles) as world:
        job = world.gitlab.add_project("group/app").add_pipeline("main").add_job("job")
        job.enqueue()
        plan(world, job)
        world.begin()
        known, cursor = b"", ""
        ref = JobRef("group/app", job.id)
        lied_to = any(trouble.where == "*/trace" for trouble in world.troubles)
        # A settle time of 0 believes the first read that proves its end.
        options = TailOptions(settle=10.0 if lied_to else world.chance.choice([0.0, 10.0]))
        for life in range(40):
            if life > 20:
                await world.until_calm()
            patience = world.chance.expovariate(1 / 100) if life < 30 else 10_000.0
            async with world.client() as client:
                try:
                    async with asyncio.timeout(patience):
                        stream = client.follow_trace(ref, cursor=cursor or None, options=options)
                        async with stream as trace:
                            async for chunk in trace:
                                assert chunk.offset == len(known), "no log was ever rewritten"
                                known += chunk.data
                                cursor = str(trace.cursor)
                        assert known == job.trace, "it ended before the log did"
                        break
                except TimeoutError:
                    continue
                except AsyncJobsError:
                    assert not world.calm or loop.now < 1_000 + CALM_SECONDS + 60, "failed in the calm"
        else:
            raise AssertionError("never came to an end")
        return world.wire.digest


async def story(loop: SimLoop, seed: int, troubles: list[Trouble] | None = None) -> int:
    """A pipeline in which jobs are added and tried again: every newest attempt is followed."""
    async with storm(loop, seed, troubles) as world:
        pipeline = world.gitlab.add_project("group/app").add_pipeline("main")
        # As long as this one runs the pipeline is not over, and its tail neither.
        longest = pipeline.add_job("longest")
        longest.script([(1.0, "running"), (1300.0, b"done\n"), (1.0, "success")])
        for n in range(world.chance.randrange(1, 4)):
            job = pipeline.add_job(f"job {n}")
            job.enqueue()
            plan(world, job)
        for n in range(world.chance.randrange(0, 3)):
            loop.call_later(world.chance.uniform(1.0, 600.0), _add, world, pipeline, f"late {n}")
        for _ in range(world.chance.randrange(0, 4)):
            loop.call_later(world.chance.uniform(1.0, 1000.0), _retry_one, world, pipeline)
        world.begin()
        reader, failed = Reader(), 0
        async with world.client() as client:
            try:
                async with client.tail([f"group/app/-/pipelines/{pipeline.id}"]) as events:
                    async for event in events:
                        reader.take(event)
            except FanOutError as error:
                failed = len(error.failures)
            for job in pipeline.jobs:
                how = reader.ended.get(job.id)
                if how == "finished":
                    assert reader.logs[job.id] == job.trace, f"job {job.id} ended with another log"
                assert how or job.retried or failed, f"job {job.id} was never met, and nothing says so"
        return world.wire.digest


async def restarts(loop: SimLoop, seed: int, troubles: list[Trouble] | None = None) -> int:
    """Many logs, read by a process that is stopped again and again and goes on from its cursors."""
    async with storm(loop, seed, troubles) as world:
        pipeline = world.gitlab.add_project("group/app").add_pipeline("main")
        jobs = {job.id: job for job in (pipeline.add_job(f"job {n}") for n in range(1 + seed % 5))}
        for job in jobs.values():
            job.enqueue()
            plan(world, job)
        world.begin()
        logs: dict[int, bytes] = dict.fromkeys(jobs, b"")
        places: dict[int, TraceCursor] = {}
        done: set[int] = set()
        for life in range(40):
            if life > 15:
                await world.until_calm()
            patience = world.chance.expovariate(1 / 150) if life < 20 else 10_000.0
            async with world.client() as client:
                target = [f"group/app/-/pipelines/{pipeline.id}"]
                with suppress(TimeoutError, FanOutError):
                    async with asyncio.timeout(patience):
                        async with client.tail(target, cursors=places.values()) as events:
                            async for event in events:
                                match event:
                                    case LogLine(ref=ref):
                                        assert event.offset == len(logs[ref.job_id]), (
                                            "a gap between two lives"
                                        )
                                        logs[ref.job_id] += event.raw
                                    case JobFinished(ref=ref, cursor=cursor):
                                        done.add(ref.job_id)
                                        places[ref.job_id] = cursor
                                    case _:
                                        assert not isinstance(event, TraceReset)
                                places |= {ref.job_id: cursor for ref, cursor in events.cursors.items()}
            if done == set(jobs):
                break
        assert logs == {job_id: job.trace for job_id, job in jobs.items()}
        return world.wire.digest


def _add(world: Storm, pipeline: FakePipeline, name: str) -> None:
    job = pipeline.add_job(name)
    job.enqueue()
    plan(world, job)


def _retry_one(world: Storm, pipeline: FakePipeline) -> None:
    over = [job for job in pipeline.jobs if job.retryable]
    if over:
        job = world.chance.choice(over).retry()
        plan(world, job)
