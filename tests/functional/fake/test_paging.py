"""Pagination: headers with empty strings, Links with every parameter, keyset cursors and their refusals."""

from __future__ import annotations

import asyncio
import base64
import json
import re

import aiohttp
import pytest

from asyncjobs.testing import FakeGitLab, FakeProject
from tests.functional.fake.conftest import Caller, caller_of


def links(text: str) -> dict[str, str]:
    """Rel to URL."""
    return {rel: url for url, rel in re.findall(r'<([^>]*)>; rel="(\w+)"', text)}


@pytest.fixture
def jobs(project: FakeProject) -> list[int]:
    """Ids of 25 jobs, oldest first."""
    pipeline = project.add_pipeline()
    return [pipeline.add_job(f"job {number}", status="running").id for number in range(25)]


async def test_offset_pages_have_empty_headers_at_the_ends(
    call: Caller, project: FakeProject, jobs: list[int]
) -> None:
    """What does not exist is an empty string, not an absent header."""
    path = f"/projects/{project.id}/pipelines/{project.pipelines[0].id}/jobs"
    first, second = await call(path), await call(f"{path}?page=2")
    assert [row["id"] for row in first.json() + second.json()] == jobs[::-1]
    names = ("x-page", "x-per-page", "x-next-page", "x-prev-page", "x-total", "x-total-pages")
    assert [first.headers[name] for name in names] == ["1", "20", "2", "", "25", "2"]
    assert [second.headers[name] for name in names] == ["2", "20", "", "1", "25", "2"]
    assert set(links(first.headers["link"])) == {"next", "first", "last"}
    assert set(links(second.headers["link"])) == {"prev", "first", "last"}


async def test_project_jobs_never_send_totals(call: Caller, project: FakeProject, jobs: list[int]) -> None:
    """No X-Total, no X-Total-Pages, no rel=last."""
    got = await call(f"/projects/{project.id}/jobs?per_page=10")
    assert not {"x-total", "x-total-pages"} & set(got.headers)
    assert set(links(got.headers["link"])) == {"next", "first"}


async def test_long_lists_lose_their_totals(
    gitlab: FakeGitLab, call: Caller, project: FakeProject, jobs: list[int]
) -> None:
    """Above the count limit (10,000) totals and rel=last go."""
    gitlab.settings.count_limit = 24
    got = await call(f"/projects/{project.id}/pipelines/{project.pipelines[0].id}/jobs")
    assert "x-total" not in got.headers
    assert "last" not in links(got.headers["link"])


async def test_links_carry_every_parameter_and_the_configured_host(
    gitlab: FakeGitLab, call: Caller, jobs: list[int]
) -> None:
    """Path parameters, arrays and even a query token are echoed, sorted, on the host of the settings."""
    gitlab.settings.link_host = "https://other.example.com"
    query = f"scope[]=running&private_token={gitlab.token}&per_page=5"
    got = await call(f"/projects/group%2Fsub%2Fapp/jobs?{query}", token=None)
    assert links(got.headers["link"])["next"] == (
        "https://other.example.com/api/v4/projects/group%2Fsub%2Fapp/jobs"
        f"?id=group%2Fsub%2Fapp&page=2&per_page=5&private_token={gitlab.token}&scope%5B%5D=running"
    )


async def test_per_page_is_clamped(call: Caller, project: FakeProject, jobs: list[int]) -> None:
    """More than 100 is 100."""
    got = await call(f"/projects/{project.id}/jobs?per_page=5000")
    assert (got.headers["x-per-page"], len(got.json())) == ("100", 25)


async def test_keyset_follows_a_cursor(call: Caller, project: FakeProject, jobs: list[int]) -> None:
    """Only Link, only next, none on the last page; the cursor is base64 of a small object."""
    path = f"/projects/{project.id}/jobs?pagination=keyset&per_page=10"
    found: list[int] = []
    url: str | None = path
    pages = 0
    while url is not None:
        got = await call(url)
        pages += 1
        assert not [name for name in got.headers if name.startswith("x-") and "page" in name]
        found += [row["id"] for row in got.json()]
        following = links(got.headers["link"])["next"] if "link" in got.headers else None
        url = following.partition("/api/v4")[2] if following else None
        if following:
            cursor = re.search(r"cursor=([^&]+)", following)
            assert cursor is not None
            assert json.loads(base64.urlsafe_b64decode(cursor[1].replace("%3D", "="))) == {
                "id": str(found[-1]),
                "_kd": "n",
            }
    assert (found, pages) == (jobs[::-1], 3)


@pytest.mark.parametrize("query", ["pagination=keyset&sort=asc", "pagination=keyset&order_by=name"])
async def test_other_orders_have_no_keyset(call: Caller, project: FakeProject, query: str) -> None:
    """405 with GitLab's sentence."""
    got = await call(f"/projects/{project.id}/jobs?{query}")
    text = "Keyset pagination is not yet available for this type of request"
    assert (got.status, got.json()) == (405, {"error": text})


