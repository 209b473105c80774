"""One trace followed to its end on every kind of server: every byte once, nothing hangs, nothing is cut."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable

import pytest

from asyncjobs._api import Api
from asyncjobs._errors import ForbiddenError, NotFoundError, ServerError
from asyncjobs._models import JobRef, TraceCursor, TraceReset
from asyncjobs._options import TailOptions
from asyncjobs._tail import follow_trace, get_trace, read_trace
from asyncjobs.testing import FakeGitLab, FakeJob
from tests.functional.tail.conftest import Connect

KINDS = ["window", "range", "whole"]
kinds = pytest.mark.parametrize("kind", KINDS)


def fake(kind: str, generation: str = "19.5") -> FakeGitLab:
    """A GitLab that gives logs in one way."""
    return FakeGitLab(generation, trace=kind)  # type: ignore[arg-type] # the parameter is a plain str here


def add_job(gitlab: FakeGitLab, name: str = "test", **options: object) -> FakeJob:
    """A job in a pipeline of its own."""
    return gitlab.add_project(f"group/{name}").add_pipeline("main").add_job(name, **options)  # type: ignore[arg-type]


def ref_of(job: FakeJob) -> JobRef:
    """The client's name of a job."""
    return JobRef(job.project_id, job.id)


def log_of(lines: int) -> bytes:
    """A log with something of everything that can be cut wrongly."""
    return b"".join(
        b"%d \x1b[32mgr\xc3\xbcn\x1b[0m \xe2\x82\xac \0 10%%\r20%%\r\n" % n
        if n % 3
        else b"section_start:1:s%d\r\x1b[0Kline %d\n" % (n, n)
        for n in range(lines)
    )


class Followed:
    """What a tail gave."""

    def __init__(self) -> None:
        self.start = 0
        self.data = bytearray()
        self.resets: list[TraceReset] = []
        self.status = ""
        self.seconds = 0.0
        self.cursor: TraceCursor | None = None


async def follow(
    api: Api,
    job: FakeJob,
    *,
    cursor: TraceCursor | None = None,
    on_chunk: Callable[[int], None] | None = None,
    **options: object,
) -> Followed:
    """Follow to the end, checking that offsets join."""
    got, began = Followed(), api.clock.monotonic()
    got.start = cursor.offset if cursor else 0

    def rewind(offset: int) -> None:
        got.start = min(got.start, offset)
        del got.data[offset - got.start :]

    async with follow_trace(
        api,
        ref_of(job),
        cursor=cursor,
        options=TailOptions(**options),  # type: ignore[arg-type]
    ) as trace:
        async for chunk in trace:
            for reset in trace.resets[len(got.resets) :]:
                rewind(reset.offset)
            got.resets = list(trace.resets)
            assert chunk.offset == got.start + len(got.data)
            got.data += chunk.data
            assert trace.cursor.offset == chunk.end
            if on_chunk:
                on_chunk(chunk.end)
        for reset in trace.resets[len(got.resets) :]:
            rewind(reset.offset)
        got.resets = list(trace.resets)
        assert trace.job is not None
        got.status = trace.job.status
        got.cursor = trace.cursor
    got.seconds = api.clock.monotonic() - began
    return got


@kinds
@pytest.mark.parametrize("every", [3.0, 30.0, 60.0])
async def test_growing_log(connect: Connect, kind: str, every: float) -> None:
    """A log pushed in steps that cut characters and escapes comes out whole, and soon after the end."""
    async with fake(kind) as gitlab, connect(gitlab) as api:
        job = add_job(gitlab)
        job.script_trace(log_of(3000), every=every, pushes=20)
        got = await follow(api, job)
        assert bytes(got.data) == job.trace
        assert got.status == "success"
        assert got.seconds <= 20 * every + 35
        assert got.cursor is not None
        assert got.cursor.crc == zlib.crc32(job.trace)


@kinds
@pytest.mark.parametrize("status", ["success", "failed", "canceled"])
async def test_finished_job_is_read_and_left(connect: Connect, kind: str, status: str) -> None:
    """A job that is over and archived is read once, without settling."""
    async with fake(kind) as gitlab, connect(gitlab) as api:
        job = add_job(gitlab, status=status, trace=log_of(5000), age=3600)
        got = await follow(api, job)
        assert (bytes(got.data), got.status) == (job.trace, status)
        assert got.seconds < 1
        assert gitlab.requests.count("*/trace") == 1


