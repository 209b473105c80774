"""Streams that nobody reads: they hold back nobody else, and lose and double nothing when reading goes on."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import AsyncExitStack

import pytest

from asyncjobs import Client, JobRef, Limits, LogLine
from asyncjobs.testing import FakeGitLab, FakeJob
from tests.support.clients import open_client

kinds = pytest.mark.parametrize("kind", ["window", "range", "whole"])
LOG = b"".join(b"%06d %s\n" % (n, hashlib.sha256(b"%d" % n).hexdigest().encode()) for n in range(60_000))
"""4 MB: more than a connection's buffers take."""


def add_jobs(gitlab: FakeGitLab, count: int) -> list[JobRef]:
    """Jobs that are over, with a long log each."""
    pipeline = gitlab.add_project("group/app").add_pipeline("main")
    jobs: list[FakeJob] = [
        pipeline.add_job(f"job{n}", status="success", trace=LOG, age=3600) for n in range(count)
    ]
    return [JobRef("group/app", job.id) for job in jobs]


async def client_of(stack: AsyncExitStack, gitlab: FakeGitLab, tails: int) -> Client:
    """A client with so many slots for traces."""
    limits = Limits(tails=tails)
    return await stack.enter_async_context(open_client(gitlab.url, private_token=gitlab.token, limits=limits))


@kinds
async def test_unread_streams_leave_room_for_others(kind: str) -> None:
    """More open streams than slots, and only the last is read: it gets its whole log in a minute."""
    async with AsyncExitStack() as stack:
        gitlab = await stack.enter_async_context(FakeGitLab(trace=kind))  # type: ignore[arg-type] # a plain str
        client = await client_of(stack, gitlab, 4)
        refs = add_jobs(gitlab, 6)
        streams = [await stack.enter_async_context(client.follow_trace(ref)) for ref in refs]
        await asyncio.sleep(5)
        async with asyncio.timeout(100):
            data = b"".join([chunk.data async for chunk in streams[-1]])
        assert data == LOG
        await asyncio.sleep(60)
        assert client.statistics().lanes["tail"].in_flight == 0


@kinds
async def test_a_call_beside_a_paused_stream(kind: str) -> None:
    """With a single slot, what else wants a trace or a status waits half a minute at most."""
    async with AsyncExitStack() as stack:
        gitlab = await stack.enter_async_context(FakeGitLab(trace=kind))  # type: ignore[arg-type] # a plain str
        client = await client_of(stack, gitlab, 1)
        (ref,) = add_jobs(gitlab, 1)
        stream = await stack.enter_async_context(client.follow_trace(ref))
        await anext(stream)
        await asyncio.sleep(1)
        async with asyncio.timeout(31):
            assert (await client.read_trace(ref.project, ref.job_id, limit=10)).data == LOG[:10]


@kinds
@pytest.mark.parametrize("rival", [True, False])
async def test_pauses_lose_and_double_nothing(kind: str, rival: bool) -> None:
    """A consumer that pauses for minutes gets every byte once, whether its body was let go or kept."""
    async with AsyncExitStack() as stack:
        gitlab = await stack.enter_async_context(FakeGitLab(trace=kind))  # type: ignore[arg-type] # a plain str
        client = await client_of(stack, gitlab, 1)
        mine, other = add_jobs(gitlab, 2)
        if rival:
            await stack.enter_async_context(client.follow_trace(other))
        data = bytearray()
        async with asyncio.timeout(10_000), client.follow_trace(mine) as stream:
            async for chunk in stream:
                assert chunk.offset == len(data)
                data += chunk.data
                if len(data) // 1_000_000 > (len(data) - len(chunk.data)) // 1_000_000:
                    await asyncio.sleep(200)
            assert not stream.resets
        assert bytes(data) == LOG
        # Four pauses: of a window a part is sent again, of a whole log what was read before, if at all.
        sent = sum(each.sent for each in gitlab.requests.filter(f"*/{mine.job_id}/trace"))
        assert sent < (1.7 if kind == "window" else 4.5 if rival else 3.2) * len(LOG)


@kinds
async def test_a_tail_that_is_not_read(kind: str) -> None:
    """Many big logs in one tail that pauses: meanwhile others are served, afterwards every line comes."""
    async with AsyncExitStack() as stack:
        gitlab = await stack.enter_async_context(FakeGitLab(trace=kind))  # type: ignore[arg-type] # a plain str
        client = await client_of(stack, gitlab, 3)
        refs = add_jobs(gitlab, 5)
        found = {ref.job_id: bytearray() for ref in refs}
        async with asyncio.timeout(10_000), client.tail(refs) as events:
            await anext(events)
            await asyncio.sleep(100)
            async with asyncio.timeout(31):
                await client.read_trace("group/app", refs[0].job_id, limit=10)
            async for event in events:
                if isinstance(event, LogLine):
                    found[event.ref.job_id] += event.raw
        assert all(bytes(data) == LOG for data in found.values())
