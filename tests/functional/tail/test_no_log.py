"""Answers with a good status that are no log: never given out, never saved, never the end of a tail."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import Literal

import pytest

from asyncjobs._api import Api
from asyncjobs._errors import BadResponseError
from asyncjobs._models import JobFinished, JobRef, LogLine, TailEvent, TailFailed
from asyncjobs._options import TailOptions
from asyncjobs._storage import Storage
from asyncjobs._tail import follow_trace, get_trace, read_trace, save_traces, tail
from asyncjobs.testing import FakeGitLab
from tests.functional.tail.conftest import Connect

Generation = Literal["9.1", "18", "19.5"]
LOG = b"".join(b"line %d of the log\n" % n for n in range(3000))

generations = pytest.mark.parametrize("generation", ["9.1", "18", "19.5"])
kinds = pytest.mark.parametrize("kind", ["window", "range", "whole"])


def finished(gitlab: FakeGitLab) -> JobRef:
    """A job that is over and archived."""
    job = (
        gitlab.add_project("group/app")
        .add_pipeline("main")
        .add_job("t", status="success", trace=LOG, age=300)
    )
    return JobRef("group/app", job.id)


def saved(folder: Path) -> list[bytes]:
    """Every log below a folder."""
    return [path.read_bytes() for path in folder.rglob("*.log")]


async def events_of(api: Api, ref: JobRef) -> list[TailEvent]:
    """All that a tail says."""
    async with tail(api, ref) as events:
        return [event async for event in events]


@generations
@pytest.mark.parametrize("call", ["get", "read", "read from"])
async def test_reads_refuse_a_page(connect: Connect, generation: Generation, call: str) -> None:
    """A sign-in page is an error that names it and quotes its title; nothing of it is returned."""
    async with FakeGitLab(generation) as gitlab, connect(gitlab) as api:
        ref = finished(gitlab)
        gitlab.fail_next("html_200", where="*/trace")
        start = 7 if call == "read from" else 0
        reading: Awaitable[object]
        if call == "get":
            reading = get_trace(api, ref.project, ref.job_id)
        else:
            reading = read_trace(api, ref.project, ref.job_id, offset=start, limit=99)
        with pytest.raises(BadResponseError, match=r"text/html; it begins .HTML page 'Sign in with SSO'"):
            await reading
        assert await get_trace(api, ref.project, ref.job_id) == LOG


@kinds
@pytest.mark.parametrize("times", [1, 2, 5])
async def test_follow_passes_over_a_page(connect: Connect, kind: str, times: int) -> None:
    """A few pages in place of the log delay it and change nothing."""
    async with FakeGitLab(trace=kind) as gitlab, connect(gitlab) as api:  # type: ignore[arg-type] # a plain str
        ref = finished(gitlab)
        gitlab.fail_next("html_200", where="*/trace", times=times)
        async with follow_trace(api, ref) as trace:
            assert b"".join([chunk.data async for chunk in trace]) == LOG
        assert trace.resets == []


@kinds
async def test_pages_in_the_middle_of_a_running_job(connect: Connect, kind: str) -> None:
    """Pages between the pushes of a runner, for minutes, cost no byte and no reset."""
    async with FakeGitLab(trace=kind) as gitlab, connect(gitlab) as api:  # type: ignore[arg-type] # a plain str
        job = gitlab.add_project("group/app").add_pipeline("main").add_job("t")
        job.script_trace(LOG, every=30, pushes=10)
        async with follow_trace(api, JobRef("group/app", job.id)) as trace:
            got = b""
            async for chunk in trace:
                if not got:
                    gitlab.fail_next("html_200", where="*/trace", times=8)
                got += chunk.data
        assert (got, trace.resets) == (LOG, [])


@generations
async def test_tail_that_only_gets_pages_fails(connect: Connect, generation: Generation) -> None:
    """Not one line of a page is emitted, and the tail does not look finished."""
    async with FakeGitLab(generation) as gitlab, connect(gitlab) as api:
        ref = finished(gitlab)
        gitlab.fail_next("html_200", where="*/trace", times=500)
        events = await events_of(api, ref)
        assert not [event for event in events if isinstance(event, LogLine | JobFinished)]
        failures = [event.error for event in events if isinstance(event, TailFailed)]
        assert [type(error) for error in failures] == [BadResponseError]


@generations
async def test_pages_are_never_saved(connect: Connect, generation: Generation, tmp_path: Path) -> None:
    """A run that only gets pages reports the failure and leaves no log; the next run has the real one."""
    storage = Storage()
    async with FakeGitLab(generation) as gitlab, connect(gitlab) as api:
        ref = finished(gitlab)
        gitlab.fail_next("html_200", where="*/trace", times=500)
        report = await save_traces(api, storage, ref, tmp_path, fsync=False)
        assert [type(outcome.error) for outcome in report.failed] == [BadResponseError]
        assert not report.ok
        assert not saved(tmp_path)
        gitlab.faults.clear()
        report = await save_traces(api, storage, ref, tmp_path, fsync=False)
        assert report.ok
        assert saved(tmp_path) == [LOG]
    await storage.aclose()


async def test_tail_lines_refuse_a_page(connect: Connect) -> None:
    """Looking for the last lines does not look for them in a page."""
    async with FakeGitLab() as gitlab, connect(gitlab) as api:
        ref = finished(gitlab)
        gitlab.fail_next("html_200", where="*/trace", times=500)
        async with tail(api, ref, options=TailOptions(tail_lines=2)) as events:
            seen = [event async for event in events]
        assert not [event for event in seen if isinstance(event, LogLine | JobFinished)]
        assert [type(e.error) for e in seen if isinstance(e, TailFailed)] == [BadResponseError]