@kinds
@pytest.mark.parametrize("size", [0, 1, 511_999, 512_000, 512_001, 1_300_000])
async def test_sizes_around_a_window(connect: Connect, kind: str, size: int) -> None:
    """Logs as long as a window, a byte less and a byte more."""
    async with fake(kind) as gitlab, connect(gitlab) as api:
        job = add_job(gitlab, status="success", trace=log_of(60_000)[:size], age=3600)
        assert bytes((await follow(api, job)).data) == job.trace


@kinds
@pytest.mark.parametrize(
    ("status", "end"), [("manual", "manual"), ("scheduled", "scheduled"), ("skipped", "skipped")]
)
async def test_jobs_that_never_ran_do_not_hang(connect: Connect, kind: str, status: str, end: str) -> None:
    """Manual, scheduled and skipped jobs are reported as they are."""
    async with fake(kind) as gitlab, connect(gitlab) as api:
        got = await follow(api, add_job(gitlab, status=status))
        assert (bytes(got.data), got.status) == (b"", end)


async def test_waiting_for_a_manual_job(connect: Connect) -> None:
    """A caller who asks for it waits until somebody plays the job."""
    async with fake("window") as gitlab, connect(gitlab) as api:
        job = add_job(gitlab, status="manual")
        asyncio.get_running_loop().call_later(500, job.play)
        job_log = log_of(50)
        asyncio.get_running_loop().call_later(510, lambda: job.script_trace(job_log, every=3, pushes=5))
        got = await follow(api, job, wait_for_start=True)
        assert (bytes(got.data), got.status) == (job_log, "success")


@kinds
async def test_canceling_is_not_the_end(connect: Connect, kind: str) -> None:
    """The runner's last lines after a cancel are read too."""
    async with fake(kind) as gitlab, connect(gitlab) as api:
        job = add_job(gitlab)
        job.script_trace(log_of(300), every=30, pushes=100)
        asyncio.get_running_loop().call_later(100, job.cancel)
        got = await follow(api, job)
        assert got.status == "canceled"
        assert bytes(got.data) == job.trace
        assert bytes(got.data).endswith(b"canceled\x1b[0;m\n")


@kinds
async def test_late_bytes_after_the_end(connect: Connect, kind: str) -> None:
    """Bytes that arrive after the final status, as on old servers, are still delivered."""
    async with fake(kind) as gitlab, connect(gitlab) as api:
        job = add_job(gitlab)
        job.start()
        job.script([(5.0, b"one\n"), (5.0, "failed")])
        loop = asyncio.get_running_loop()
        loop.call_later(13, job.append_trace, b"late\n")
        loop.call_later(16, job.append_trace, b"later\n")
        got = await follow(api, job)
        assert bytes(got.data) == b"one\nlate\nlater\n"


@kinds
@pytest.mark.parametrize("mode", ["same", "repeats", "marker"])
async def test_archiving_on_the_way(connect: Connect, kind: str, mode: str) -> None:
    """A log that is archived while it is read, with the same or another text, ends as the server has it."""
    async with fake(kind) as gitlab, connect(gitlab) as api:
        gitlab.archiving = mode  # type: ignore[assignment]
        job = add_job(gitlab)
        job.script_trace(log_of(20_000), every=10, pushes=5)
        before = await follow(api, job)
        assert bytes(before.data) == job.trace
        await asyncio.sleep(200)
        after = await follow(api, job, cursor=before.cursor)
        assert after.cursor is not None
        assert after.cursor.offset == len(job.trace)
        if mode != "marker" or kind != "window":
            # A marker far from the end cannot be seen in windows: what was delivered stays as it was.
            assert bytes(before.data[: after.start] + after.data) == job.trace


@kinds
async def test_rewritten_past_is_a_reset(connect: Connect, kind: str) -> None:
    """A changed past is announced, and what is delivered after it is the log as it is now."""
    async with fake(kind) as gitlab, connect(gitlab) as api:
        job = add_job(gitlab, status="running", trace=log_of(9000))
        truth = log_of(9000)[:-50] + b"another ending\n"
        loop = asyncio.get_running_loop()
        loop.call_later(20, job.replace_trace, truth)
        loop.call_later(120, job.append_trace, b"more\n")
        loop.call_later(130, job.finish)
        got = await follow(api, job)
        assert [reset.reason for reset in got.resets] == ["rewritten"]
        assert len(truth) - 5000 < got.resets[0].offset
        assert bytes(got.data) == job.trace


