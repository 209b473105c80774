"""Many jobs followed as lines: each log whole, the story followed, nobody hanging or lost."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from asyncjobs._api import Api
from asyncjobs._errors import ClosedError, FanOutError, ForbiddenError, NotFoundError
from asyncjobs._models import (
    GroupRef,
    JobFinished,
    JobRef,
    JobRetried,
    JobStarted,
    LogLine,
    PipelineRef,
    ProjectRef,
    TailEvent,
    TailFailed,
    Target,
    TraceReset,
)
from asyncjobs._options import TailOptions
from asyncjobs._tail import tail
from asyncjobs._tail.many import Targets
from asyncjobs.testing import FakeGitLab, FakeJob, FakePipeline
from tests.functional.tail.conftest import Connect

kinds = pytest.mark.parametrize("kind", ["window", "range", "whole"])


def fake(kind: str = "window") -> FakeGitLab:
    """A GitLab that gives logs in one way."""
    return FakeGitLab(trace=kind)  # type: ignore[arg-type] # the parameter is a plain str here


class Seen:
    """The events of a tail, by kind and by job."""

    def __init__(self) -> None:
        self.events: list[TailEvent] = []
        self.raw: dict[int, bytearray] = defaultdict(bytearray)
        self.base: dict[int, int] = {}
        self.names: list[str] = []
        self.error: BaseException | None = None
        self.seconds = 0.0

    def add(self, event: TailEvent) -> None:
        """Take an event, checking that offsets join."""
        self.events.append(event)
        job = event.ref.job_id
        self.names.append(f"{type(event).__name__} {job}")
        if isinstance(event, LogLine):
            base = self.base.setdefault(job, event.offset)
            assert event.offset == base + len(self.raw[job])
            self.raw[job] += event.raw
        elif isinstance(event, TraceReset):
            del self.raw[job][event.offset - self.base.get(job, 0) :]

    def of(self, kind: type[TailEvent]) -> list[TailEvent]:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def finished(self) -> dict[int, str]:
        """Job to the status it was left with."""
        return {e.ref.job_id: str(e.job.status) for e in self.events if isinstance(e, JobFinished)}


async def watch(api: Api, targets: Targets, **options: object) -> Seen:
    """Tail to the end."""
    seen, began = Seen(), api.clock.monotonic()
    try:
        async with tail(api, targets, options=TailOptions(**options)) as events:  # type: ignore[arg-type]
            async for event in events:
                seen.add(event)
    except FanOutError as error:
        seen.error = error
    seen.seconds = api.clock.monotonic() - began
    return seen


def pipeline(gitlab: FakeGitLab, path: str = "group/app") -> FakePipeline:
    """A pipeline in a project of its own."""
    return gitlab.add_project(path).add_pipeline("main")


def ref_of(job: FakeJob) -> JobRef:
    """The client's name of a job."""
    return JobRef(job.project_id, job.id)


def of(pipe: FakePipeline) -> PipelineRef:
    """The client's name of a pipeline."""
    return PipelineRef(pipe.project.id, pipe.id)


def log(name: str, lines: int = 100) -> bytes:
    """Some log."""
    return b"".join(f"{name} line {n}\n".encode() for n in range(lines))


@kinds
async def test_pipeline_of_running_jobs(connect: Connect, kind: str) -> None:
    """All jobs of a pipeline, merged, each to the byte, with one listing per round for all statuses."""
    async with fake(kind) as gitlab, connect(gitlab) as api:
        pipe = pipeline(gitlab)
        jobs = [pipe.add_job(f"job{n}", status="running") for n in range(10)]
        for n, job in enumerate(jobs):
            job.script_trace(
                log(job.name, 500), every=30, pushes=4 + n, finish="failed" if n % 2 else "success"
            )
        seen = await watch(api, of(pipe))
        assert {job.id: bytes(seen.raw[job.id]) for job in jobs} == {job.id: job.trace for job in jobs}
        assert seen.finished() == {job.id: job.status for job in jobs}
        assert gitlab.requests.count("*/jobs/*") == gitlab.requests.count("*/trace")
        assert seen.seconds <= 14 * 30 + 40


