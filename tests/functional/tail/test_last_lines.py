"""The last lines of a log: what becomes of them when the log changes, and servers of two minds."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asyncjobs._api import Api
from asyncjobs._models import JobFinished, JobRef, LogLine, TailEvent, TailFailed, TraceCursor, TraceReset
from asyncjobs._options import TailOptions
from asyncjobs._tail import tail
from asyncjobs.testing import FakeGitLab, FakeJob
from tests.functional.tail.conftest import Connect

kinds = pytest.mark.parametrize("kind", ["window", "range", "whole"])
LOG = b"".join(b"line %06d\n" % number for number in range(10_000))
NEW = b"".join(b"new  %06d\n" % number for number in range(500))


async def last_lines(api: Api, job: FakeJob, lines: int = 2, **options: Any) -> list[TailEvent]:
    """Everything a tail of one job gives."""
    ref = JobRef("group/app", job.id)
    async with (
        asyncio.timeout(100_000),
        tail(api, ref, options=TailOptions(tail_lines=lines, **options)) as stream,
    ):
        return [event async for event in stream]


def running(gitlab: FakeGitLab, trace: bytes = LOG) -> FakeJob:
    """A job that runs and has written something."""
    pipeline = gitlab.add_project("group/app").add_pipeline("main")
    return pipeline.add_job("build", status="running", trace=trace)


def resets(events: list[TailEvent]) -> list[tuple[int, str]]:
    """Where and why delivery began again."""
    return [(event.offset, event.reason) for event in events if isinstance(event, TraceReset)]


def after_reset(events: list[TailEvent]) -> list[LogLine]:
    """The lines that came after the last reset."""
    at = max(number for number, event in enumerate(events) if isinstance(event, TraceReset))
    return [event for event in events[at:] if isinstance(event, LogLine)]


@kinds
@pytest.mark.parametrize("then", [NEW, b""])
async def test_log_that_shrinks_below_the_first_line_given(connect: Connect, kind: str, then: bytes) -> None:
    """A log replaced by a shorter one, or by nothing, is one reset, lines at their places, the end."""
    async with FakeGitLab(trace=kind) as gitlab, connect(gitlab) as api:  # type: ignore[arg-type] # a plain str
        job = running(gitlab)
        asyncio.get_running_loop().call_later(20, job.replace_trace, then)
        asyncio.get_running_loop().call_later(100, job.finish)
        events = await last_lines(api, job)
    ((offset, reason),) = resets(events)
    assert (offset, reason) == (0, "shrunk" if then else "erased")
    lines = after_reset(events)
    assert b"".join(line.raw for line in lines) == then
    assert [line.offset for line in lines] == list(range(0, len(then), 12))
    last = events[-1]
    assert isinstance(last, JobFinished)
    assert TraceCursor.parse(str(last.cursor)) == last.cursor


@kinds
async def test_log_erased_while_its_last_lines_are_followed(connect: Connect, kind: str) -> None:
    """Erasing is one reset, and the tail ends as one of an ended job."""
    async with FakeGitLab(trace=kind) as gitlab, connect(gitlab) as api:  # type: ignore[arg-type] # a plain str
        job = running(gitlab)
        asyncio.get_running_loop().call_later(20, job.finish)
        asyncio.get_running_loop().call_later(21, job.erase)
        events = await last_lines(api, job)
    assert resets(events) == [(0, "erased")]
    assert isinstance(events[-1], JobFinished)
    assert not [event for event in events if isinstance(event, TailFailed)]
