"""Traces saved to files: exact bytes, atomic names, nothing read twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import asyncjobs
from asyncjobs._api import Api
from asyncjobs._errors import ClosedError, ForbiddenError, ManifestError, NotFoundError
from asyncjobs._models import (
    DownloadProgress,
    JobRef,
    PipelineRef,
    ProjectRef,
    SyncEvent,
    SyncFinished,
    SyncPlanned,
    SyncReport,
)
from asyncjobs._options import TailOptions
from asyncjobs._storage import Storage
from asyncjobs._tail import save_traces
from asyncjobs._tail.many import Targets
from asyncjobs.testing import FakeGitLab, FakePipeline
from tests.functional.tail.conftest import Connect

kinds = pytest.mark.parametrize("kind", ["window", "range", "whole"])


def log(name: str, lines: int = 2000) -> bytes:
    """Some log."""
    return b"".join(f"{name} line {n}\n".encode() for n in range(lines))


@asynccontextmanager
async def world(
    connect: Connect, kind: str = "window"
) -> AsyncIterator[tuple[FakeGitLab, FakePipeline, Api]]:
    """A GitLab with one pipeline, and a client."""
    async with FakeGitLab(trace=kind) as gitlab, connect(gitlab) as api:  # type: ignore[arg-type] # a plain str
        yield gitlab, gitlab.add_project("group/app").add_pipeline("main"), api


async def save(api: Api, targets: Targets, dest: Path, options: TailOptions | None = None) -> SyncReport:
    """One run, with a disk of its own."""
    storage = Storage()
    try:
        return await save_traces(api, storage, targets, dest, options=options, fsync=False)
    finally:
        await storage.aclose()


def logs(dest: Path) -> list[Path]:
    """The finished logs below a folder."""
    return sorted(dest.glob("group*/**/*.log"))


@kinds
async def test_logs_become_files(connect: Connect, kind: str, tmp_path: Path) -> None:
    """Finished logs are copied, a running one is followed to its end; what has no log is named."""
    async with world(connect, kind) as (_gitlab, pipe, api):
        done = [pipe.add_job(f"done{n}", status="failed", trace=log(f"done{n}"), age=3600) for n in range(5)]
        running = pipe.add_job("running", status="running")
        running.script_trace(log("running"), every=30, pushes=4)
        manual = pipe.add_job("manual", status="manual")
        pending = pipe.add_job("pending", status="pending")
        skipped = pipe.add_job("skipped", status="skipped")
        empty = pipe.add_job("empty", status="success", age=3600)
        report = await save(api, "group/app", tmp_path)
        found = logs(tmp_path)
        assert len(found) == 6
        for job in (*done, running):
            (path,) = [path for path in found if path.name.startswith(f"{job.id}-")]
            assert path.read_bytes() == job.trace
        reasons = {outcome.ref.job_id: outcome.reason for outcome in report.skipped}
        assert reasons == {
            manual.id: "not_finished",
            pending.id: "not_finished",
            skipped.id: "none",
            empty.id: "none",
        }
        assert report.ok
        assert len(report.downloaded) == 6


async def test_second_run_reads_nothing(connect: Connect, tmp_path: Path) -> None:
    """Logs that are there are not asked for again; a damaged file is."""
    async with world(connect) as (gitlab, pipe, api):
        jobs = [pipe.add_job(f"job{n}", status="success", trace=log(f"job{n}"), age=3600) for n in range(3)]
        target = PipelineRef("group/app", pipe.id)
        first = await save(api, target, tmp_path)
        gitlab.requests.clear()
        second = await save(api, target, tmp_path)
        assert (len(second.unchanged), gitlab.requests.count("*/trace")) == (3, 0)
        assert second.bytes_received == 0
        path = first.downloaded[0].path
        assert path is not None
        path.write_bytes(b"damaged")
        third = await save(api, target, tmp_path)
        assert [outcome.path for outcome in third.downloaded] == [path]
        assert path.read_bytes() in {job.trace for job in jobs}


@kinds
async def test_interrupted_run_is_gone_on_with(connect: Connect, kind: str, tmp_path: Path) -> None:
    """What an interrupted run left is continued by cursor, not read again where the server can."""
    async with world(connect, kind) as (gitlab, pipe, api):
        job = pipe.add_job("long", status="running")
        job.script_trace(log("long", 60_000), every=30, pushes=10)
        run = asyncio.create_task(save(api, "group/app", tmp_path))
        await asyncio.sleep(200)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert not logs(tmp_path)
        gitlab.requests.clear()
        report = await save(api, "group/app", tmp_path)
        (outcome,) = report.downloaded
        assert outcome.path is not None
        assert outcome.path.read_bytes() == job.trace
        if kind == "window":
            assert gitlab.requests.sent("*/trace") < 0.6 * len(job.trace)


@kinds
async def test_changed_past_starts_over(connect: Connect, kind: str, tmp_path: Path) -> None:
    """A log that is rewritten while it is saved ends as it is on the server."""
    async with world(connect, kind) as (_gitlab, pipe, api):
        job = pipe.add_job("odd", status="running", trace=log("odd"))
        loop = asyncio.get_running_loop()
        loop.call_later(20, job.replace_trace, log("new", 1500))
        loop.call_later(150, job.finish)
        report = await save(api, "group/app", tmp_path)
        (outcome,) = report.downloaded
        assert outcome.path is not None
        assert outcome.path.read_bytes() == job.trace


async def test_failures_stand_beside_their_jobs(connect: Connect, tmp_path: Path) -> None:
    """A forbidden log is skipped, a target that is not there is noted, a stranger's file is not replaced."""
    async with FakeGitLab() as gitlab:
        project = gitlab.add_project("group/app", visibility="public", members={})
        pipe = project.add_pipeline("main")
        secret = pipe.add_job("secret", status="success", trace=b"x\n", debug=True, age=3600)
        good = pipe.add_job("good", status="success", trace=log("good"), age=3600)
        taken = pipe.add_job("taken", status="success", trace=b"log\n", age=3600)
        async with connect(gitlab) as api:
            first = await save(api, "group/app", tmp_path / "try")
            path = next(out.path for out in first.downloaded if out.ref.job_id == taken.id)
            assert path is not None
            mine = tmp_path / "real" / path.relative_to(tmp_path / "try")
            mine.parent.mkdir(parents=True)
            mine.write_bytes(b"mine")
            report = await save(api, ["group/app", "group/none"], tmp_path / "real")
        assert [(out.ref.job_id, out.reason) for out in report.skipped] == [(secret.id, "forbidden")]
        assert isinstance(report.skipped[0].error, ForbiddenError)
        assert [out.ref.job_id for out in report.downloaded] == [good.id]
        assert [out.ref.job_id for out in report.failed] == [taken.id]
        assert isinstance(report.failures[0].error, NotFoundError)
        assert mine.read_bytes() == b"mine"
        assert not report.ok


