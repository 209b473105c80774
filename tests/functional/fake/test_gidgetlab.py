"""gidgetlab, an independent asyncio client, accepts the fake on every generation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import gidgetlab.aiohttp
import pytest
from gidgetlab.exceptions import BadRequest, GitLabBroken

from asyncjobs.testing import FakeGitLab, FakeJob


@pytest.fixture
async def served(generation: Any) -> AsyncIterator[FakeGitLab]:
    """Each generation with 25 jobs."""
    async with FakeGitLab(generation) as fake:
        pipeline = fake.add_project("group/app").add_pipeline()
        for number in range(25):
            pipeline.add_job(f"job {number}", status="success", trace=f"log of {number}\n")
        yield fake


@pytest.fixture
async def client(served: FakeGitLab) -> AsyncIterator[gidgetlab.aiohttp.GitLabAPI]:
    """Gidgetlab with the default token."""
    async with aiohttp.ClientSession() as session:
        yield gidgetlab.aiohttp.GitLabAPI(session, "tests", url=served.url, access_token=served.token)


def first(served: FakeGitLab) -> FakeJob:
    """The oldest job."""
    return next(iter(served.jobs.values()))


async def test_it_walks_all_pages(served: FakeGitLab, client: gidgetlab.aiohttp.GitLabAPI) -> None:
    """Links are followed to the end, offset and (where known) keyset."""
    base = "/projects/group%2Fapp/jobs"
    for query in ("per_page=10", "per_page=10&pagination=keyset"):
        found = [job["id"] async for job in client.getiter(f"{base}?{query}")]
        assert sorted(found) == sorted(served.jobs)


async def test_it_reads_a_job_and_its_trace(served: FakeGitLab, client: gidgetlab.aiohttp.GitLabAPI) -> None:
    """JSON and text/plain both decode."""
    job = first(served)
    path = f"/projects/{job.project_id}/jobs/{job.id}"
    assert (await client.getitem(path))["status"] == "success"
    assert await client.getitem(f"{path}/trace") == "log of 0\n"


@pytest.mark.parametrize("generation", ["18", "19.5"], indirect=True)
async def test_it_reads_files_by_id_and_by_ref(
    served: FakeGitLab, client: gidgetlab.aiohttp.GitLabAPI
) -> None:
    """A text file out of an archive, both ways."""
    job = first(served)
    job.set_artifacts({"dir/a.txt": "alpha"})
    base = f"/projects/{job.project_id}/jobs"
    assert await client.getitem(f"{base}/{job.id}/artifacts/dir/a.txt") == "alpha"
    assert await client.getitem(f"{base}/artifacts/main/raw/dir/a.txt?job=job%200") == "alpha"


async def test_it_presses_buttons(served: FakeGitLab, client: gidgetlab.aiohttp.GitLabAPI) -> None:
    """cancel, retry, play, erase and keep with the statuses it expects."""
    job = first(served)
    pipeline = job.pipeline
    running, manual = pipeline.add_job("run", status="running"), pipeline.add_job("go", status="manual")
    base = f"/projects/{job.project_id}/jobs"
    assert (await client.post(f"{base}/{running.id}/cancel", data={}))["status"] in ("canceling", "canceled")
    assert (await client.post(f"{base}/{job.id}/retry", data={}))["status"] == "pending"
    assert (await client.post(f"{base}/{manual.id}/play", data={}))["status"] == "pending"
    job.set_artifacts({"a": b"b"}, expire_at=served.clock.time() + 60)
    assert (await client.post(f"{base}/{job.id}/artifacts/keep", data={}))["id"] == job.id
    assert job.artifacts_expire_at is None
    await client.post(f"{base}/{job.id}/erase", data={})
    assert job.trace == b""


async def test_it_understands_refusals(served: FakeGitLab, client: gidgetlab.aiohttp.GitLabAPI) -> None:
    """404, 401 and a 5xx arrive as its own errors."""
    with pytest.raises(BadRequest, match="404 Not found"):
        await client.getitem("/projects/group%2Fapp/jobs/999")
    served.fail_next("503")
    with pytest.raises(GitLabBroken):
        await client.getitem("/user")
    async with aiohttp.ClientSession() as session:
        stranger = gidgetlab.aiohttp.GitLabAPI(session, "tests", url=served.url, access_token="wrong")
        with pytest.raises(BadRequest, match="401 Unauthorized"):
            await stranger.getitem("/projects/group%2Fapp/jobs")


async def test_it_sees_the_throttle(served: FakeGitLab, client: gidgetlab.aiohttp.GitLabAPI) -> None:
    """Its own reading of the RateLimit headers works on ours."""
    served.settings.throttle.limit = 100
    served.settings.throttle.always_headers = True
    await client.getitem("/user")
    assert client.rate_limit is not None
    assert (client.rate_limit.limit, client.rate_limit.remaining) == (100, 99)
