"""Jobs that are retried or deleted while they are followed: no attempt is passed over, nobody hangs."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from asyncjobs._errors import FanOutError, NotFoundError
from asyncjobs._models import JobRetried, ProjectRef, TailFailed
from asyncjobs.testing import FakeGitLab, FakeJob
from asyncjobs.testing._generations import Generation
from tests.functional.tail.conftest import Connect
from tests.functional.tail.test_tail import log, of, pipeline, ref_of, watch

GENERATIONS: list[Generation] = ["9.1", "18", "19.5"]
generations = pytest.mark.parametrize("generation", GENERATIONS)


@generations
@pytest.mark.parametrize("whole_pipeline", [True, False])
async def test_retry_at_the_moment_of_failure(
    connect: Connect, generation: Generation, whole_pipeline: bool
) -> None:
    """A job replaced before anybody saw its end is read, and then its new attempt."""
    async with FakeGitLab(generation) as gitlab, connect(gitlab) as api:
        pipe = pipeline(gitlab)
        job = pipe.add_job("flaky", status="running", trace=b"first\n")
        new: list[FakeJob] = []

        def fail_and_retry() -> None:
            job.finish("failed")
            new.append(job.retry())
            new[0].script_trace(b"second\n", every=10, pushes=1)

        asyncio.get_running_loop().call_later(33.3, fail_and_retry)
        async with asyncio.timeout(600):
            seen = await watch(api, of(pipe) if whole_pipeline else ref_of(job))
        assert seen.finished() == {job.id: "failed", new[0].id: "success"}
        assert (bytes(seen.raw[job.id]), bytes(seen.raw[new[0].id])) == (b"first\n", b"second\n")
        assert [(e.ref.job_id, e.new_ref.job_id) for e in seen.events if isinstance(e, JobRetried)] == [
            (job.id, new[0].id)
        ]


@generations
@pytest.mark.parametrize("others", [0, 120])
async def test_deleted_job_fails_alone(connect: Connect, generation: Generation, others: int) -> None:
    """Of two jobs one is deleted: it fails with its own address, and the other is read to its end."""
    async with FakeGitLab(generation) as gitlab, connect(gitlab) as api:
        pipe = pipeline(gitlab)
        gone = pipe.add_job("gone", status="running", trace=b"x\n")
        good = pipe.add_job("good", status="running")
        good.script_trace(log("good"), every=30, pushes=20)
        for n in range(others):
            pipe.add_job(f"other{n}", status="success", age=3600)
        asyncio.get_running_loop().call_later(60, gitlab.remove_job, gone)
        async with asyncio.timeout(3600):
            seen = await watch(api, [ref_of(gone), ref_of(good)])
        (failed,) = [event for event in seen.events if isinstance(event, TailFailed)]
        assert failed.ref == ref_of(gone)
        assert isinstance(failed.error, NotFoundError)
        assert f"/jobs/{gone.id}" in failed.error.url
        assert bytes(seen.raw[good.id]) == good.trace
        assert set(seen.finished()) == {good.id}


async def test_deleted_job_that_has_not_started(connect: Connect) -> None:
    """A job that is deleted while it waits for a runner fails; nobody waits for it for ever."""
    async with FakeGitLab() as gitlab, connect(gitlab) as api:
        pipe = pipeline(gitlab)
        gone = pipe.add_job("gone", status="pending")
        good = pipe.add_job("good", status="running")
        good.script_trace(log("good"), every=30, pushes=5)
        asyncio.get_running_loop().call_later(60, gitlab.remove_job, gone)
        async with asyncio.timeout(3600):
            seen = await watch(api, of(pipe))
        assert [event.ref for event in seen.events if isinstance(event, TailFailed)] == [ref_of(gone)]
        assert set(seen.finished()) == {good.id}


@pytest.mark.parametrize("generation", ["18", "19.5"])
@pytest.mark.parametrize("whole_pipeline", [True, False])
async def test_chain_of_fast_retries(connect: Connect, generation: Generation, whole_pipeline: bool) -> None:
    """Attempts that came and went between two looks are announced and read, each in its turn."""
    async with FakeGitLab(generation) as gitlab, connect(gitlab) as api:
        pipe = pipeline(gitlab)
        attempts = [pipe.add_job("flaky", status="running", trace=b"attempt 0\n")]

        def three_more() -> None:
            for n in range(1, 4):
                attempts[-1].finish("failed")
                attempts.append(attempts[-1].retry())
                attempts[-1].start()
                attempts[-1].append_trace(b"attempt %d\n" % n)
            attempts[-1].finish()

        asyncio.get_running_loop().call_later(33.3, three_more)
        async with asyncio.timeout(600):
            seen = await watch(api, of(pipe) if whole_pipeline else ref_of(attempts[0]))
        ids = [job.id for job in attempts]
        hops = [(e.ref.job_id, e.new_ref.job_id) for e in seen.events if isinstance(e, JobRetried)]
        assert hops == list(itertools.pairwise(ids))
        assert {job: bytes(seen.raw[job]) for job in ids} == {job.id: job.trace for job in attempts}
        assert list(seen.finished()) == ids


@pytest.mark.parametrize("moment", [float(second) for second in range(25, 37)])
async def test_chain_of_retries_in_a_project(connect: Connect, moment: float) -> None:
    """Whether the project's listing or the pipeline's finds a new attempt first, all are told and read."""
    async with FakeGitLab() as gitlab, connect(gitlab) as api:
        attempts = [pipeline(gitlab).add_job("flaky", status="running", trace=b"attempt 0\n")]

        def two_more() -> None:
            for n in range(1, 3):
                attempts[-1].finish("failed")
                attempts.append(attempts[-1].retry())
                attempts[-1].start()
                attempts[-1].append_trace(b"attempt %d\n" % n)

        loop = asyncio.get_running_loop()
        loop.call_later(moment, two_more)
        loop.call_later(100, lambda: attempts[-1].finish())
        async with asyncio.timeout(600):
            seen = await watch(api, "group/app")
        ids = [job.id for job in attempts]
        hops = [(e.ref.job_id, e.new_ref.job_id) for e in seen.events if isinstance(e, JobRetried)]
        assert hops == list(itertools.pairwise(ids))
        assert list(seen.finished().items()) == list(zip(ids, ["failed", "failed", "success"], strict=True))


async def test_job_of_a_pipeline_that_was_over(connect: Connect) -> None:
    """A pipeline that was read to its end is watched again when a job of it is alive again."""
    async with FakeGitLab() as gitlab, connect(gitlab) as api:
        pipe = pipeline(gitlab)
        old = pipe.add_job("flaky", status="failed", trace=b"old\n", age=3600)
        other = pipe.project.add_pipeline("dev").add_job("long", status="running")
        other.script_trace(log("long"), every=30, pushes=20)
        new: list[FakeJob] = []

        def retry() -> None:
            new.append(old.retry())
            # Alive for longer than the time between two looks at the project, which lists living jobs only.
            new[0].script_trace(b"new\n", every=40, pushes=1)

        asyncio.get_running_loop().call_later(200, retry)
        async with asyncio.timeout(3600):
            seen = await watch(api, [of(pipe), "group/app"])
        assert seen.finished() == {old.id: "failed", other.id: "success", new[0].id: "success"}
        assert bytes(seen.raw[new[0].id]) == b"new\n"


async def test_played_job_of_a_pipeline_that_was_over(connect: Connect) -> None:
    """A manual job that was reported and left is followed when the project's listing finds it played."""
    async with FakeGitLab() as gitlab, connect(gitlab) as api:
        pipe = pipeline(gitlab)
        gate = pipe.add_job("gate", status="manual")
        other = pipe.project.add_pipeline("dev").add_job("long", status="running")
        other.script_trace(log("long"), every=30, pushes=20)

        def play() -> None:
            gate.play()
            gate.script_trace(b"played\n", every=40, pushes=1)

        asyncio.get_running_loop().call_later(200, play)
        async with asyncio.timeout(3600):
            seen = await watch(api, [of(pipe), "group/app"])
        assert seen.finished() == {gate.id: "success", other.id: "success"}
        assert bytes(seen.raw[gate.id]) == b"played\n"


