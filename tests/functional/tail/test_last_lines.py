"""The last lines of a log: what becomes of them when the log changes, and servers of two minds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from asyncjobs._api import Api
from asyncjobs._models import JobFinished, JobRef, LogLine, TailEvent, TailFailed, TraceCursor, TraceReset
from asyncjobs._options import TailOptions
from asyncjobs._tail import tail
from asyncjobs.testing import FakeGitLab, FakeJob
from tests.functional.tail.conftest import Connect
from tests.support.clients import open_client
from tests.support.rawserver import RawServer, Received, Wire, http

kinds = pytest.mark.parametrize("kind", ["window", "range", "whole"])
LOG = b"".join(b"line %06d\n" % number for number in range(10_000))
BIG = b"".join(b"line %06d\n" % number for number in range(60_000))
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


@kinds
async def test_cursor_of_last_lines_goes_on(connect: Connect, kind: str) -> None:
    """Wherever the last lines begin, the cursor at their end is one that can be written down and read."""
    async with FakeGitLab(trace=kind) as gitlab, connect(gitlab) as api:  # type: ignore[arg-type] # a plain str
        job = running(gitlab)
        for lines in (0, 1, 3, 6):
            last = (await last_lines(api, job, lines, follow=False))[-1]
            cursor = last.cursor  # type: ignore[union-attr] # the paused tail's
            assert cursor is not None
            assert TraceCursor.parse(str(cursor)) == cursor
            assert cursor.offset == len(LOG)


@pytest.mark.parametrize("lines", [0, 3, 2000])
@pytest.mark.parametrize(
    "upgraded", [lambda number: number % 2 == 1, lambda number: number == 1, lambda _: False]
)
async def test_nodes_of_two_minds(lines: int, upgraded: Callable[[int], bool]) -> None:
    """Where only some nodes know windows, the last lines are the last lines, after a few requests."""
    traces = 0

    async def script(received: Received, wire: Wire) -> None:
        nonlocal traces
        target = urlsplit(received.target)
        if not target.path.endswith("/trace"):
            record = {"id": 8, "name": "build", "status": "success", "stage": "test"}
            await wire.write(http(200, record))
            return
        traces += 1
        query = {name: int(value) for name, (value,) in parse_qs(target.query).items()}
        body = BIG
        if upgraded(traces) and "byte_offset" in query:
            body = BIG[query["byte_offset"] :][: query["byte_limit"]]
        await wire.write(http(200, body, {"Content-Type": "text/plain"}))

    async with RawServer(script) as server, open_client(server.url) as client:
        options = TailOptions(tail_lines=lines)
        async with asyncio.timeout(1000), client.tail(JobRef("group/app", 8), options=options) as stream:
            events = [event async for event in stream]
    found = b"".join(event.raw for event in events if isinstance(event, LogLine))
    assert found == BIG[len(BIG) - 12 * lines :]
    assert isinstance(events[-1], JobFinished)
    assert traces < 20


async def test_a_byte_at_every_offset() -> None:
    """A server that has something at every place asked for does not keep the search going."""
    traces = 0

    async def script(received: Received, wire: Wire) -> None:
        nonlocal traces
        if "/trace" not in received.target:
            await wire.write(http(200, {"id": 8, "name": "build", "status": "success", "stage": "test"}))
            return
        traces += 1
        far = f"byte_offset={1 << 40}&" in received.target
        await wire.write(http(200, b"" if far else b"x", {"Content-Type": "text/plain"}))

    async with RawServer(script) as server, open_client(server.url) as client:
        options = TailOptions(tail_lines=2)
        async with asyncio.timeout(1000), client.tail(JobRef("group/app", 8), options=options) as stream:
            events = [event async for event in stream]
    assert [event.raw for event in events if isinstance(event, LogLine)] == [b"x"]
    assert traces < 30


@kinds
@pytest.mark.parametrize("status", ["running", "success"])
async def test_an_outage_when_a_job_joins(connect: Connect, kind: str, status: str) -> None:
    """The place of the last lines is looked for as patiently as logs are polled: an outage ends no tail."""
    async with FakeGitLab(trace=kind) as gitlab, connect(gitlab) as api:  # type: ignore[arg-type] # a plain str
        job = running(gitlab)
        asyncio.get_running_loop().call_later(0 if status == "success" else 300, job.finish)
        gitlab.fail_next("502", where="*/trace", times=10**6)
        asyncio.get_running_loop().call_later(90, gitlab.faults.clear)
        events = await last_lines(api, job)
    assert b"".join(event.raw for event in events if isinstance(event, LogLine)) == LOG[-24:]
    assert isinstance(events[-1], JobFinished)


async def test_a_forbidden_log_is_said_at_once(connect: Connect) -> None:
    """What is no outage is not waited for."""
    async with FakeGitLab() as gitlab, connect(gitlab) as api:
        job = running(gitlab)
        gitlab.faults.add("403", where="*/trace")
        began = api.clock.monotonic()
        events = await last_lines(api, job)
        assert isinstance(events[-1], TailFailed)
        assert api.clock.monotonic() - began < 1


@pytest.mark.parametrize("windows", [True, False])
@pytest.mark.parametrize("lines", [0, 3, 6000])
@pytest.mark.parametrize("cuts", [[0.5], [0.0], [0.9, 1.0, 0.2], [1.0, 0.5], [0.3, 1.0, 0.6]])
async def test_bodies_that_end_with_their_connection(windows: bool, lines: int, cuts: list[float]) -> None:
    """The last lines are the last lines, although some answers to the search for them are cut short."""
    count = 0

    async def script(received: Received, wire: Wire) -> None:
        nonlocal count
        target = urlsplit(received.target)
        if not target.path.endswith("/trace"):
            await wire.write(http(200, {"id": 8, "name": "build", "status": "success", "stage": "test"}))
            return
        query = {name: int(value) for name, (value,) in parse_qs(target.query).items()}
        body = BIG
        if windows and "byte_offset" in query:
            body = BIG[query["byte_offset"] :][: query["byte_limit"]]
        if body:
            body = body[: int(len(body) * (cuts[count] if count < len(cuts) else 1))]
            count += 1
        await wire.write(http(200, body, {"Content-Type": "text/plain"}, framed=False))
        wire.fin()

    async with RawServer(script) as server, open_client(server.url) as client:
        options = TailOptions(tail_lines=lines)
        async with asyncio.timeout(1000), client.tail(JobRef("group/app", 8), options=options) as stream:
            events = [event async for event in stream]
    assert (
        b"".join(event.raw for event in events if isinstance(event, LogLine)) == BIG[len(BIG) - 12 * lines :]
    )
    assert isinstance(events[-1], JobFinished)
