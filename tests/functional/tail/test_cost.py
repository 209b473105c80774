"""What a tail costs: bytes, requests, memory and delay, counted at the server on the virtual clock."""

from __future__ import annotations

import asyncio
import random
import tracemalloc

import pytest

from asyncjobs._api import Api
from asyncjobs._models import JobFinished, JobRef, LogLine, PipelineRef
from asyncjobs._options import Limits, TailOptions
from asyncjobs._tail import follow_trace, tail
from asyncjobs.testing import FakeGitLab, FakeJob
from tests.functional.tail.conftest import Connect


def log_of(size: int, seed: int = 1) -> bytes:
    """A log that compresses about as well as a real one does (some five times)."""
    source = random.Random(seed)
    words = [
        bytes(source.choices(b"abcdefghijklmnopqrstuvwxyz/._-", k=source.randint(3, 12))) for _ in range(3000)
    ]
    out = bytearray()
    while len(out) < size:
        out += b"2026-01-01T00:00:00.%06dZ 01O " % source.randrange(1_000_000)
        out += b" ".join(source.choices(words, k=8)) + b"\n"
    return bytes(out[:size])


def naive_bytes(pushes: list[tuple[float, int]], end: float, every: float = 3.0) -> int:
    """Body bytes of "the whole log every three seconds" over the same schedule."""
    total, now = 0, 0.0
    while now <= end:
        total += sum(size for moment, size in pushes if moment <= now)
        now += every
    return total


async def follow(api: Api, job: FakeJob) -> list[tuple[float, int]]:
    """Follow to the end; gives when how many bytes were delivered."""
    async with follow_trace(api, JobRef(job.project_id, job.id)) as trace:
        arrivals = [(api.clock.monotonic(), chunk.end) async for chunk in trace]
    assert arrivals[-1][1] == job.trace_size
    return arrivals


@pytest.mark.parametrize("every", [3.0, 30.0, 60.0])
@pytest.mark.parametrize("size", [200_000, 2_000_000])
async def test_window_server_sends_the_log_once(connect: Connect, every: float, size: int) -> None:
    """Body bytes per log byte are at most 1.05, without help from compression."""
    async with FakeGitLab(trace="window") as gitlab, connect(gitlab) as api:
        gitlab.settings.gzip = False
        job = gitlab.add_project("group/app").add_pipeline("main").add_job("test")
        pushes = int(900 / every)
        job.script_trace(log_of(size), every=every, pushes=pushes)
        await follow(api, job)
        assert gitlab.requests.sent("*/trace") <= 1.05 * size
        assert gitlab.requests.count("*/trace") <= 2.5 * pushes + 40


