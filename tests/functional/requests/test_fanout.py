"""Many targets as one stream: every job arrives, every failure is told, and memory does not grow."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from typing import Literal

import pytest

from asyncjobs import (
    Client,
    FanOutError,
    GroupRef,
    Job,
    JobRef,
    JobStream,
    Limits,
    NotFoundError,
    PipelineRef,
    ProjectRef,
    ServerError,
)
from asyncjobs.testing import FakeGitLab, RecordedRequest
from tests.support.clients import Connectors, client_tasks, lanes_are_free, open_client
from tests.support.rawserver import RawServer, Received, Wire, http

TROUBLE = ("429", "502", "cut", "reset")


def thousand(gitlab: FakeGitLab, jobs: int = 1_000) -> set[int]:
    """A project of that many jobs."""
    pipeline = gitlab.add_project("group/many").add_pipeline("main")
    return {pipeline.add_job(f"job {n}", status="success", age=600).id for n in range(jobs)}


def is_turn(turn: int, request: RecordedRequest) -> bool:
    """Whether a request is the one that is due for trouble."""
    return request.number == turn


@pytest.mark.parametrize("seed", range(12))
async def test_a_thousand_jobs_through_a_bad_server(gitlab: FakeGitLab, seed: int) -> None:
    """Every third request fails in one of four ways: exactly 1,000 jobs, in 10-11 requests and retries."""
    wanted = thousand(gitlab)
    chance = random.Random(seed)
    names = {
        "429": "429_seconds", "502": "502", "cut": "fin_midbody", "reset": "reset_before",
    }  # fmt: skip
    pending = chance.choices(TROUBLE, k=20)
    for number, trouble in enumerate(pending):
        gitlab.faults.add(names[trouble], times=1, where=partial(is_turn, 3 * (number + 1)))
    async with open_client(gitlab.url, private_token=gitlab.token, chance=random.Random(seed)) as client:
        ids = [job.id async for job in client.iter_project_jobs("group/many")]
        assert len(ids) == 1_000
        assert set(ids) == wanted
        troubled = sum(request.fault is not None for request in gitlab.requests)
        assert troubled >= 4
        assert 10 <= len(gitlab.requests) - troubled <= 11
        assert client.statistics().retries <= troubled
        assert lanes_are_free(client)


async def test_many_kinds_of_targets(gitlab: FakeGitLab, client: Client) -> None:
    """Projects, pipelines, jobs and groups, as values and as GitLab's own texts, in one stream."""
    expected: set[tuple[object, int]] = set()
    for name in ("one", "two"):
        pipeline = gitlab.add_project(f"team/{name}").add_pipeline("main")
        for number in range(120):
            expected.add((f"team/{name}", pipeline.add_job(f"j{number}", status="failed").id))
    lone = gitlab.add_project("other/app").add_pipeline("main")
    job = lone.add_job("single", status="failed")
    listed = {lone.add_job(f"p{number}", status="failed").id for number in range(3)}
    targets: list[object] = [
        GroupRef("team"),
        JobRef("other/app", job.id),
        f"{gitlab.url}/other/app/-/pipelines/{lone.id}",
    ]
    async with client.stream_jobs(targets, scope="failed") as jobs:  # type: ignore[arg-type]  # a list of both
        found = [(ref.project, job.id) async for ref, job in jobs]
    assert expected <= set(found)
    assert {number for project, number in found if project == "other/app"} == {job.id, *listed}
    assert jobs.failures == []


async def test_filters(gitlab: FakeGitLab, client: Client) -> None:
    """Scope, branch and name glob choose the jobs; a branch goes by its pipelines."""
    project = gitlab.add_project("group/filtered")
    for ref in ("main", "feature"):
        pipeline = project.add_pipeline(ref)
        for name in ("test unit", "test all", "build"):
            for status in ("failed", "success"):
                pipeline.add_job(name, status=status)
    async with client.stream_jobs(["group/filtered"], scope="failed", ref="main", name="test *") as jobs:
        found = [(job.ref, job.name, job.status) async for _, job in jobs]
    assert sorted(found) == [("main", "test all", "failed"), ("main", "test unit", "failed")]