async def test_new_attempt_in_a_pipeline_that_is_forbidden(connect: Connect) -> None:
    """A new attempt found while its pipeline cannot be listed any more is a failed tail, told once."""
    async with FakeGitLab() as gitlab, connect(gitlab) as api:
        pipe = pipeline(gitlab)
        old = pipe.add_job("flaky", status="failed", trace=b"old\n", age=3600)
        other = pipe.project.add_pipeline("dev").add_job("long", status="running")
        other.script_trace(log("long"), every=30, pushes=30)
        new: list[FakeJob] = []

        def retry() -> None:
            gitlab.faults.add("403", times=10_000, where=f"*/pipelines/{pipe.id}/jobs")
            new.append(old.retry())
            new[0].start()

        asyncio.get_running_loop().call_later(200, retry)
        async with asyncio.timeout(3600):
            seen = await watch(api, [of(pipe), "group/app"])
        assert seen.finished() == {old.id: "failed", other.id: "success"}
        assert [event.ref.job_id for event in seen.events if isinstance(event, TailFailed)] == [new[0].id]
        assert isinstance(seen.error, FanOutError)
        assert [failure.target for failure in seen.error.failures] == [of(pipe)]


@pytest.mark.parametrize("generation", GENERATIONS)
async def test_living_jobs_of_a_project_on_every_generation(connect: Connect, generation: Generation) -> None:
    """A project is tailed on servers too old for some of the statuses that a living job may have today."""
    async with FakeGitLab(generation) as gitlab, connect(gitlab) as api:
        job = pipeline(gitlab).add_job("build", status="running")
        job.script_trace(log("build"), every=30, pushes=3)
        async with asyncio.timeout(600):
            seen = await watch(api, ProjectRef(ref_of(job).project))
        assert bytes(seen.raw[job.id]) == job.trace
        assert set(seen.finished()) == {job.id}
