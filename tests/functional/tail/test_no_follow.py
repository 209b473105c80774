"""`follow=False`: what is there now is read once, nothing is waited for, and what goes on is only paused."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from asyncjobs._errors import FanOutError, NotFoundError
from asyncjobs._models import JobFinished, JobRef, JobStarted, PipelineRef, TailFailed, TailPaused, Target
from asyncjobs._options import TailOptions
from asyncjobs._tail import follow_trace
from asyncjobs.testing import FakeGitLab
from tests.functional.tail.conftest import Connect
from tests.functional.tail.test_save import save
from tests.functional.tail.test_tail import fake, kinds, log, of, pipeline, ref_of, watch

NOW = TailOptions(follow=False)


@kinds
@pytest.mark.parametrize("ended_ago", [5.0, 3600.0])
async def test_what_is_there_now(connect: Connect, kind: str, ended_ago: float) -> None:
    """Each job is read to its present end, at once: ended ones are finished, all others only paused."""
    async with fake(kind) as gitlab, connect(gitlab) as api:
        pipe = pipeline(gitlab)
        over = pipe.add_job("over", status="failed", trace=log("over", 60_000), age=ended_ago)
        runs = pipe.add_job("runs", status="running", trace=log("runs", 60_000) + b"half a li")
        silent = pipe.add_job("silent", status="running")
        waits = pipe.add_job("waits", status="pending")
        gate = pipe.add_job("gate", status="manual")
        seen = await watch(api, of(pipe), follow=False)
        paused = {e.ref.job_id: str(e.job.status) for e in seen.events if isinstance(e, TailPaused)}
        assert seen.finished() == {over.id: "failed"}
        assert paused == {runs.id: "running", silent.id: "running", waits.id: "pending", gate.id: "manual"}
        assert {job.id: bytes(seen.raw[job.id]) for job in pipe.jobs} == {j.id: j.trace for j in pipe.jobs}
        assert len(seen.of(JobStarted)) == 5
        assert seen.seconds < 1
        assert gitlab.requests.count("*/jobs/*") == gitlab.requests.count("*/trace")


@kinds
async def test_the_cursor_goes_on_where_it_stopped(connect: Connect, kind: str) -> None:
    """What a paused tail gave and what its cursor leads to are the log, no byte twice and none lost."""
    async with fake(kind) as gitlab, connect(gitlab) as api:
        job = pipeline(gitlab).add_job("runs", status="running", trace=b"one\nhalf")
        seen = await watch(api, ref_of(job), follow=False)
        (paused,) = [event for event in seen.events if isinstance(event, TailPaused)]
        job.append_trace(b" and half\ntwo\n")
        job.finish()
        async with follow_trace(api, ref_of(job), cursor=paused.cursor) as stream:
            rest = b"".join([chunk.data async for chunk in stream])
        assert bytes(seen.raw[job.id]) + rest == job.trace
        assert rest == b" and half\ntwo\n"


async def test_nothing_new_is_looked_for(connect: Connect) -> None:
    """An attempt that was replaced is read itself and leads nowhere; a job named thrice is read once."""
    async with fake() as gitlab, connect(gitlab) as api:
        pipe = pipeline(gitlab)
        old = pipe.add_job("flaky", status="failed", trace=b"old\n", age=3600)
        new = old.retry()
        seen = await watch(api, ref_of(old), follow=False)
        assert seen.finished() == {old.id: "failed"}
        seen = await watch(api, [ref_of(new), of(pipe), "group/app"], follow=False)
        assert seen.names == [f"JobStarted {new.id}", f"TailPaused {new.id}"]


async def test_children_and_last_lines(connect: Connect) -> None:
    """Children are found by the one look, and each log begins with its last lines."""
    async with fake() as gitlab, connect(gitlab) as api:
        parent = pipeline(gitlab)
        child = gitlab.add_project("other/lib").add_pipeline("main")
        parent.add_bridge("trigger", downstream=child)
        for pipe in (parent, child):
            pipe.add_job("work", status="running", trace=b"a\nb\nc\n")
        seen = await watch(api, of(parent), follow=False, children=True, tail_lines=2)
        assert [bytes(raw) for raw in seen.raw.values()] == [b"b\nc\n"] * 2
        assert len(seen.of(TailPaused)) == 2


async def test_what_is_missing_is_told(connect: Connect) -> None:
    """A missing job fails, a missing pipeline is raised at the end, and the rest is read."""
    async with fake() as gitlab, connect(gitlab) as api:
        job = pipeline(gitlab).add_job("runs", status="running", trace=b"x\n")
        targets: list[Target] = [JobRef("group/app", 99), PipelineRef("group/app", 99), ref_of(job)]
        seen = await watch(api, targets, follow=False)
        (failed,) = [event for event in seen.events if isinstance(event, TailFailed)]
        assert isinstance(failed.error, NotFoundError)
        assert isinstance(seen.error, FanOutError)
        assert [failure.target for failure in seen.error.failures] == [PipelineRef("group/app", 99)]
        assert len(seen.of(TailPaused)) == 1


async def test_an_unstable_server(connect: Connect) -> None:
    """Reads that fail are made again; one that goes on failing fails its own job in the end."""
    async with fake() as gitlab, connect(gitlab) as api:
        pipe = pipeline(gitlab)
        job = pipe.add_job("runs", status="running", trace=log("runs", 500))
        for fault in ("502", "reset_midbody", "429"):
            gitlab.faults.add(fault, times=2, where="*/trace")
        seen = await watch(api, of(pipe), follow=False)
        assert bytes(seen.raw[job.id]) == job.trace
        assert len(seen.of(TailPaused)) == 1
        gitlab.faults.add("502", times=10_000, where="*/trace")
        async with asyncio.timeout(3600):
            seen = await watch(api, of(pipe), follow=False)
        assert len(seen.of(TailFailed)) == 1
        assert not seen.of(TailPaused) + seen.of(JobFinished)


@kinds
async def test_one_trace(connect: Connect, kind: str) -> None:
    """`follow_trace` ends at the present end, and its job says that it goes on."""
    async with fake(kind) as gitlab, connect(gitlab) as api:
        job = pipeline(gitlab).add_job("runs", status="running", trace=log("runs"))
        began = api.clock.monotonic()
        async with follow_trace(api, ref_of(job), options=NOW) as stream:
            assert b"".join([chunk.data async for chunk in stream]) == job.trace
        assert stream.job is not None
        assert str(stream.job.status) == "running"
        assert api.clock.monotonic() - began < 1


async def test_no_half_log_is_saved(connect: Connect, tmp_path: Path) -> None:
    """`save_traces` leaves out jobs that go on instead of waiting for them."""
    async with FakeGitLab() as gitlab, connect(gitlab) as api:
        pipe = pipeline(gitlab)
        pipe.add_job("over", status="success", trace=b"whole\n", age=3600)
        pipe.add_job("runs", status="running", trace=b"half")
        report = await save(api, of(pipe), tmp_path, NOW)
        assert [(each.ref.job_id, each.reason) for each in report.skipped] == [
            (pipe.jobs[1].id, "not_finished")
        ]
        assert [each.path.read_bytes() for each in report.downloaded if each.path] == [b"whole\n"]