async def test_updated_after_avoids_the_limited_listing(gitlab: FakeGitLab, client: Client) -> None:
    """With a moment to look back to, not one request is made to the listing that is limited per user."""
    project = gitlab.add_project("group/since")
    project.add_pipeline("main").add_job("old")
    await asyncio.sleep(7_200.0)
    moment = datetime.fromtimestamp(gitlab.clock.time() - 60.0, UTC)
    new = project.add_pipeline("main").add_job("new")
    async with client.stream_jobs(["group/since"], updated_after=moment) as jobs:
        assert [job.id async for _, job in jobs] == [new.id]
    assert gitlab.requests.count("*/projects/group/since/jobs") == 0


def troubled_world(gitlab: FakeGitLab) -> tuple[list[str], int]:
    """Ten projects of 150 jobs, three of which fail: not found, broken at the start, broken on page two."""
    good = 0
    for number in range(10):
        pipeline = gitlab.add_project(f"group/p{number}").add_pipeline("main")
        for index in range(150):
            pipeline.add_job(f"j{index}")
        good += 150 if number not in {3, 5, 7} else 0
    gitlab.faults.add("404", where="*/group/p3/jobs")
    gitlab.faults.add("500", where="*/group/p5/jobs")
    gitlab.faults.add("500", where=lambda each: "/p7/jobs" in each.path and each.param("cursor") is not None)
    return [f"group/p{number}" for number in range(10)], good


async def drained(stream: JobStream, into: list[Job] | None = None) -> None:
    """Read a stream to its end, keeping what comes."""
    async with stream as jobs:
        async for _, job in jobs:
            if into is not None:
                into.append(job)


async def test_partial_failure_is_raised_after_everything_else(gitlab: FakeGitLab, client: Client) -> None:
    """By default every other target is finished, and then all failures come as one group."""
    targets, good = troubled_world(gitlab)
    found: list[Job] = []
    with pytest.raises(FanOutError, match="3 targets could not be read") as caught:
        await drained(client.stream_jobs(targets), found)
    assert len(found) == good + 100  # the first page of the one that broke on its second
    assert {str(failure.target) for failure in caught.value.failures} == {"group/p3", "group/p5", "group/p7"}
    missing, rest = caught.value.split(NotFoundError)
    assert missing is not None
    assert rest is not None
    assert [len(missing.exceptions), len(rest.exceptions)] == [1, 2]
    assert isinstance(rest, FanOutError)
    assert len(rest.failures) == 2
    assert all(isinstance(each, ServerError) for each in rest.exceptions)


async def test_partial_failure_is_collected(gitlab: FakeGitLab, client: Client) -> None:
    """With "collect" the failures stand beside the result and nothing is raised."""
    targets, good = troubled_world(gitlab)
    async with client.stream_jobs(targets, on_error="collect") as jobs:
        found = [job async for _, job in jobs]
    assert len(found) == good + 100
    assert {str(failure.target): type(failure.error) for failure in jobs.failures} == {
        "group/p3": NotFoundError,
        "group/p5": ServerError,
        "group/p7": ServerError,
    }


async def test_partial_failure_stops(gitlab: FakeGitLab) -> None:
    """With "stop" the first failure cancels the rest: later targets are never asked for."""
    targets, _ = troubled_world(gitlab)
    limits = Limits(in_flight=2)
    async with open_client(gitlab.url, private_token=gitlab.token, limits=limits) as client:
        with pytest.raises(FanOutError) as caught:
            await drained(client.stream_jobs(targets, on_error="stop"))
        assert [str(failure.target) for failure in caught.value.failures] == ["group/p3"]
        assert gitlab.requests.count("*/group/p9/jobs") == 0
        assert lanes_are_free(client)
        assert client_tasks() == []


