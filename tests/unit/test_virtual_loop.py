"""The promise of the test loop itself: sleeping costs nothing and real work is waited for."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.virtual_loop import DeadlockError, VirtualLoop


async def test_an_hour_of_sleep_is_free() -> None:
    """Sleeping moves the loop's clock by exactly the time slept, whatever the wall says."""
    loop = asyncio.get_running_loop()
    before, wall = loop.time(), time.perf_counter()
    await asyncio.sleep(3600)
    assert loop.time() - before == pytest.approx(3600)
    assert time.perf_counter() - wall < 60


async def test_threads_hold_time_still() -> None:
    """While an executor job runs, no timer fires early."""
    loop = asyncio.get_running_loop()
    job = asyncio.to_thread(time.perf_counter)
    async with asyncio.timeout(0.001):
        await job
    assert isinstance(loop, VirtualLoop)
    assert loop.running_jobs == 0


async def test_sockets_are_served_before_time_moves() -> None:
    """A timeout of virtual time never beats an answer that is already on its way."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, asyncio.timeout(0.001):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"
        writer.close()


def test_a_deadlock_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that waits for nothing fails instead of hanging."""
    monkeypatch.setattr("tests.virtual_loop._DEADLOCK_SECONDS", 0.01)

    async def forever() -> None:
        await asyncio.Event().wait()

    loop = VirtualLoop()
    waiting = loop.create_task(forever())
    with pytest.raises(DeadlockError):
        loop.run_until_complete(waiting)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(waiting)
    loop.close()
