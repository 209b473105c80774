"""Listings of many pages: by number and by cursor, while jobs arrive, behind odd links, and in circles."""

from __future__ import annotations

import pytest

from asyncjobs import BadResponseError, Client, NotFoundError, ResponseError
from asyncjobs.testing import FakeGitLab, FakePipeline
from tests.support.clients import open_client
from tests.support.rawserver import RawServer, Received, Wire, http


def filled(gitlab: FakeGitLab, jobs: int) -> FakePipeline:
    """A pipeline with that many jobs in a project of its own."""
    pipeline = gitlab.add_project("group/many").add_pipeline("main")
    for number in range(jobs):
        pipeline.add_job(f"job {number}", status="success", age=600)
    return pipeline


async def test_keyset_is_used_for_project_jobs(gitlab: FakeGitLab, client: Client) -> None:
    """Project jobs are walked by cursor: no page number is ever sent, every job comes once, in order."""
    filled(gitlab, 250)
    ids = [job.id async for job in client.iter_project_jobs("group/many")]
    assert ids == sorted(ids, reverse=True)
    assert len(ids) == len(set(ids)) == 250
    assert len(gitlab.requests) == 3
    assert all(request.param("page") is None for request in gitlab.requests)
    assert [request.param("cursor") is None for request in gitlab.requests] == [True, False, False]


async def test_pages_by_number_elsewhere(gitlab: FakeGitLab, client: Client) -> None:
    """Pipeline jobs are walked by page, 100 at a time, and the last page is not asked for twice."""
    pipeline = filled(gitlab, 200)
    ids = [job.id async for job in client.iter_pipeline_jobs("group/many", pipeline.id)]
    assert len(ids) == len(set(ids)) == 200
    assert [request.param("page") for request in gitlab.requests] == [None, "2"]


async def test_walks_are_lazy(gitlab: FakeGitLab, client: Client) -> None:
    """No page is asked for before it is needed."""
    filled(gitlab, 250)
    walk = client.iter_project_jobs("group/many")
    assert len(gitlab.requests) == 0
    await anext(walk)
    assert len(gitlab.requests) == 1


@pytest.mark.parametrize("generation", ["9.1", "19.5"])
async def test_jobs_that_arrive_during_a_walk(generation: str) -> None:
    """Jobs inserted between pages shift the pages; every job of the start comes exactly once."""
    async with (
        FakeGitLab(generation) as gitlab,  # type: ignore[arg-type]  # a literal out of a parameter
        open_client(gitlab.url, private_token=gitlab.token) as client,
    ):
        pipeline = filled(gitlab, 450)
        before = {job.id for job in pipeline.jobs}
        ids: list[int] = []
        async for job in client.iter_project_jobs("group/many"):
            ids.append(job.id)
            if len(ids) % 60 == 0 and len(ids) <= 360:
                for number in range(25):
                    pipeline.add_job(f"late {number}")
        assert len(ids) == len(set(ids))
        assert before <= set(ids)


async def test_keyset_refused_falls_back_to_numbers(gitlab: FakeGitLab, client: Client) -> None:
    """A 405 to the wish for keyset is answered by asking for page numbers, and nothing is lost."""
    filled(gitlab, 150)
    gitlab.faults.add("405", where=lambda request: request.param("pagination") == "keyset")
    assert len([job async for job in client.iter_project_jobs("group/many")]) == 150
    assert [request.status for request in gitlab.requests] == [405, 200, 200]


async def test_keyset_refused_half_way_is_an_error(gitlab: FakeGitLab, client: Client) -> None:
    """A 405 after the first page does not begin the listing anew, which would give every job twice."""
    filled(gitlab, 250)
    gitlab.faults.add("405", skip=1)
    walk = client.iter_project_jobs("group/many")
    for _ in range(100):
        await anext(walk)
    with pytest.raises(ResponseError) as caught:
        await anext(walk)
    assert caught.value.status == 405
    assert len(gitlab.requests) == 2


