"""Streams belong to their `async with`: outside of it they say so and never look like an empty result."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from asyncjobs import Client, ClosedError, LogLine, ProjectRef, TailOptions, TraceChunk
from asyncjobs.testing import FakeGitLab, FakePipeline
from tests.support.clients import open_client


@pytest.fixture
async def gitlab() -> AsyncIterator[FakeGitLab]:
    """One finished job."""
    async with FakeGitLab() as gitlab:
        pipeline = gitlab.add_project("group/app").add_pipeline("main")
        pipeline.add_job("test", status="success", trace="hello\n")
        yield gitlab


@pytest.fixture
async def client(gitlab: FakeGitLab) -> AsyncIterator[Client]:
    """A client of that world."""
    async with Client(gitlab.url, private_token=gitlab.token) as client:
        yield client


async def test_jobs_are_read_inside_the_context(client: Client) -> None:
    """Not entered yet, or left already, a stream refuses instead of ending as if there were no jobs."""
    stream = client.stream_jobs(["group/app"])
    with pytest.raises(ClosedError, match="async with"):
        await anext(aiter(stream))
    async with stream:
        pass
    with pytest.raises(ClosedError, match="async with"):
        await anext(aiter(stream))


async def test_a_trace_by_its_text(client: Client, gitlab: FakeGitLab) -> None:
    """The text form of a job is as good as its reference."""
    (job,) = gitlab.jobs.values()
    async with client.follow_trace(f"group/app/-/jobs/{job.id}") as trace:
        assert b"".join([chunk.data async for chunk in trace]) == b"hello\n"


@pytest.mark.parametrize("ref", ["group/app", "group/app/-/pipelines/500", "no target!"])
async def test_a_trace_of_no_job(client: Client, ref: str) -> None:
    """What is no job has no single trace, and that is said before anything is sent."""
    with pytest.raises(ValueError, match="group/app/-/jobs/8"):
        client.follow_trace(ref)


async def test_a_trace_of_another_type(client: Client) -> None:
    """A reference of another kind, or none at all, is refused before anything is sent."""
    with pytest.raises(ValueError, match="is no job"):
        client.follow_trace(ProjectRef("group/app"))  # type: ignore[arg-type] # what a caller may do
    with pytest.raises(TypeError, match="not a target"):
        client.follow_trace(7)  # type: ignore[arg-type] # what a caller may do


Make = Callable[[Client], Any]

streams = pytest.mark.parametrize(
    "make",
    [
        lambda client: client.stream_jobs(["group/busy"]),
        lambda client: client.tail(["group/busy"]),
        lambda client: client.follow_trace("group/busy/-/jobs/1001"),
    ],
    ids=["jobs", "tail", "trace"],
)


@pytest.fixture
def busy(gitlab: FakeGitLab) -> FakePipeline:
    """A project with a job that goes on for five minutes."""
    pipeline = gitlab.add_project("group/busy").add_pipeline("main")
    job = pipeline.add_job("long", status="running")
    assert job.id == 1001
    job.script_trace(b"a line\n" * 100, every=30, pushes=10)
    return pipeline


@streams
async def test_a_stream_is_shared_by_tasks(client: Client, busy: FakePipeline, make: Make) -> None:
    """Each item goes to one of the tasks, none is lost or given twice, and the end is told to all of them."""
    for n in range(250):
        busy.add_job(f"short {n}", status="success", trace=b"done\n")
    seen: list[Any] = []

    async def work(stream: Any) -> None:
        async for item in stream:
            seen.append(item)
            await asyncio.sleep(0.1)

    async with asyncio.timeout(3_600), make(client) as stream:
        await asyncio.gather(*(work(stream) for _ in range(3)))
    if isinstance(seen[0], tuple):
        assert sorted(ref.job_id for ref, _ in seen) == sorted(job.id for job in busy.jobs)
    else:
        pieces = [item for item in seen if isinstance(item, LogLine | TraceChunk)]
        text = [each.raw if isinstance(each, LogLine) else each.data for each in sorted(pieces, key=_offset)]
        assert b"".join(text) == b"a line\n" * 100


def _offset(piece: LogLine | TraceChunk) -> int:
    return piece.offset


@streams
async def test_leaving_is_no_end_for_who_waits(
    client: Client, gitlab: FakeGitLab, busy: FakePipeline, make: Make
) -> None:
    """A task that waits for more when another leaves the context is told so: it has not seen everything."""
    gitlab.fail_next("delay", where="*/jobs", seconds=100)

    async def read(stream: Any) -> None:
        async for _ in stream:
            pass

    async with make(client) as stream:
        reading = asyncio.create_task(read(stream))
        await asyncio.sleep(50)
    with pytest.raises(ClosedError, match="async with"):
        await reading


@streams
async def test_a_stream_is_entered_once(client: Client, busy: FakePipeline, make: Make) -> None:
    """Entering it again, inside or afterwards, is refused: nobody would end the first one's tasks."""
    stream = make(client)
    async with stream:
        with pytest.raises(ClosedError, match="once"):
            await stream.__aenter__()
    with pytest.raises(ClosedError, match="once"):
        await stream.__aenter__()