async def test_filters_and_events(connect: Connect, tmp_path: Path) -> None:
    """Only what is asked for is read, and progress is told as values."""
    async with world(connect) as (_gitlab, pipe, api):
        pipe.add_job("unit", stage="test", status="failed", trace=log("unit"), age=3600)
        pipe.add_job("lint", stage="check", status="success", trace=log("lint"), age=3600)
        events: list[SyncEvent] = []
        storage = Storage()
        report = await save_traces(
            api,
            storage,
            "group/app",
            tmp_path,
            options=TailOptions(scope="failed", stage="te*"),
            path_template="{stage}/{job_name}.txt",
            fsync=False,
            on_event=events.append,
        )
        await storage.aclose()
        assert [out.path for out in report.downloaded] == [tmp_path / "test" / "unit.txt"]
        assert isinstance(events[0], SyncPlanned)
        assert isinstance(events[-1], SyncFinished)
        assert any(isinstance(event, DownloadProgress) for event in events)


async def test_one_process_at_a_time(connect: Connect, tmp_path: Path) -> None:
    """A folder in use is refused with a clear message."""
    async with world(connect) as (_gitlab, pipe, api):
        pipe.add_job("running", status="running", trace=b"x\n")
        run = asyncio.create_task(save(api, "group/app", tmp_path))
        await asyncio.sleep(10)
        with pytest.raises(ManifestError, match="is being synced"):
            await save(api, "group/app", tmp_path)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run


async def test_closing_ends_the_wait_for_a_start(connect: Connect, tmp_path: Path) -> None:
    """A run that waits for somebody to play a job ends with its client, though it asks for statuses only."""
    async with world(connect) as (_gitlab, pipe, api):
        job = pipe.add_job("later", status="manual")
        asyncio.get_running_loop().call_later(60, lambda: asyncio.ensure_future(api.exchange.aclose()))
        async with asyncio.timeout(3_600):
            with pytest.raises(ClosedError):
                await save(api, JobRef("group/app", job.id), tmp_path, TailOptions(wait_for_start=True))


async def test_a_status_that_cannot_be_asked_for_ends_the_run(tmp_path: Path) -> None:
    """What a token source raises ends the run even when only the status met it: its log would never end."""

    async def token() -> str:
        if asked:
            raise LookupError("no keyring")
        asked.append("once")
        return gitlab.token

    asked: list[str] = []
    async with FakeGitLab() as gitlab, asyncjobs.Client(gitlab.url, private_token=token) as client:
        job = gitlab.add_project("group/app").add_pipeline("main").add_job("long", status="running")
        job.script_trace(log("long"), every=30, pushes=10)
        asyncio.get_running_loop().call_later(60, lambda: gitlab.fail_next("401", where=f"*/jobs/{job.id}"))
        async with asyncio.timeout(3_600):
            with pytest.raises(LookupError):
                await client.save_traces(f"group/app/-/jobs/{job.id}", tmp_path)


async def test_a_project_that_is_refused_does_not_hide_its_group(connect: Connect, tmp_path: Path) -> None:
    """Where jobs are off for one project of a group, the logs of the others are saved, and it is named."""
    async with FakeGitLab() as gitlab, connect(gitlab) as api:
        gitlab.faults.add("403", where="*/group/p1/jobs")
        for n in range(4):
            project = gitlab.add_project(f"group/p{n}")
            project.add_pipeline().add_job("done", status="success", trace=b"done\n", age=600)
        report = await save(api, "groups/group", tmp_path)
    assert sorted(path.relative_to(tmp_path).parts[0] for path in logs(tmp_path)) == [
        "group-p0",
        "group-p2",
        "group-p3",
    ]
    assert [(each.target, type(each.error)) for each in report.failures] == [
        (ProjectRef("group/p1"), ForbiddenError)
    ]