async def test_events_of_one_job_are_in_order(connect: Connect) -> None:
    """Start, lines with name, number and offset, end with a cursor that knows every byte."""
    async with fake() as gitlab, connect(gitlab) as api:
        job = pipeline(gitlab).add_job("unit", status="success", trace=b"a\nb", age=3600)
        seen = await watch(api, f"group/app/-/jobs/{job.id}")
        ref = JobRef("group/app", job.id)
        start, first, second, end = seen.events
        assert isinstance(start, JobStarted)
        assert start.job.name == "unit"
        assert first == LogLine(ref, "unit", b"a\n", "a", 0, 1, None, None, None)
        assert second == LogLine(ref, "unit", b"b", "b", 2, 2, None, None, None)
        assert isinstance(end, JobFinished)
        assert (end.cursor.offset, end.ref) == (3, ref)


async def test_new_jobs_join(connect: Connect) -> None:
    """Jobs that appear while others run are followed too; created ones are waited for."""
    async with fake() as gitlab, connect(gitlab) as api:
        pipe = pipeline(gitlab)
        first = pipe.add_job("build", status="running")
        first.script_trace(log("build"), every=30, pushes=4)
        second = pipe.add_job("test", stage="test", status="created")
        loop = asyncio.get_running_loop()
        loop.call_later(140, lambda: second.script_trace(log("test"), every=3, pushes=3))
        late: list[FakeJob] = []

        def join() -> None:
            late.append(pipe.add_job("deploy", status="running"))
            late[0].script_trace(log("deploy"), every=3, pushes=3)

        loop.call_later(50, join)
        seen = await watch(api, of(pipe))
        for job in (first, second, late[0]):
            assert bytes(seen.raw[job.id]) == job.trace
        assert len(seen.finished()) == 3


async def test_no_joining_on_request(connect: Connect) -> None:
    """With `join=False` only the jobs of the first look are followed."""
    async with fake() as gitlab, connect(gitlab) as api:
        pipe = pipeline(gitlab)
        pipe.add_job("build", status="running").script_trace(log("build"), every=30, pushes=4)
        asyncio.get_running_loop().call_later(
            50, lambda: pipe.add_job("late", status="running", trace=b"x\n")
        )
        assert len((await watch(api, of(pipe), join=False)).finished()) == 1


@pytest.mark.parametrize("whole_pipeline", [True, False])
async def test_retried_job_is_followed(connect: Connect, whole_pipeline: bool) -> None:
    """A retry while tailing is announced and its log follows, after the old one is complete."""
    async with fake() as gitlab, connect(gitlab) as api:
        pipe = pipeline(gitlab)
        job = pipe.add_job("flaky", status="running")
        job.script_trace(log("first"), every=10, pushes=3, finish="failed")
        new: list[FakeJob] = []

        def retry() -> None:
            new.append(job.retry())
            new[0].script_trace(log("second"), every=10, pushes=3)

        asyncio.get_running_loop().call_later(33, retry)
        seen = await watch(api, of(pipe) if whole_pipeline else ref_of(job))
        old_ref, new_ref = ref_of(job), ref_of(new[0])
        assert seen.of(JobRetried) == [JobRetried(old_ref, new_ref)]
        order = [name for name in seen.names if not name.startswith("LogLine")]
        assert order == [
            f"JobStarted {job.id}",
            f"JobFinished {job.id}",
            f"JobRetried {job.id}",
            f"JobStarted {new[0].id}",
            f"JobFinished {new[0].id}",
        ]
        assert bytes(seen.raw[job.id]) == job.trace
        assert bytes(seen.raw[new[0].id]) == new[0].trace


async def test_old_attempt_leads_to_the_new_one(connect: Connect) -> None:
    """A job that was retried before the tail began is read, then its newer attempt."""
    async with fake() as gitlab, connect(gitlab) as api:
        job = pipeline(gitlab).add_job("flaky", status="failed", trace=b"old\n", age=3600)
        new = job.retry()
        new.script_trace(b"new\n", every=5, pushes=1)
        seen = await watch(api, ref_of(job))
        assert (bytes(seen.raw[job.id]), bytes(seen.raw[new.id])) == (b"old\n", b"new\n")
        assert len(seen.of(JobRetried)) == 1