@pytest.mark.parametrize("gzip", [True, False])
async def test_old_server_sends_a_tenth_of_the_usual(connect: Connect, gzip: bool) -> None:
    """On a server that always sends everything, pushes every 30 s cost a tenth of a read every 3 s."""
    async with FakeGitLab("18", trace="whole") as gitlab, connect(gitlab) as api:
        gitlab.settings.gzip = gzip
        job = gitlab.add_project("group/app").add_pipeline("main").add_job("test")
        size, count = 2_000_000, 40
        job.script_trace(log_of(size), every=30.0, pushes=count)
        began = api.clock.monotonic()
        arrivals = await follow(api, job)
        schedule = [(30.0 * (n + 1), size // count) for n in range(count)]
        cost = naive_bytes(schedule, 30.0 * count + 1)
        sent = gitlab.requests.sent("*/trace")
        # Without compression one read per push is a tenth by itself; the very last read is one more.
        assert sent <= (0.1 if gzip else 0.105) * cost
        assert gitlab.requests.count("*/trace") <= 3 * count
        polls = [request.time for request in gitlab.requests.filter("*/trace")]
        offset = polls[0] - arrivals[0][0] + 0.0
        for n in range(count):
            pushed = began + 30.0 * (n + 1)
            delivered = next(moment for moment, end in arrivals if end >= (n + 1) * (size // count))
            first_poll_after = next(moment for moment in polls if moment >= pushed + offset - 1e-6) - offset
            assert delivered <= first_poll_after + 31.0 if n == 0 else delivered <= pushed + 16.0


async def test_idle_tails_cost_no_bytes(connect: Connect) -> None:
    """While nothing comes, answers have no body on either kind of server."""
    for kind in ("window", "whole"):
        async with FakeGitLab(trace=kind) as gitlab, connect(gitlab) as api:
            job = gitlab.add_project("group/app").add_pipeline("main").add_job("quiet", status="running")
            job.append_trace(log_of(100_000))
            asyncio.get_running_loop().call_later(7200, job.finish)
            await follow(api, job)
            assert gitlab.requests.sent("*/trace") <= 101_000
            assert gitlab.requests.count("*/trace") <= 7200 / 60 + 30


async def test_many_tails_share_the_budget_and_take_turns(connect: Connect) -> None:
    """Two hundred tails in a limit that is too small for them all: nobody starves, nobody exceeds it."""
    async with FakeGitLab() as gitlab, connect(gitlab, limits=Limits(requests_per_minute=300)) as api:
        project = gitlab.add_project("group/app")
        jobs: list[FakeJob] = []
        for _ in range(4):
            pipe = project.add_pipeline("main")
            jobs += [pipe.add_job(f"job{n}", status="running") for n in range(50)]
        for n, job in enumerate(jobs):
            job.script_trace(log_of(4000, n % 7), every=60.0, pushes=5)
        targets = [PipelineRef(project.id, pipe.id) for pipe in project.pipelines]
        got = {job.id: bytearray() for job in jobs}
        last = dict.fromkeys(got, api.clock.monotonic())
        longest = 0.0
        done = 0
        async with tail(api, targets, options=TailOptions(max_open=200)) as events:
            async for event in events:
                now = api.clock.monotonic()
                if isinstance(event, LogLine):
                    got[event.ref.job_id] += event.raw
                    longest = max(longest, now - last[event.ref.job_id])
                    last[event.ref.job_id] = now
                done += isinstance(event, JobFinished)
        assert done == 200
        assert {job.id: bytes(got[job.id]) for job in jobs} == {job.id: job.trace for job in jobs}
        minutes: dict[int, int] = {}
        for request in gitlab.requests:
            minutes[int(request.time // 60)] = minutes.get(int(request.time // 60), 0) + 1
        # Until the client has learned the server's clock, its minutes begin at another second.
        assert sorted(minutes.values())[-2] <= 300
        assert max(minutes.values()) <= 330
        assert longest <= 180


async def test_memory_of_a_tail_is_small_whatever_the_log(connect: Connect) -> None:
    """Fifty open tails, one of them in the middle of a long log, take less than 256 KiB each."""
    async with FakeGitLab() as gitlab, connect(gitlab) as api:
        pipe = gitlab.add_project("group/app").add_pipeline("main")
        for n in range(49):
            pipe.add_job(f"job{n}", status="running", trace=log_of(30_000, n))
        pipe.add_job("big", status="success", trace=log_of(1_000_000) * 6, age=3600)
        taken = most = 0
        async with tail(api, PipelineRef(pipe.project.id, pipe.id)) as events:
            tracemalloc.start(1)
            try:
                async for event in events:
                    if isinstance(event, JobFinished):
                        break
                    if isinstance(event, LogLine):
                        taken += len(event.raw)
                        if event.number % 500 == 0:
                            most = max(most, tracemalloc.get_traced_memory()[0])
            finally:
                tracemalloc.stop()
        # The last lines of the running jobs have no newline yet.
        assert taken >= 49 * 29_900 + 6_000_000
        # The fake lives in this process too and holds the bodies it sends; still it is all below the bound.
        assert 0 < most <= 50 * 256 * 1024