async def test_a_group_that_fails_is_a_failed_target(gitlab: FakeGitLab, client: Client) -> None:
    """A group that cannot be listed is one failure; the other targets are read."""
    wanted = thousand(gitlab, 50)
    async with client.stream_jobs([GroupRef("nowhere"), "group/many"], on_error="collect") as jobs:
        assert {job.id async for _, job in jobs} == wanted
    assert [str(failure.target) for failure in jobs.failures] == ["groups/nowhere"]


@pytest.mark.parametrize("on_error", ["raise", "collect", "stop"])
async def test_no_target_is_no_job(client: Client, on_error: Literal["raise", "collect", "stop"]) -> None:
    """An empty list of targets ends at once."""
    async with client.stream_jobs([], on_error=on_error) as jobs:
        assert [each async for each in jobs] == []


async def test_what_is_no_target_is_told(gitlab: FakeGitLab, client: Client) -> None:
    """A text that names nothing is a ValueError, not a quiet gap."""
    with pytest.raises(ValueError, match="a target is"):
        await drained(client.stream_jobs(["group/app", "not a target!"]))


class Paged:
    """A server of endless projects: three pages of 100 jobs each, and it counts."""

    def __init__(self, latency: float = 0.01) -> None:
        self.in_flight = 0
        self.most = 0
        self.latency = latency
        self.pages: list[bytes] = []
        for page in range(3):
            jobs = [{"id": 1 + 100 * page + n, "name": f"job {n}", "status": "success"} for n in range(100)]
            link = {} if page == 2 else {"Link": f'<http://x/?cursor={page + 1}>; rel="next"'}
            self.pages.append(http(200, jobs, link))

    async def __call__(self, request: Received, wire: Wire) -> None:
        """Answer one page."""
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        await asyncio.sleep(self.latency)
        self.in_flight -= 1
        cursor = request.target.partition("cursor=")[2]
        await wire.write(self.pages[int(cursor or 0)])


FREE = Limits(in_flight=4, jobs_index_per_minute=None)


async def test_a_slow_consumer_stops_the_fetching() -> None:
    """Whoever does not read is not fetched for: requests stay bounded, however many targets wait."""
    async with RawServer(Paged()) as server, open_client(server.url, limits=FREE) as client:
        async with client.stream_jobs(ProjectRef(n) for n in range(1, 10_001)) as jobs:
            await anext(jobs)
            await asyncio.sleep(10_000.0)
            assert len(server.requests) <= 3 * 4 + 1
            for _ in range(1_000):
                await anext(jobs)
            await asyncio.sleep(10_000.0)
            assert len(server.requests) <= 11 + 3 * 4 + 1
        assert lanes_are_free(client)
        assert client_tasks() == []


async def test_targets_are_taken_lazily() -> None:
    """An endless async source of targets is pulled only as far as it is needed."""
    pulled = 0

    async def endless() -> AsyncIterator[ProjectRef]:
        nonlocal pulled
        while True:
            pulled += 1
            yield ProjectRef(pulled)

    async with RawServer(Paged()) as server, open_client(server.url, limits=FREE) as client:
        async with client.stream_jobs(endless()) as jobs:
            for _ in range(3_000):
                await anext(jobs)
        assert pulled <= 10 + 2 * 4


async def test_a_source_that_fails_ends_the_stream() -> None:
    """An error of the caller's own source comes out as it is."""

    async def source() -> AsyncIterator[ProjectRef]:
        yield ProjectRef(1)
        raise LookupError("no more")

    async with RawServer(Paged()) as server, open_client(server.url, limits=FREE) as client:
        with pytest.raises(LookupError, match="no more"):
            await drained(client.stream_jobs(source()))
        assert lanes_are_free(client)