async def test_pipeline_shows_newest_attempts_only(connect: Connect) -> None:
    """Attempts that were replaced before the tail began are not read."""
    async with fake() as gitlab, connect(gitlab) as api:
        pipe = pipeline(gitlab)
        job = pipe.add_job("flaky", status="failed", trace=b"old\n", age=3600)
        new = job.retry()
        new.script_trace(b"new\n", every=5, pushes=1)
        seen = await watch(api, of(pipe))
        assert set(seen.finished()) == {new.id}


async def test_children_on_request(connect: Connect) -> None:
    """Downstream pipelines are followed, over projects, once each, although they form a circle."""
    async with fake() as gitlab, connect(gitlab) as api:
        parent = pipeline(gitlab)
        parent.add_job("prepare", status="running").script_trace(log("prepare"), every=5, pushes=3)
        child = gitlab.add_project("other/lib").add_pipeline("main")
        child.add_job("inner", status="running").script_trace(log("inner"), every=20, pushes=5)
        parent.add_bridge("trigger", downstream=child)
        child.add_bridge("back", downstream=parent).own_status = "success"
        seen = await watch(api, of(parent), children=True)
        assert {bytes(raw) for raw in seen.raw.values()} == {log("prepare"), log("inner")}
        assert len(seen.finished()) == 2
        assert len((await watch(api, of(parent))).finished()) == 1


@pytest.mark.parametrize("generation", ["9.1", "18", "19.5"])
async def test_children_where_there_are_none(connect: Connect, generation: str) -> None:
    """A server that knows no trigger jobs gives the pipeline all the same; a missing one is still missing."""
    async with FakeGitLab(generation) as gitlab, connect(gitlab) as api:  # type: ignore[arg-type] # a plain str
        pipe = pipeline(gitlab)
        job = pipe.add_job("build", status="running")
        job.script_trace(log("build"), every=5, pushes=3)
        seen = await watch(api, of(pipe), children=True)
        assert (seen.finished(), seen.error) == ({job.id: "success"}, None)
        assert bytes(seen.raw[job.id]) == job.trace
        with pytest.raises(NotFoundError, match="999"):
            [bridge async for bridge in api.iter_pipeline_bridges("group/app", 999)]


async def test_depth_of_children_is_limited(connect: Connect) -> None:
    """`max_depth` levels, the first included."""
    async with fake() as gitlab, connect(gitlab) as api:
        project = gitlab.add_project("group/app")
        levels = [project.add_pipeline("main") for _ in range(5)]
        for level, below in zip(levels, [*levels[1:], None], strict=True):
            level.add_job("work", status="success", trace=b"x\n", age=3600)
            if below is not None:
                level.add_bridge("down", downstream=below)
        assert len((await watch(api, of(levels[0]), children=True, max_depth=3)).finished()) == 3


async def test_filters(connect: Connect) -> None:
    """Name and stage are globs; scope looks at the status at first sight."""
    async with fake() as gitlab, connect(gitlab) as api:
        pipe = pipeline(gitlab)
        for name, stage, status in [
            ("unit a", "test", "success"),
            ("unit b", "test", "failed"),
            ("lint", "check", "failed"),
        ]:
            pipe.add_job(name, stage=stage, status=status, trace=b"x\n", age=3600)

        async def names(**options: object) -> list[str]:
            seen = await watch(api, of(pipe), **options)
            return [event.job.name for event in seen.events if isinstance(event, JobFinished)]

        assert sorted(await names(name="unit*")) == ["unit a", "unit b"]
        assert await names(stage="ch*") == ["lint"]
        assert sorted(await names(scope="failed")) == ["lint", "unit b"]
        assert await names(scope=["failed"], stage="test") == ["unit b"]


