"""Cancelling a call at every stage of its life, and lanes that do not get into each other's way."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from asyncjobs import Client, ClosedError, JobRef, Limits
from tests.support.clients import Connectors, client_tasks, lanes_are_free, open_client, read_archive, until
from tests.support.rawserver import RawServer, Received, Wire, http

Start = Callable[[Client], Awaitable[object]]
JOB = {"id": 8, "name": "test", "status": "success"}


def now() -> float:
    """Virtual seconds."""
    return asyncio.get_running_loop().time()


class Slow:
    """A server whose answers wait at a chosen place until `go`."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.before = True
        self.status = 200
        self.headers: dict[str, str] = {}

    async def __call__(self, _: Received, wire: Wire) -> None:
        """Answer one request, in two halves."""
        if self.before and self.status == 200:
            await self.go.wait()
        data = http(self.status, JOB if self.status == 200 else b"Retry later", self.headers)
        await wire.write(data[:-10])
        if self.status == 200:
            await self.go.wait()
        await wire.write(data[-10:])


@asynccontextmanager
async def scene(
    connectors: Connectors, limits: Limits | None = None
) -> AsyncIterator[tuple[Slow, RawServer, Client]]:
    """A slow server and a client of it."""
    slow = Slow()
    async with (
        RawServer(slow) as server,
        open_client(server.url, limits=limits or Limits(), connector_factory=connectors) as client,
    ):
        yield slow, server, client


async def cancelled(task: asyncio.Task[object]) -> None:
    """Cancel, and see that it comes out as just that."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def check_clean(client: Client, connectors: Connectors) -> None:
    """No slot, connection, waiter or task is left of what was cancelled."""
    assert lanes_are_free(client)
    assert connectors.acquired == 0
    assert client_tasks() == []
    for gate in client._api.exchange.budget._gates.values():
        assert (gate.in_flight, gate.on_the_wire) == (0, 0)


def call(client: Client) -> asyncio.Task[object]:
    """A read under way."""
    return asyncio.create_task(client.get_job(3, 8))


async def test_waiting_for_a_slot(connectors: Connectors) -> None:
    """Cancelled in the queue for a slot: the queue goes on without it, and it was never sent."""
    async with scene(connectors, Limits(in_flight=1)) as (slow, server, client):
        first, second, third = call(client), call(client), call(client)
        await until(lambda: len(server.requests) == 1)
        assert client.statistics().lanes["control"].waiting == 2
        await cancelled(second)
        slow.go.set()
        await asyncio.gather(first, third)
        assert len(server.requests) == 2
        await check_clean(client, connectors)


async def test_waiting_in_the_gate(connectors: Connectors) -> None:
    """Cancelled at a closed gate: whoever else waits is still let through."""
    async with scene(connectors) as (slow, server, client):
        slow.status, slow.headers = 429, {"Retry-After": "60"}
        first = call(client)
        await until(lambda: not client.statistics().endpoints["other"].gate_open)
        second, third = call(client), call(client)
        await asyncio.sleep(1.0)
        await cancelled(second)
        await cancelled(first)
        slow.status, slow.headers = 200, {}
        slow.go.set()
        await third
        assert len(server.requests) == 2
        await check_clean(client, connectors)


async def test_the_probe_itself(connectors: Connectors) -> None:
    """A cancelled probe hands its part to the next in the queue; the gate does not stay shut."""
    async with scene(connectors) as (slow, server, client):
        slow.status, slow.headers = 429, {"Retry-After": "10"}
        first = call(client)
        await until(lambda: not client.statistics().endpoints["other"].gate_open)
        await cancelled(first)
        slow.status, slow.headers = 200, {}
        second, third = call(client), call(client)
        await asyncio.sleep(15.0)
        assert len(server.requests) == 2
        await cancelled(second)
        slow.go.set()
        await third
        assert client.statistics().endpoints["other"].gate_open
        await check_clean(client, connectors)


async def test_all_who_wait_are_cancelled(connectors: Connectors) -> None:
    """When nobody waits any more, no timer of the gate stays behind."""
    async with scene(connectors) as (slow, _, client):
        slow.status, slow.headers = 429, {"Retry-After": "60"}
        tasks = [call(client) for _ in range(5)]
        await until(lambda: not client.statistics().endpoints["other"].gate_open)
        await asyncio.sleep(1.0)
        for task in tasks:
            await cancelled(task)
        await asyncio.sleep(0)
        await check_clean(client, connectors)


async def test_connecting(connectors: Connectors, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelled while the connection is being made."""
    waiting = asyncio.Event()

    async def never(*_: object, **__: object) -> None:
        waiting.set()
        await asyncio.Event().wait()

    async with scene(connectors) as (_, server, client):
        with monkeypatch.context() as patch:
            patch.setattr(asyncio.get_running_loop(), "sock_connect", never)
            task = call(client)
            await waiting.wait()
            await cancelled(task)
        assert server.connections == 0
        await check_clean(client, connectors)


async def test_waiting_for_headers(connectors: Connectors) -> None:
    """Cancelled before the first byte of an answer: the connection is closed, not reused."""
    async with scene(connectors) as (slow, server, client):
        task = call(client)
        await until(lambda: len(server.requests) == 1)
        await cancelled(task)
        await check_clean(client, connectors)
        await until(lambda: server.open_connections == 0)
        slow.go.set()
        assert (await client.get_job(3, 8)).id == 8
        assert server.connections == 2