async def test_a_walk_that_breaks_off_raises(gitlab: FakeGitLab, client: Client) -> None:
    """A listing that breaks off in the middle raises; it never looks complete."""
    filled(gitlab, 250)
    gitlab.faults.add("404", skip=1)
    walk = client.iter_project_jobs("group/many")
    for _ in range(100):
        await anext(walk)
    with pytest.raises(NotFoundError):
        await anext(walk)


async def test_a_next_link_to_another_host_is_never_contacted() -> None:
    """Only the position is taken from a next link: the other host hears nothing, the walk goes on."""

    async def other(_: Received, wire: Wire) -> None:
        await wire.write(http(200, []))

    async with RawServer(other) as elsewhere, FakeGitLab(link_host=elsewhere.url) as gitlab:
        pipeline = filled(gitlab, 350)
        async with open_client(gitlab.url, private_token=gitlab.token) as client:
            assert len([job async for job in client.iter_project_jobs("group/many")]) == 350
            assert len([job async for job in client.iter_pipeline_jobs("group/many", pipeline.id)]) == 350
        assert elsewhere.connections == 0


async def test_a_next_link_cannot_change_what_is_asked() -> None:
    """Path and other parameters of a next link are ignored: the same listing is asked, further on."""

    async def script(request: Received, wire: Wire) -> None:
        if request.number == 1:
            link = '</api/v4/projects/9/jobs?page=2&scope[]=failed&private_token=x>; rel="next"'
            await wire.write(http(200, [{"id": 1, "name": "a", "status": "success"}], {"Link": link}))
        else:
            await wire.write(http(200, []))

    async with RawServer(script) as server, open_client(server.url) as client:
        assert len([job async for job in client.iter_pipeline_jobs(3, 4)]) == 1
        assert server.requests[1].target == "/api/v4/projects/3/pipelines/4/jobs?per_page=100&page=2"


async def test_a_listing_that_runs_in_circles_ends(gitlab: FakeGitLab, client: Client) -> None:
    """The same next page twice is an error that says so, after few requests."""
    filled(gitlab, 250)
    pipeline = gitlab.projects[max(gitlab.projects)].pipelines[0]
    gitlab.faults.add("same_next")
    with pytest.raises(BadResponseError):
        async for _ in client.iter_pipeline_jobs("group/many", pipeline.id):
            pass
    assert len(gitlab.requests) <= 3


async def test_two_pages_that_name_each_other() -> None:
    """A circle of two pages is noticed as well."""

    async def script(request: Received, wire: Wire) -> None:
        page = 2 if "page=3" in request.target else 3
        job = {"id": request.number, "name": "a", "status": "success"}
        await wire.write(http(200, [job], {"Link": f'<http://x/?page={page}>; rel="next"'}))

    async with RawServer(script) as server, open_client(server.url) as client:
        with pytest.raises(BadResponseError, match="same next page twice"):
            async for _ in client.iter_pipeline_jobs(3, 4):
                pass
        assert len(server.requests) == 3


async def test_a_next_link_without_a_position() -> None:
    """A next link that cannot be followed raises instead of ending the listing early."""

    async def script(_: Received, wire: Wire) -> None:
        await wire.write(
            http(200, [{"id": 1, "name": "a", "status": "x"}], {"Link": '<http://x/>; rel="next"'})
        )

    async with RawServer(script) as server, open_client(server.url) as client:
        with pytest.raises(BadResponseError, match="neither a page nor a cursor"):
            async for _ in client.iter_pipeline_jobs(3, 4):
                pass


async def test_a_moved_project_is_followed_for_reads(gitlab: FakeGitLab, client: Client) -> None:
    """An old path answers 301 to the number: pages and single jobs are read there, with the token."""
    pipeline = filled(gitlab, 150)
    pipeline.project.old_paths.append("group/before")
    assert len([job async for job in client.iter_project_jobs("group/before")]) == 150
    assert (await client.get_job("group/before", pipeline.jobs[0].id)).id == pipeline.jobs[0].id
    assert gitlab.requests.count(status=301) == 3