async def test_manual_jobs_do_not_hang(connect: Connect) -> None:
    """A pipeline that waits for a person is reported as it is, with the jobs behind it."""
    async with fake() as gitlab, connect(gitlab) as api:
        pipe = pipeline(gitlab)
        pipe.add_job("build", status="running").script_trace(log("build"), every=5, pushes=3)
        gate = pipe.add_job("approve", stage="gate", status="manual")
        behind = pipe.add_job("deploy", stage="deploy", status="created")
        asyncio.get_running_loop().call_later(25, setattr, pipe, "fixed_status", "manual")
        seen = await watch(api, of(pipe))
        assert seen.finished() == {pipe.jobs[0].id: "success", gate.id: "manual", behind.id: "created"}


async def test_played_job_is_followed_while_others_run(connect: Connect) -> None:
    """A manual job that somebody plays while the pipeline is tailed is followed after all."""
    async with fake() as gitlab, connect(gitlab) as api:
        pipe = pipeline(gitlab)
        pipe.add_job("build", status="running").script_trace(log("build"), every=30, pushes=10)
        gate = pipe.add_job("approve", status="manual")
        loop = asyncio.get_running_loop()
        loop.call_later(60, gate.play)
        loop.call_later(70, lambda: gate.script_trace(b"played\n", every=5, pushes=1))
        seen = await watch(api, of(pipe))
        assert bytes(seen.raw[gate.id]) == b"played\n"
        assert seen.finished()[gate.id] == "success"


@pytest.mark.parametrize("target", ["group/app", ProjectRef("group/app"), "groups/group", GroupRef("group")])
async def test_projects_and_groups_mean_what_is_alive(connect: Connect, target: str | ProjectRef) -> None:
    """Finished jobs of a project are left alone; running and new ones are followed."""
    async with fake() as gitlab, connect(gitlab) as api:
        project = gitlab.add_project("group/app")
        old = project.add_pipeline("main").add_job("old", status="success", trace=b"old\n", age=3600)
        running = project.add_pipeline("main").add_job("now", status="running")
        running.script_trace(log("now"), every=30, pushes=5)
        fresh: list[FakeJob] = []

        def push() -> None:
            fresh.append(project.add_pipeline("dev").add_job("fresh", status="running"))
            fresh[0].script_trace(log("fresh"), every=30, pushes=5)

        asyncio.get_running_loop().call_later(65, push)
        seen = await watch(api, target)
        assert old.id not in seen.finished()
        assert bytes(seen.raw[running.id]) == running.trace
        assert bytes(seen.raw[fresh[0].id]) == fresh[0].trace


async def test_idle_project_ends_at_once(connect: Connect) -> None:
    """Nothing alive, nothing to follow."""
    async with fake() as gitlab, connect(gitlab) as api:
        gitlab.add_project("group/app").add_pipeline("main").add_job("old", status="success")
        seen = await watch(api, "group/app")
        assert (seen.events, seen.seconds < 1) == ([], True)


@kinds
@pytest.mark.parametrize("lines", [0, 1, 10, 3000])
@pytest.mark.parametrize("ending", [b"", b"no newline"])
async def test_last_lines(connect: Connect, kind: str, lines: int, ending: bytes) -> None:
    """`tail_lines` gives the last lines of a log, then what follows."""
    async with fake(kind) as gitlab, connect(gitlab) as api:
        begun = log("begun", 120_000) + ending
        job = pipeline(gitlab).add_job("big", status="running", trace=begun)
        loop = asyncio.get_running_loop()
        loop.call_later(30, job.append_trace, b" and more\nend\n")
        loop.call_later(31, job.finish)
        seen = await watch(api, ref_of(job), tail_lines=lines)
        kept = begun.splitlines(keepends=True)
        expected = b"".join(kept[len(kept) - lines :]) + b" and more\nend\n"
        assert bytes(seen.raw[job.id]) == expected
        assert not seen.of(TraceReset)
        if kind == "window":
            assert gitlab.requests.sent("*/trace") < 300_000


async def test_last_lines_of_a_short_log(connect: Connect) -> None:
    """A log with fewer lines is given whole."""
    async with fake() as gitlab, connect(gitlab) as api:
        job = pipeline(gitlab).add_job("small", status="success", trace=b"a\nb\n", age=3600)
        empty = pipeline(gitlab, "group/empty").add_job("none", status="success", age=3600)
        seen = await watch(api, [ref_of(job), ref_of(empty)], tail_lines=10)
        assert bytes(seen.raw[job.id]) == b"a\nb\n"
        assert set(seen.finished()) == {job.id, empty.id}