@kinds
async def test_erased_while_tailing(connect: Connect, kind: str) -> None:
    """An erased log is a reset, and the tail ends."""
    async with fake(kind) as gitlab, connect(gitlab) as api:
        job = add_job(gitlab, status="running", trace=log_of(100))
        loop = asyncio.get_running_loop()
        loop.call_later(20, job.finish)
        loop.call_later(21, job.erase)
        got = await follow(api, job)
        assert [(reset.reason, reset.offset) for reset in got.resets] == [("erased", 0)]
        assert got.status == "success"


@kinds
async def test_cursor_of_an_erased_log(connect: Connect, kind: str) -> None:
    """A stored cursor whose log is gone gives a reset, not garbage."""
    async with fake(kind) as gitlab, connect(gitlab) as api:
        job = add_job(gitlab, status="success", trace=log_of(100), age=3600)
        cursor = (await follow(api, job)).cursor
        job.erase()
        got = await follow(api, job, cursor=cursor)
        assert [reset.reason for reset in got.resets] == ["erased"]
        assert got.data == b""


FLICKERS = [
    "empty_200",
    "500",
    "503",
    "reset_before",
    "reset_midbody",
    "fin_midbody",
    "cut_gzip",
    "429",
    "stall_midbody",
]


@kinds
@pytest.mark.parametrize("fault", FLICKERS)
async def test_one_bad_answer_changes_nothing(connect: Connect, kind: str, fault: str) -> None:
    """A shorter, empty, cut, stalled or failed answer neither rewinds nor ends a tail."""
    async with fake(kind) as gitlab, connect(gitlab) as api:
        job = add_job(gitlab)
        job.script_trace(log_of(2000), every=20, pushes=10)
        gitlab.faults.add(fault, times=1, where="*/trace", skip=3)
        gitlab.faults.add(fault, times=2, where="*/trace", skip=8)
        got = await follow(api, job)
        assert (bytes(got.data), got.resets, got.status) == (job.trace, [], "success")
        assert any(request.fault for request in gitlab.requests)


@kinds
async def test_status_errors_do_not_end_a_tail(connect: Connect, kind: str) -> None:
    """A GitLab that is down for minutes is waited for."""
    async with fake(kind) as gitlab, connect(gitlab) as api:
        job = add_job(gitlab)
        job.script_trace(log_of(500), every=20, pushes=10)
        loop = asyncio.get_running_loop()
        loop.call_later(
            30, lambda: gitlab.faults.add("502", times=10_000, where=lambda _: loop.time() < back)
        )
        back = loop.time() + 330
        got = await follow(api, job)
        assert bytes(got.data) == job.trace


async def test_forbidden_trace_is_an_error(connect: Connect) -> None:
    """A debug log that may not be read ends the tail after three refusals, as an error."""
    async with fake("window") as gitlab:
        project = gitlab.add_project("group/app", visibility="public", members={})
        job = project.add_pipeline("main").add_job("test", status="running", trace=b"secret", debug=True)
        async with connect(gitlab) as api:
            with pytest.raises(ForbiddenError):
                await follow(api, job)
        assert gitlab.requests.count("*/trace") == 3


async def test_deleted_job_is_an_error(connect: Connect) -> None:
    """A job that is deleted mid-tail ends it with `NotFoundError`, after what was read."""
    async with fake("window") as gitlab, connect(gitlab) as api:
        job = add_job(gitlab, status="running", trace=b"begun\n")
        asyncio.get_running_loop().call_later(30, gitlab.remove_job, job)
        seen: list[int] = []
        with pytest.raises(NotFoundError):
            await follow(api, job, on_chunk=seen.append)
        assert seen == [6]


@kinds
async def test_stopping_anywhere_and_going_on(connect: Connect, kind: str) -> None:
    """A process that stops after any chunk continues from the printed cursor; the bytes join."""
    async with fake(kind) as gitlab:
        job = add_job(gitlab)
        job.script_trace(log_of(4000), every=10, pushes=8)
        data, cursor = bytearray(), None
        for _ in range(40):
            async with connect(gitlab) as api, follow_trace(api, ref_of(job), cursor=cursor) as trace:
                chunk = await anext(aiter(trace), None)
                cursor = str(trace.cursor)
                if chunk is None:
                    break
                data += chunk.data
        assert bytes(data) == job.trace


