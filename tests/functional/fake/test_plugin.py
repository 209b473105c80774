"""The pytest fixture and the ways to serve: from another thread, at a fixed address, on other clocks."""

from __future__ import annotations

import asyncio
import http.client
import json
import subprocess
import sys
import threading
import time
from urllib.parse import urlsplit

import aiohttp
import pytest

from asyncjobs.testing import FakeGitLab, ManualClock, ScaledClock, serve, serve_in_thread


def fetch(gitlab: FakeGitLab, path: str) -> tuple[int, object]:
    """One GET with the standard library's client."""
    connection = http.client.HTTPConnection(urlsplit(gitlab.url).netloc, timeout=10)
    try:
        connection.request("GET", f"/api/v4{path}", headers={"PRIVATE-TOKEN": gitlab.token})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_the_fixture_serves_a_sync_test(fake_gitlab: FakeGitLab) -> None:
    """The world is built from the test's thread while another one serves it."""
    job = fake_gitlab.add_project("group/app").add_pipeline().add_job("test")
    status, shape = fetch(fake_gitlab, f"/projects/group%2Fapp/jobs/{job.id}")
    assert (status, isinstance(shape, dict) and shape["status"]) == (200, "created")


@pytest.mark.real_time
async def test_the_fixture_serves_an_async_test(fake_gitlab: FakeGitLab) -> None:
    """The test's own loop is a mere client."""
    fake_gitlab.add_project("group/app")
    async with (
        aiohttp.ClientSession(headers={"PRIVATE-TOKEN": fake_gitlab.token}) as session,
        session.get(f"{fake_gitlab.url}/api/v4/projects") as answer,
    ):
        assert [row["path"] for row in await answer.json()] == ["app"]


@pytest.mark.parametrize("fake_gitlab", ["9.1"], indirect=True)
def test_the_fixture_takes_a_generation(fake_gitlab: FakeGitLab) -> None:
    """Indirect parametrization chooses the server."""
    assert fake_gitlab.rules.version.startswith("9.1")


def test_loading_the_plugin_costs_nothing() -> None:
    """Neither the fake nor the client nor aiohttp is imported before the fixture is used."""
    code = "import sys, pytest_asyncjobs; print([m for m in ('asyncjobs', 'aiohttp') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_many_threads_may_change_the_world_while_it_is_read(fake_gitlab: FakeGitLab) -> None:
    """No lost job and no broken answer while eight threads add jobs and the server lists them."""
    pipeline = fake_gitlab.add_project("group/app").add_pipeline()

    def add() -> None:
        for number in range(25):
            job = pipeline.add_job(f"job {number}")
            job.start()
            job.append_trace(b"x")
            job.finish()

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert (
            fetch(fake_gitlab, f"/projects/group%2Fapp/pipelines/{pipeline.id}/jobs?per_page=100")[0] == 200
        )
    assert len(set(fake_gitlab.jobs)) == 200
    assert all(job.status == "success" for job in fake_gitlab.jobs.values())


def test_stalled_answers_do_not_hold_up_the_end() -> None:
    """Leaving cuts what hangs and does not wait for it."""
    with serve_in_thread(FakeGitLab()) as gitlab:
        gitlab.fail_next("stall_midbody")
        connection = http.client.HTTPConnection(urlsplit(gitlab.url).netloc, timeout=10)
        connection.request("GET", "/api/v4/user")
        assert connection.getresponse().status == 401
        begun = time.monotonic()
    assert time.monotonic() - begun < 5
    connection.close()


def test_a_taken_port_is_an_error_in_the_callers_thread(fake_gitlab: FakeGitLab) -> None:
    """The reason arrives where the server was asked for."""
    port = int(fake_gitlab.url.rpartition(":")[2])
    with pytest.raises(OSError, match="address"), serve_in_thread(FakeGitLab(port=port)):
        pass


async def test_serve_fills_a_world_and_takes_a_token() -> None:
    """What the command line's fake server needs: an address, a world, a token of the user's own."""
    async with serve(port=0, generation="18", token="glpat-mine") as gitlab:
        assert len(gitlab.projects) == 4
        async with (
            aiohttp.ClientSession(headers={"PRIVATE-TOKEN": "glpat-mine"}) as session,
            session.get(f"{gitlab.url}/api/v4/projects") as answer,
        ):
            assert len(await answer.json()) == 4


async def test_it_can_be_entered_again_and_must_not_be_entered_twice() -> None:
    """The world survives between two servings; time stands still meanwhile."""
    gitlab = FakeGitLab()
    gitlab.add_project("group/app")
    with pytest.raises(RuntimeError, match="not serving"):
        _ = gitlab.url
    async with gitlab:
        await asyncio.sleep(100)
        with pytest.raises(RuntimeError, match="serving already"):
            await gitlab.start()
    stopped = gitlab.clock.time()
    assert stopped >= gitlab.user.created_at + 100
    await asyncio.sleep(100)
    assert gitlab.clock.time() == stopped
    async with gitlab:
        assert len(gitlab.projects) == 1


async def test_a_manual_clock_moves_jobs_by_hand() -> None:
    """Nothing happens until advance(), then everything that was due."""
    clock = ManualClock()
    async with FakeGitLab(clock=clock) as gitlab:
        job = gitlab.add_project("group/app").add_pipeline().add_job("test")
        job.script_trace(b"abcdef", every=10, pushes=3)
        await asyncio.sleep(1000)
        assert job.trace == b""
        clock.advance(20)
        assert job.trace == b"abcd"
        clock.advance(1000)
        assert (job.trace, job.status, job.log_archived) == (b"abcdef", "success", True)
        assert job.finished_at == clock.time() - 1020 + 31
        sleeper = asyncio.create_task(clock.sleep(5))
        await asyncio.sleep(0)
        clock.advance(5)
        await sleeper


@pytest.mark.real_time
async def test_a_scaled_clock_runs_faster() -> None:
    """A thousand fake seconds pass in a tenth of a real one."""
    clock = ScaledClock(10_000, start=0)
    await clock.sleep(1000)
    assert clock.monotonic() >= 1000
    assert clock.time() >= 1000
    with pytest.raises(ValueError, match="above 0"):
        ScaledClock(0)


async def test_gitlab_may_live_below_a_path() -> None:
    """A relative URL root is part of every address."""
    async with FakeGitLab(relative_url="/gitlab") as gitlab, aiohttp.ClientSession() as session:
        gitlab.add_project("group/app")
        assert gitlab.url.endswith("/gitlab")
        headers = {"PRIVATE-TOKEN": gitlab.token}
        async with session.get(f"{gitlab.url}/api/v4/projects", headers=headers) as answer:
            assert (answer.status, "/gitlab/api/v4/projects?" in answer.headers["Link"]) == (200, True)
        async with session.get(
            f"{gitlab.url.removesuffix('/gitlab')}/api/v4/projects", headers=headers
        ) as answer:
            assert answer.status == 404