async def test_since_leaves_out_older_lines(connect: Connect) -> None:
    """Stamped lines before the moment are left out, lines without a stamp are kept."""
    async with fake() as gitlab, connect(gitlab) as api:
        data = b"2026-01-01T00:00:00.000000Z 00O early\nnotice\n2026-01-01T00:00:09.000000Z 00O late\n"
        job = pipeline(gitlab).add_job("stamped", status="success", trace=data, age=3600)
        moment = datetime(2026, 1, 1, 0, 0, 5, tzinfo=UTC)
        seen = Seen()
        async with tail(api, ref_of(job), options=TailOptions(since=moment)) as events:
            texts = [event.text async for event in events if isinstance(event, LogLine)]
        assert texts == ["notice", "late"]
        assert not seen.events


async def test_no_more_than_max_open(connect: Connect) -> None:
    """So many traces at once; the others wait in the queue and are all read."""
    async with fake() as gitlab, connect(gitlab) as api:
        pipe = pipeline(gitlab)
        for n in range(12):
            pipe.add_job(f"job{n}", status="running").script_trace(log(f"job{n}"), every=10, pushes=3)
        most = 0
        seen = Seen()
        async with tail(api, of(pipe), options=TailOptions(max_open=3)) as events:
            async for event in events:
                most = max(most, events.open_tails)
                seen.add(event)
        assert most == 3
        assert len(seen.finished()) == 12


async def test_ordered_mode(connect: Connect) -> None:
    """One job after the other, in the order found."""
    async with fake() as gitlab, connect(gitlab) as api:
        pipe = pipeline(gitlab)
        jobs = [pipe.add_job(f"job{n}", status="running") for n in range(4)]
        for n, job in enumerate(jobs):
            job.script_trace(log(job.name), every=10, pushes=9 - 2 * n)
        seen = await watch(api, of(pipe), ordered=True)
        ids = [event.ref.job_id for event in seen.events]
        assert ids == sorted(ids)
        assert all(bytes(seen.raw[job.id]) == job.trace for job in jobs)


async def test_one_broken_job_does_not_end_the_others(connect: Connect) -> None:
    """A log that may not be read is one `TailFailed`; the rest is delivered."""
    async with fake() as gitlab:
        project = gitlab.add_project("group/app", visibility="public", members={})
        pipe = project.add_pipeline("main")
        secret = pipe.add_job("secret", status="running", trace=b"x\n", debug=True)
        good = pipe.add_job("good", status="running")
        good.script_trace(log("good"), every=10, pushes=5)
        secret.script_trace(log("secret"), every=10, pushes=50)
        async with connect(gitlab) as api:
            seen = await watch(api, of(pipe))
        (failed,) = seen.of(TailFailed)
        assert isinstance(failed, TailFailed)
        assert isinstance(failed.error, ForbiddenError)
        assert bytes(seen.raw[good.id]) == good.trace
        assert set(seen.finished()) == {good.id}


async def test_failed_tail_tells_where_to_go_on(connect: Connect) -> None:
    """The cursor of a failed tail is behind the last line that was given."""
    async with fake() as gitlab, connect(gitlab) as api:
        job = pipeline(gitlab).add_job("gone", status="running", trace=b"one\nhalf")
        asyncio.get_running_loop().call_later(30, gitlab.remove_job, job)
        seen = await watch(api, ref_of(job))
        (failed,) = seen.of(TailFailed)
        assert isinstance(failed, TailFailed)
        assert isinstance(failed.error, NotFoundError)
        assert failed.cursor is not None
        assert failed.cursor.offset == len(seen.raw[job.id]) == 8