async def test_projects_page_by_id_bounds(gitlab: FakeGitLab, call: Caller) -> None:
    """The next link of projects carries id_after, and order_by=id is required."""
    for number in range(3):
        gitlab.add_project(f"group/p{number}")
    assert (await call("/projects?pagination=keyset")).status == 405
    got = await call("/projects?pagination=keyset&order_by=id&sort=asc&per_page=2")
    url = links(got.headers["link"])["next"]
    assert "id_after=11" in url
    last = await call(url.partition("/api/v4")[2])
    assert [row["id"] for row in last.json()] == [12]
    assert "link" not in last.headers


async def test_the_offset_limit_is_enforced_when_switched_on(
    gitlab: FakeGitLab, call: Caller, project: FakeProject
) -> None:
    """405 past 50,000 rows, with the class in the text."""
    path = f"/projects/{project.id}/jobs?per_page=100&page=501"
    assert (await call(path)).status == 200
    gitlab.settings.enforce_offset_limit = True
    got = await call(path)
    assert got.status == 405
    assert (
        "maximum allowed offset of 50000 for requests that return objects of type Ci::Build"
        in got.json()["error"]
    )


async def test_pages_shift_when_a_job_arrives(call: Caller, project: FakeProject, jobs: list[int]) -> None:
    """A new job pushes the last one of page one onto page two."""
    path = f"/projects/{project.id}/jobs?per_page=10&page="
    first = [row["id"] for row in (await call(f"{path}1")).json()]
    project.pipelines[0].add_job("new")
    second = [row["id"] for row in (await call(f"{path}2")).json()]
    assert first[-1] == second[0]


async def test_old_servers_list_pipeline_jobs_upwards_and_know_no_keyset() -> None:
    """Before 13.5 ascending; keyset parameters are ignored before they exist."""
    async with FakeGitLab("9.1") as gitlab, aiohttp.ClientSession() as session:
        call = caller_of(gitlab, session)
        pipeline = gitlab.add_project("group/app").add_pipeline()
        ids = [pipeline.add_job(str(number)).id for number in range(3)]
        base = f"/projects/{pipeline.project.id}"
        assert [row["id"] for row in (await call(f"{base}/pipelines/{pipeline.id}/jobs")).json()] == ids
        got = await call(f"{base}/jobs?pagination=keyset")
        assert got.headers["x-total"] == "3"


async def test_group_projects_need_include_subgroups(gitlab: FakeGitLab, call: Caller) -> None:
    """Only direct projects by default."""
    gitlab.add_project("group/one")
    gitlab.add_project("group/sub/two")
    hidden = gitlab.add_project("group/three", members={})
    names = [row["path"] for row in (await call("/groups/group/projects")).json()]
    assert names == ["one"]
    rows = (await call("/groups/group/projects?include_subgroups=true&order_by=id&sort=asc")).json()
    assert [row["path"] for row in rows] == ["one", "two"]
    assert hidden.id not in [row["id"] for row in (await call("/projects")).json()]


async def test_both_limiters_speak_their_own_way(
    gitlab: FakeGitLab, call: Caller, project: FakeProject
) -> None:
    """The endpoint limit answers JSON and the whole interval; the throttle text and what is left of it."""
    gitlab.settings.jobs_index.limit = 1
    path = f"/projects/{project.id}/jobs"
    await asyncio.sleep(20)
    assert (await call(path)).status == 200
    got = await call(path)
    text = "This endpoint has been requested too many times. Try again later."
    assert (got.status, got.json(), got.headers["retry-after"]) == (429, {"message": {"error": text}}, "60")
    assert "ratelimit-limit" not in got.headers
    await asyncio.sleep(41)
    assert (await call(path)).status == 200
    gitlab.settings.throttle.limit, gitlab.settings.throttle.period = 2, 3600
    names = ("ratelimit-name", "ratelimit-limit", "ratelimit-observed", "ratelimit-remaining")
    got = await call("/user")
    assert [got.headers[name] for name in names] == ["throttle_authenticated_api", "1", "1", "1"]
    await call("/user")
    got = await call("/user")
    assert (got.status, got.body, got.headers["content-type"]) == (429, b"Retry later", "text/plain")
    assert [got.headers[name] for name in names] == ["throttle_authenticated_api", "1", "3", "0"]
    assert int(got.headers["retry-after"]) == pytest.approx(3600 - 61, abs=1)
    assert got.headers["ratelimit-reset"] == "1767603600"
    assert got.headers["ratelimit-resettime"] == "Mon, 05 Jan 2026 09:00:00 GMT"


async def test_one_address_shows_throttle_headers_only_when_old(gitlab: FakeGitLab, call: Caller) -> None:
    """Older releases send RateLimit headers with 429 only."""
    gitlab.settings.throttle.limit = 5
    gitlab.settings.throttle.always_headers = False
    assert "ratelimit-limit" not in (await call("/user")).headers
