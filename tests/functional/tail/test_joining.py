"""What joins a tail while it goes on: new jobs of projects, however short, attempts, and at what cost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from asyncjobs._errors import FanOutError, ForbiddenError
from asyncjobs._models import GroupRef, LogLine, ProjectRef
from asyncjobs._options import TailOptions
from asyncjobs._tail import tail
from asyncjobs._tail.pipelines import PipelineWatch
from asyncjobs._tail.watch import JobWatch
from asyncjobs.testing import FakeGitLab, FakeJob, RecordedRequest
from asyncjobs.testing._generations import Generation
from tests.functional.tail.conftest import Connect
from tests.functional.tail.test_tail import log, of, pipeline, ref_of, watch

generations = pytest.mark.parametrize("generation", ["9.1", "18", "19.5"])


def later(seconds: float, step: Callable[[], object]) -> None:
    """Do something at a moment of the test."""
    asyncio.get_running_loop().call_later(seconds, step)


@generations
@pytest.mark.parametrize("target", [ProjectRef("group/app"), GroupRef("group")])
async def test_no_new_job_is_too_short(
    connect: Connect, generation: Generation, target: ProjectRef | GroupRef
) -> None:
    """Jobs that begin and end between two looks are read too, and no listing more is spent on them."""
    async with FakeGitLab(generation) as gitlab, connect(gitlab) as api:
        project = gitlab.add_project("group/app")
        for n in range(250):
            project.add_pipeline("main").add_job(f"old{n}", status="success", trace=b"old\n", age=600)
        running = project.add_pipeline("main").add_job("long", status="running")
        running.script_trace(log("long"), every=30, pushes=20)
        short: list[FakeJob] = []

        def push() -> None:
            job = project.add_pipeline("dev").add_job("short", status="running", trace=b"short\n")
            short.append(job)
            later(5, job.finish)

        def nothing() -> None:
            project.add_pipeline("dev").add_job("skipped", status="skipped")

        for moment in (3, 47, 48, 49, 120, 285, 590):
            later(moment, push)
            later(moment, nothing)
        seen = await watch(api, target)
        assert sorted(seen.finished()) == sorted([running.id, *(job.id for job in short)])
        assert {job.id: bytes(seen.raw[job.id]) for job in short} == {job.id: b"short\n" for job in short}
        looks = gitlab.requests.filter(lambda one: one.path.endswith(f"{project.path}/jobs"))
        refused = [one for one in looks if one.status is None or one.status >= 400]
        assert len(looks) - len(refused) <= seen.seconds / 27 + 4


async def test_attempts_between_two_looks(connect: Connect) -> None:
    """A new job that was retried twice before anybody looked is read attempt by attempt."""
    async with FakeGitLab() as gitlab, connect(gitlab) as api:
        project = gitlab.add_project("group/app")
        project.add_pipeline().add_job("long", status="running").script_trace(log("long"), every=30, pushes=9)
        attempts: list[FakeJob] = []

        def again() -> None:
            job = (
                attempts[-1].retry()
                if attempts
                else project.add_pipeline().add_job("flaky", status="running")
            )
            attempts.append(job)
            job.start()
            job.append_trace(b"attempt %d\n" % len(attempts))
            later(3, lambda: job.finish("failed" if len(attempts) < 3 else "success"))

        for moment in (35, 40, 45):
            later(moment, again)
        seen = await watch(api, "group/app")
        assert [bytes(seen.raw[job.id]) for job in attempts] == [b"attempt %d\n" % n for n in (1, 2, 3)]
        order = [
            name
            for name in seen.names
            if "LogLine" not in name and str(seen.events[0].ref.job_id) not in name
        ]
        first, second, third = (job.id for job in attempts)
        assert order == [
            f"JobStarted {first}",
            f"JobFinished {first}",
            f"JobRetried {first}",
            f"JobStarted {second}",
            f"JobFinished {second}",
            f"JobRetried {second}",
            f"JobStarted {third}",
            f"JobFinished {third}",
        ]


@pytest.mark.parametrize("late", ["group/a", "group/b"])
async def test_every_project_is_watched_while_any_job_is_followed(connect: Connect, late: str) -> None:
    """A project where nothing is alive at first is not given up because its listing came first."""
    async with FakeGitLab() as gitlab, connect(gitlab) as api:
        quiet = gitlab.add_project("group/a")
        quiet.add_pipeline().add_job("old", status="success", age=600)
        busy = gitlab.add_project("group/b").add_pipeline()
        busy.add_job("long", status="running").script_trace(log("long"), every=30, pushes=10)
        gitlab.fail_next("delay", where=f"*/{late}/jobs", seconds=5)
        fresh: list[FakeJob] = []

        def push() -> None:
            fresh.append(quiet.add_pipeline().add_job("fresh", status="running"))
            fresh[0].script_trace(log("fresh"), every=30, pushes=2)

        later(100, push)
        seen = await watch(api, ["group/a", "group/b"])
        assert bytes(seen.raw[fresh[0].id]) == fresh[0].trace
        # Each looks once more when all has ended, or twice.
        assert gitlab.requests.count("*/projects/group/?/jobs") <= 2 * (seen.seconds / 27 + 4)


async def test_jobs_made_before_the_end_of_the_last(connect: Connect) -> None:
    """A job made while the last one was still followed is followed as well, though no look came between."""
    async with FakeGitLab() as gitlab, connect(gitlab) as api:
        project = gitlab.add_project("group/app")
        first = project.add_pipeline().add_job("first", status="running", trace=b"first\n")
        second: list[FakeJob] = []

        def push() -> None:
            second.append(project.add_pipeline().add_job("second", status="running"))
            second[0].script_trace(log("second"), every=30, pushes=2)

        later(2, push)
        later(3, first.finish)
        seen = await watch(api, "group/app")
        assert sorted(seen.finished()) == [first.id, second[0].id]


async def test_an_empty_pipeline_that_is_refused_fails_alone(connect: Connect) -> None:
    """It is one target that failed; jobs of other targets are read to their end."""
    async with FakeGitLab() as gitlab, connect(gitlab) as api:
        project = gitlab.add_project("group/app")
        empty, pipe = project.add_pipeline(), project.add_pipeline()
        job = pipe.add_job("long", status="running")
        job.script_trace(log("long"), every=30, pushes=5)
        gitlab.faults.add("403", where=f"*/pipelines/{empty.id}")
        seen = await watch(api, [of(empty), of(pipe)])
        assert bytes(seen.raw[job.id]) == job.trace
        assert isinstance(seen.error, FanOutError)
        assert [(each.target, type(each.error)) for each in seen.error.failures] == [
            (of(empty), ForbiddenError)
        ]


async def test_statuses_of_a_long_pipeline_cost_few_requests(connect: Connect) -> None:
    """Sixteen pages of jobs, of which one ends every second or two, are not asked for every two seconds."""
    async with FakeGitLab() as gitlab, connect(gitlab) as api:
        pipe = pipeline(gitlab)
        for n in range(1_500):
            pipe.add_job(f"old{n}", status="success", age=600)
        for n in range(40):
            later(1.7 * n + 1, pipe.add_job(f"new{n}", status="running").finish)
        seen = await watch(api, of(pipe), name="new*")
        assert len(seen.finished()) == 40
        assert gitlab.requests.count("*/pipelines/*/jobs") <= 4.5 * seen.seconds + 32


async def test_a_job_found_while_others_are_asked_for(connect: Connect) -> None:
    """An attempt that is found while the statuses of single jobs are on their way is not forgotten."""
    followed: list[int] = []
    async with FakeGitLab() as gitlab, connect(gitlab) as api:
        pipe = pipeline(gitlab)
        flaky, long = pipe.add_job("flaky", status="failed"), pipe.add_job("long", status="running")
        again: list[FakeJob] = []

        def follow(job: JobWatch, older: JobWatch | None) -> None:
            followed.append(job.ref.job_id)
            if job.ref.job_id == flaky.id:
                job.done()

        statuses = PipelineWatch(
            api,
            of(pipe),
            options=TailOptions(),
            follow=follow,
            descend=lambda _, __: None,
            depth=1,
            all_pages=lambda: 1,
        )
        for job in (flaky, long):
            statuses.want(ref_of(job), await api.get_job(job.project_id, job.id), named=True)

        def asked(request: RecordedRequest) -> None:
            if request.path.endswith(f"/jobs/{long.id}") and not again:
                again.append(flaky.retry())
                asyncio.get_running_loop().create_task(found(again[0]))

        async def found(job: FakeJob) -> None:
            record = await api.get_job(job.project_id, job.id)
            statuses.want(ref_of(job), record, named=False)

        gitlab.fail_next("delay", where=f"*/jobs/{long.id}", seconds=3)
        gitlab.on_request = asked
        running = asyncio.create_task(statuses.run())
        await asyncio.sleep(60)
        running.cancel()
        await asyncio.wait([running])
        assert followed == [flaky.id, long.id, again[0].id]


async def test_ended_jobs_that_nobody_reads_cost_little(connect: Connect) -> None:
    """While the consumer pauses for an hour, ended jobs are hardly asked for, and are read whole after it."""
    async with FakeGitLab() as gitlab, connect(gitlab) as api:
        pipes = [gitlab.add_project(f"group/p{n}").add_pipeline() for n in range(5)]
        jobs = [pipe.add_job("long", status="running", trace=log("long", 8_000)) for pipe in pipes]
        got: dict[int, bytes] = {}
        async with tail(api, [of(pipe) for pipe in pipes]) as events:
            async for event in events:
                if isinstance(event, LogLine):
                    if not got:
                        for job in jobs:
                            job.finish()
                        await asyncio.sleep(300)
                        before = len(gitlab.requests)
                        await asyncio.sleep(3_600)
                        assert len(gitlab.requests) - before <= 5 * 70
                    got[event.ref.job_id] = got.get(event.ref.job_id, b"") + event.raw
        assert got == {job.id: job.trace for job in jobs}


async def test_a_project_that_is_refused_does_not_hide_its_group(connect: Connect) -> None:
    """Where jobs are off for one project of a group, those of the others are followed, new ones too."""
    async with FakeGitLab() as gitlab, connect(gitlab) as api:
        projects = [gitlab.add_project(f"group/p{n}") for n in range(5)]
        gitlab.faults.add("403", where="*/group/p1/jobs")
        jobs = [each.add_pipeline().add_job("long", status="running") for each in projects]
        for job in jobs:
            job.script_trace(log("long"), every=30, pushes=5)

        def push() -> None:
            for project in (projects[0], gitlab.add_project("group/new")):
                jobs.append(project.add_pipeline().add_job("fresh", status="running", trace=b"fresh\n"))
                later(20, jobs[-1].finish)

        later(70, push)
        seen = await watch(api, ["groups/group", "group/p2"])
        del jobs[1]
        assert {job.id: bytes(seen.raw[job.id]) for job in jobs} == {job.id: job.trace for job in jobs}
        assert isinstance(seen.error, FanOutError)
        ((target, error),) = [(each.target, each.error) for each in seen.error.failures]
        assert (target, type(error)) == (ProjectRef("group/p1"), ForbiddenError)