async def test_missing_targets_are_raised_at_the_end(connect: Connect) -> None:
    """A target that is not there does not end the others, and is not passed over."""
    async with fake() as gitlab, connect(gitlab) as api:
        job = pipeline(gitlab).add_job("good", status="success", trace=b"x\n", age=3600)
        gone: list[Target] = [
            PipelineRef("group/app", 99),
            ProjectRef("group/none"),
            GroupRef("none"),
        ]
        seen = await watch(api, [*gone, ref_of(job)])
        assert set(seen.finished()) == {job.id}
        assert isinstance(seen.error, FanOutError)
        assert {failure.target for failure in seen.error.failures} == set(gone)
        assert all(isinstance(error, NotFoundError) for error in seen.error.exceptions)


async def test_missing_job_is_a_failed_tail(connect: Connect) -> None:
    """A named job that is not there is one `TailFailed` at once; the others go on, and nothing is raised."""
    async with fake() as gitlab, connect(gitlab) as api:
        job = pipeline(gitlab).add_job("good", status="running")
        job.script_trace(log("good"), every=10, pushes=3)
        seen = await watch(api, [JobRef("group/app", 99), ref_of(job)])
        assert (seen.finished(), seen.error) == ({job.id: "success"}, None)
        failed = seen.events[0]
        assert isinstance(failed, TailFailed)
        assert (failed.ref, failed.cursor) == (JobRef("group/app", 99), None)
        assert isinstance(failed.error, NotFoundError)
        assert len(seen.of(TailFailed)) == 1


async def test_targets_twice_are_followed_once(connect: Connect) -> None:
    """The same job through job, pipeline and project is one tail; targets may come lazily."""
    async with fake() as gitlab, connect(gitlab) as api:
        job = pipeline(gitlab).add_job("one", status="running")
        job.script_trace(log("one"), every=5, pushes=3)

        async def targets() -> AsyncIterator[str]:
            for text in (
                f"group/app/-/jobs/{job.id}",
                "group/app",
                f"group/app/-/pipelines/{job.pipeline.id}",
            ):
                yield text
                await asyncio.sleep(1)

        seen = await watch(api, targets())
        assert bytes(seen.raw[job.id]) == job.trace
        assert len(seen.of(JobStarted)) == 1


async def test_wrong_target_is_an_error(connect: Connect) -> None:
    """Text that is no target is refused."""
    async with fake() as gitlab, connect(gitlab) as api:
        with pytest.raises(ValueError, match="not a target"):
            await watch(api, "https://")


async def test_slow_consumer_holds_everybody_back(connect: Connect) -> None:
    """Nobody reads on while a consumer does not take lines."""
    async with fake() as gitlab, connect(gitlab) as api:
        pipe = pipeline(gitlab)
        for n in range(5):
            pipe.add_job(f"job{n}", status="success", trace=log("x", 100_000), age=3600)
        async with tail(api, of(pipe)) as events:
            await anext(aiter(events))
            await asyncio.sleep(100)
            assert gitlab.requests.count("*/trace") <= 10


async def test_leaving_ends_every_task(connect: Connect) -> None:
    """Leaving the context in the middle cancels and joins all tasks."""
    async with fake() as gitlab, connect(gitlab) as api:
        pipe = pipeline(gitlab)
        for n in range(5):
            pipe.add_job(f"job{n}", status="running", trace=b"x\n")
        async with tail(api, of(pipe)) as events:
            for _ in range(6):
                await anext(events)
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("asyncjobs")]
        with pytest.raises(ClosedError):
            await anext(events)


async def test_unstable_server(connect: Connect) -> None:
    """Listings and logs that fail now and then lose nothing."""
    async with fake() as gitlab, connect(gitlab) as api:
        pipe = pipeline(gitlab)
        jobs = [pipe.add_job(f"job{n}", status="running") for n in range(5)]
        for job in jobs:
            job.script_trace(log(job.name, 500), every=20, pushes=10)
        for fault in ("502", "reset_midbody", "empty_200", "429"):
            gitlab.faults.add(fault, times=15, where="*/trace", every_nth=7)
        gitlab.faults.add("500", times=10, where="*/pipelines/*/jobs", every_nth=3)
        seen = await watch(api, of(pipe))
        assert {job.id: bytes(seen.raw[job.id]) for job in jobs} == {job.id: job.trace for job in jobs}
        assert not seen.of(TailFailed)