async def test_slow_consumer_stops_the_reading(connect: Connect) -> None:
    """While nobody takes chunks, no more than a buffer is read."""
    async with fake("window") as gitlab, connect(gitlab) as api:
        job = add_job(gitlab, status="success", trace=log_of(200_000), age=3600)
        async with follow_trace(api, ref_of(job)) as trace:
            chunk = await anext(aiter(trace))
            assert chunk.offset == 0
            await asyncio.sleep(1000)
            assert gitlab.requests.count("*/trace") <= 3


async def test_leaving_early_leaves_nothing(connect: Connect) -> None:
    """Leaving the context ends every task of the tail."""
    async with fake("window") as gitlab, connect(gitlab) as api:
        before = asyncio.all_tasks()
        async with follow_trace(api, ref_of(add_job(gitlab, status="running", trace=b"x\n"))) as trace:
            await anext(aiter(trace))
        left = {task.get_name() for task in asyncio.all_tasks() - before}
        assert not [name for name in left if "asyncjobs" in name]


@kinds
async def test_get_trace(connect: Connect, kind: str) -> None:
    """The whole log as bytes."""
    async with fake(kind) as gitlab, connect(gitlab) as api:
        job = add_job(gitlab, status="success", trace=log_of(30_000), age=3600)
        assert await get_trace(api, job.project_id, job.id) == job.trace


@kinds
@pytest.mark.parametrize("age", [0.0, 3600.0])
@pytest.mark.parametrize(
    ("offset", "limit"),
    [
        (0, None),
        (0, 10),
        (5, 10),
        (700_000, 600_000),
        (1_000_000, None),
        (9_999_999, 5),
        (5, 0),
        (0, 512_001),
    ],
)
async def test_read_trace(connect: Connect, kind: str, age: float, offset: int, limit: int | None) -> None:
    """Any part of a log, whatever the server supports."""
    async with fake(kind) as gitlab, connect(gitlab) as api:
        job = add_job(gitlab, status="success", trace=log_of(50_000), age=age)
        chunk = await read_trace(api, job.project_id, job.id, offset=offset, limit=limit)
        end = None if limit is None else offset + limit
        assert (chunk.offset, chunk.data) == (offset, job.trace[offset:end])


@kinds
async def test_read_trace_of_a_short_repeating_log(connect: Connect, kind: str) -> None:
    """A short whole log is never taken for a window of itself."""
    async with fake(kind) as gitlab, connect(gitlab) as api:
        job = add_job(gitlab, status="success", trace=b"same\n" * 20, age=3600)
        chunk = await read_trace(api, job.project_id, job.id, offset=50, limit=1000)
        assert chunk.data == b"same\n" * 10


async def test_unknown_job_and_dead_server_are_errors(connect: Connect) -> None:
    """A tail whose job was never seen does not poll for ever."""
    async with fake("window") as gitlab, connect(gitlab) as api:
        job = add_job(gitlab)
        gitlab.remove_job(job)
        with pytest.raises(NotFoundError):
            await follow(api, job)
        gitlab.faults.add("503", times=10_000)
        began = api.clock.monotonic()
        with pytest.raises(ServerError):
            await follow(api, job)
        assert api.clock.monotonic() - began < 300


@kinds
async def test_throttled_polls_keep_silent(connect: Connect, kind: str) -> None:
    """A 429 with Retry-After is obeyed by the tail that got it and by the others."""
    async with fake(kind) as gitlab, connect(gitlab) as api:
        jobs = [add_job(gitlab, f"test{n}") for n in range(4)]
        for job in jobs:
            job.script_trace(log_of(400), every=3, pushes=30)
        asyncio.get_running_loop().call_later(
            40, lambda: gitlab.fail_next("429", where="*/trace", retry_after="25")
        )
        got = await asyncio.gather(*(follow(api, job) for job in jobs))
        assert [bytes(each.data) for each in got] == [job.trace for job in jobs]
        (refused,) = gitlab.requests.filter("*/trace", status=429)
        later = [
            request for request in gitlab.requests.filter("*/trace") if request.time > refused.time + 0.01
        ]
        assert later[0].time >= refused.time + 25