async def test_pages_of_many_targets_arrive_together() -> None:
    """The bound on requests in flight is used and kept."""
    paged = Paged(latency=1.0)
    limits = Limits(in_flight=8, jobs_index_per_minute=None)
    async with RawServer(paged) as server, open_client(server.url, limits=limits) as client:
        began = asyncio.get_running_loop().time()
        async with client.stream_jobs([ProjectRef(n) for n in range(1, 81)]) as jobs:
            count = 0
            async for _ in jobs:
                count += 1
        assert count == 80 * 300
        assert paged.most == 8
        assert len(server.requests) == 240
        assert asyncio.get_running_loop().time() - began <= 240 / 8 * 1.1


@pytest.mark.parametrize("moment", [0.0, 0.005, 0.02, 0.5])
async def test_leaving_early(connectors: Connectors, moment: float) -> None:
    """Leaving or cancelling a stream at any moment leaves no task, slot or connection."""
    async with (
        RawServer(Paged(latency=0.1)) as server,
        open_client(server.url, limits=FREE, connector_factory=connectors) as client,
    ):

        async def consume() -> None:
            async with client.stream_jobs([ProjectRef(n) for n in range(1, 1_001)]) as jobs:
                async for _ in jobs:
                    await asyncio.sleep(0.001)

        task = asyncio.create_task(consume())
        await asyncio.sleep(moment)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with client.stream_jobs([ProjectRef(1)]) as jobs:
            await anext(jobs)
        await asyncio.sleep(0)
        assert client_tasks() == []
        assert connectors.acquired == 0
        assert lanes_are_free(client)


# -- outages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["502", "reset", "429 without end"])
async def test_a_server_that_is_dead_for_an_hour(way: str) -> None:
    """While it is down, what reaches it is what was wanted and a few more; counted on the server."""
    down = True

    async def script(_: Received, wire: Wire) -> None:
        if not down:
            await wire.write(http(200, {"id": 1, "name": "a", "status": "x"}))
        elif way == "reset":
            wire.reset()
        elif way == "502":
            await wire.write(http(502, b"<html>down</html>"))
        else:
            await wire.write(http(429, b"Retry later"))

    async with RawServer(script) as server, open_client(server.url) as client:
        began = asyncio.get_running_loop().time()
        wanted = 0
        while asyncio.get_running_loop().time() - began < 3_600.0:
            results = await asyncio.gather(
                *(client.get_job(3, number) for number in range(1, 51)), return_exceptions=True
            )
            assert all(isinstance(result, Exception) for result in results)
            wanted += len(results)
            await asyncio.sleep(60.0)
        assert len(server.requests) == client.statistics().requests
        # The retry budget holds 20 retries of failures, or 200 of plain refusals, and nothing refills it.
        assert len(server.requests) <= wanted + (200 if way == "429 without end" else 20)
        down = False
        assert (await client.get_job(3, 1)).id == 1


async def test_a_short_outage_is_bridged() -> None:
    """A second of 502 is not noticed by whoever asks a few things."""
    began = asyncio.get_running_loop().time()

    async def script(_: Received, wire: Wire) -> None:
        down = asyncio.get_running_loop().time() < began + 1.0
        await wire.write(http(502, b"") if down else http(200, {"id": 1, "name": "a", "status": "x"}))

    async with RawServer(script) as server, open_client(server.url) as client:
        for number in range(1, 6):
            assert (await client.get_job(3, number)).id == 1
        assert len(server.requests) <= 10


async def test_targets_of_a_pipeline_ref(gitlab: FakeGitLab, client: Client) -> None:
    """A pipeline reference by number gives its jobs with references by that number."""
    pipeline = gitlab.projects[10].pipelines[0]
    job = pipeline.add_job("a")
    async with client.stream_jobs([PipelineRef(10, pipeline.id)]) as jobs:
        assert [ref async for ref, _ in jobs] == [JobRef(10, job.id)]