async def _again_and_again(target: str) -> AsyncIterator[str]:
    """One target for ever, a second apart."""
    while True:
        await asyncio.sleep(1)
        yield target


async def _all_of(stream: Any) -> list[Any]:
    async with stream:
        return [item async for item in stream]


Read = Callable[[Client, Path], Awaitable[Any]]

reads = pytest.mark.parametrize(
    "read",
    [
        lambda client, _: _all_of(client.stream_jobs(_again_and_again("group/busy"))),
        lambda client, _: _all_of(client.tail([f"group/busy/-/pipelines/{n}" for n in (501, 502, 503)])),
        lambda client, _: _all_of(client.follow_trace("group/busy/-/jobs/1001")),
        lambda client, to: client.save_traces(["group/busy"], to, options=TailOptions(wait_for_start=True)),
    ],
    ids=["jobs", "tail", "trace", "save"],
)


@pytest.fixture
def busier(busy: FakePipeline) -> FakePipeline:
    """Two pipelines more, each with a job that runs and one that waits for a person."""
    for _ in range(2):
        pipeline = busy.project.add_pipeline("main")
        pipeline.add_job("long", status="running").append_trace(b"a line\n")
        pipeline.add_job("later", status="manual")
    return busy


@reads
async def test_closing_the_client_is_one_error(
    client: Client, gitlab: FakeGitLab, busier: FakePipeline, tmp_path: Path, read: Read
) -> None:
    """However many calls of a stream wait when the client is closed, its reader gets one plain error."""
    gitlab.faults.add("delay", seconds=20, skip=12)
    asyncio.get_running_loop().call_later(45, lambda: asyncio.ensure_future(client.aclose()))
    async with asyncio.timeout(3_600):
        with pytest.raises(ClosedError):
            await read(client, tmp_path)


class VaultError(Exception):
    """What the caller's own source of tokens may raise."""


@reads
@pytest.mark.parametrize("refusals", [1, 20])
async def test_what_a_token_source_raises(
    gitlab: FakeGitLab, busier: FakePipeline, tmp_path: Path, read: Read, refusals: int
) -> None:
    """It comes out as it is, by however many calls it was met, and nothing waits for ever behind it."""
    asked = 0

    async def token() -> str:
        nonlocal asked
        asked += 1
        await asyncio.sleep(1)
        if asked > 1:
            raise VaultError
        return gitlab.token

    asyncio.get_running_loop().call_later(40, lambda: gitlab.fail_next("401", times=refusals))
    async with asyncio.timeout(3_600), open_client(gitlab.url, private_token=token) as client:
        with pytest.raises(VaultError):
            await read(client, tmp_path)