async def test_inside_the_body(connectors: Connectors) -> None:
    """Cancelled while a body arrives: likewise."""
    async with scene(connectors) as (slow, server, client):
        slow.before = False
        task = call(client)
        await until(lambda: len(server.requests) == 1)
        await asyncio.sleep(1.0)
        await cancelled(task)
        await check_clean(client, connectors)
        await until(lambda: server.open_connections == 0)


async def test_in_backoff(connectors: Connectors) -> None:
    """Cancelled between two attempts: there is no further one."""
    async with scene(connectors) as (slow, server, client):
        slow.status = 502
        task = call(client)
        await until(lambda: len(server.requests) == 1 and lanes_are_free(client))
        await cancelled(task)
        await asyncio.sleep(100.0)
        assert len(server.requests) == 1
        await check_clean(client, connectors)


async def test_a_streamed_body_that_is_left_early(connectors: Connectors) -> None:
    """Leaving a body's context before its end frees slot and connection at once."""
    async with scene(connectors) as (slow, _, client):
        slow.before = False
        async with client._api.open_artifacts(JobRef(3, 8)) as body:
            async for _piece in body:
                break
        await check_clean(client, connectors)


@pytest.mark.parametrize("seed", range(24))
async def test_cancelled_anywhere(connectors: Connectors, seed: int) -> None:
    """Many calls, cancelled after a random number of turns: nothing is left, all others end."""
    chance = random.Random(seed)

    async def script(_: Received, wire: Wire) -> None:
        await asyncio.sleep(chance.choice([0.0, 0.1]))
        kind = chance.choice(["good", "good", "429", "502", "reset"])
        if kind == "reset":
            wire.reset()
        elif kind == "429":
            await wire.write(http(429, b"Retry later", {"Retry-After": "1"}))
        else:
            await wire.write(http(200, JOB) if kind == "good" else http(502, b""))

    limits = Limits(in_flight=3, downloads=2)
    async with (
        RawServer(script) as server,
        open_client(server.url, limits=limits, connector_factory=connectors) as client,
    ):
        kinds: list[Start] = [
            lambda client: client.get_job(3, 8),
            lambda client: client.retry_job(3, 8),
            lambda client: read_archive(client, JobRef(3, 8)),
        ]
        tasks = [asyncio.ensure_future(chance.choice(kinds)(client)) for _ in range(12)]
        for task in chance.sample(tasks, 8):
            for _ in range(chance.randrange(60)):
                await asyncio.sleep(0)
            if chance.random() < 0.3:
                await asyncio.sleep(chance.random())
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(not isinstance(each, AssertionError | RuntimeError) for each in results)
        await asyncio.sleep(0)
        await check_clean(client, connectors)


# -- lanes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "limits",
    [Limits(), Limits(requests_per_minute=100), Limits(in_flight=1)],
    ids=["default", "100 a minute", "one in flight"],
)
async def test_a_thousand_queued_downloads_do_not_delay_a_control_call(limits: Limits) -> None:
    """get_job is sent at once, while eight archives are on their way and 992 wait for their turn."""
    stop = asyncio.Event()

    async def script(request: Received, wire: Wire) -> None:
        if request.target.endswith("/artifacts"):
            await stop.wait()
        headers = {"RateLimit-Remaining": "50", "RateLimit-Reset": "1767600060"}
        await wire.write(http(200, JOB, headers))

    async with RawServer(script) as server, open_client(server.url, limits=limits) as client:
        downloads = [asyncio.create_task(read_archive(client, JobRef(3, n))) for n in range(1, 1_001)]
        await until(lambda: len(server.requests) == 8)
        began = now()
        for number in range(1, 21):
            assert (await client.get_job(3, number)).id == 8
            assert server.requests[-1].target == f"/api/v4/projects/3/jobs/{number}"
        assert now() == began
        assert len(server.requests) == 28
        bulk = client.statistics().lanes["bulk"]
        assert (bulk.in_flight, bulk.waiting) == (8, 992)
        for download in downloads:
            download.cancel()
        await asyncio.gather(*downloads, return_exceptions=True)
        assert lanes_are_free(client)


async def test_lanes_have_their_own_bounds() -> None:
    """Control calls, tail polls and archives are under way at once up to the bound of each, and not above."""
    most: dict[str, int] = {}
    current: dict[str, int] = {}

    async def script(request: Received, wire: Wire) -> None:
        lane = request.target.rpartition("/")[2]
        current[lane] = current.get(lane, 0) + 1
        most[lane] = max(most.get(lane, 0), current[lane])
        await asyncio.sleep(1.0)
        current[lane] -= 1
        await wire.write(http(200, b"a log, by its type" if lane == "trace" else JOB))

    async def poll(number: int) -> None:
        async with client._api.open_trace(JobRef(3, number)) as body:
            async for _ in body:
                pass

    limits = Limits(in_flight=3, downloads=2, tails=5)
    async with RawServer(script) as server, open_client(server.url, limits=limits) as client:
        await asyncio.gather(
            *(client.get_project(7) for _ in range(12)),
            *(read_archive(client, JobRef(3, 8)) for _ in range(12)),
            *(poll(8) for _ in range(12)),
        )
    assert most == {"7": 3, "artifacts": 2, "trace": 5}


async def test_a_client_is_entered_first_and_once(connectors: Connectors) -> None:
    """Use before entering and entering twice are told, not guessed at."""
    client = Client("http://127.0.0.1:9")
    with pytest.raises(ClosedError, match="async with"):
        await client.get_job(3, 8)
    async with client:
        pass
    with pytest.raises(ClosedError, match="entered once"):
        await client.__aenter__()
