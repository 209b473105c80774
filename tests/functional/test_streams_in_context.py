"""Streams belong to their `async with`: outside of it they say so and never look like an empty result."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from asyncjobs import Client, ClosedError, ProjectRef
from asyncjobs.testing import FakeGitLab


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
