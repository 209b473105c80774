"""Closing a client: whatever one of its calls waits for, it ends now, and nobody else's call does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from asyncjobs import (
    Client,
    ClosedError,
    JobRef,
    Limits,
    OutcomeUnknownError,
    RequestError,
    RetryPolicy,
    TailOptions,
)
from asyncjobs._transport import GuardedResolver
from asyncjobs.testing import FakeGitLab
from tests.support.clients import Connectors, client_tasks, lanes_are_free, open_client, read_archive, until
from tests.support.rawserver import RawServer, Received, Script, Wire, always, http

JOB = {"id": 8, "name": "test", "status": "success"}
TOKEN = "glpat-0123456789abcdef"

Ready = Callable[[Client, RawServer], bool]


def now() -> float:
    """Virtual seconds."""
    return asyncio.get_running_loop().time()


def waiting(lane: str) -> Ready:
    """Somebody waits for a slot of this lane."""
    return lambda client, _: client.statistics().lanes[lane].waiting > 0


def at_the_turnstile(count: int) -> Ready:
    """So many wait for the gate or a window."""

    def ready(client: Client, _: RawServer) -> bool:
        budget = client._api.exchange.budget
        return sum(each.waiting for each in budget._turnstiles.values()) == count

    return ready


def sent(count: int) -> Ready:
    """The server has so many requests, and nothing goes on."""
    return lambda _, server: len(server.requests) == count


def refused(count: int) -> Ready:
    """So many requests were answered, and no slot is held."""
    return lambda client, server: len(server.requests) == count and lanes_are_free(client)


async def hang(_: Received, wire: Wire) -> None:
    """Take the request and say nothing."""
    await wire.hang()


async def half(_: Received, wire: Wire) -> None:
    """Send the first half of an answer, which names no type: it may be a log as well."""
    await wire.write(http(200, json.dumps(JOB).encode())[:-10])
    await wire.hang()


async def remaining_zero(request: Received, wire: Wire) -> None:
    """Say that nothing is left for minutes, and be slow with what comes in spite of it."""
    if request.number == 1:
        headers = {"RateLimit-Remaining": "0", "RateLimit-Reset": "1767600200"}
        await wire.write(http(200, JOB, headers))
    else:
        await wire.hang()


REFUSAL = http(429, b"Retry later", {"Retry-After": "250"})


async def never() -> str:
    """A keyring that does not answer."""
    await asyncio.Event().wait()
    return TOKEN


class Renewal:
    """A keyring that gives one token, and then does not answer."""

    def __init__(self) -> None:
        self.asked = 0

    async def __call__(self) -> str:
        """The token, once."""
        self.asked += 1
        return TOKEN if self.asked == 1 else await never()


async def get(client: Client) -> object:
    """A read."""
    return await client.get_job(3, 8)


async def archive(client: Client) -> object:
    """A download."""
    return await read_archive(client, JobRef(3, 8))


async def trace(client: Client) -> object:
    """A log."""
    return await client.get_trace(3, 8)


async def retry(client: Client) -> object:
    """A write."""
    return await client.retry_job(3, 8)


async def walk(client: Client) -> object:
    """A listing."""
    return [job async for job in client.iter_project_jobs(3)]


PLACES: dict[str, tuple[Script, dict[str, Any], Callable[[Client], Awaitable[object]], int, Ready]] = {
    # where: what the server does, options, the calls, how many of them, and when they wait there
    "a slot": (hang, {"limits": Limits(in_flight=1)}, get, 3, waiting("control")),
    "a slot of downloads": (hang, {"limits": Limits(downloads=1)}, archive, 3, waiting("bulk")),
    "a closed gate": (always(REFUSAL), {}, get, 3, refused(3)),
    "a window": (
        always(http(200, [])),
        {"limits": Limits(jobs_index_per_minute=1)},
        walk,
        3,
        at_the_turnstile(2),
    ),
    "all windows": (
        always(http(200, JOB)),
        {"limits": Limits(requests_per_minute=1)},
        get,
        3,
        at_the_turnstile(2),
    ),
    "the server's window": (remaining_zero, {"limits": Limits(in_flight=1)}, get, 3, at_the_turnstile(2)),
    "a backoff": (
        always(http(502, b"oops")),
        {"retry": RetryPolicy(base=200.0, cap=200.0, deadline=None)},
        get,
        1,
        refused(1),
    ),
    "a token": (always(http(200, JOB)), {"private_token": never}, get, 3, sent(0)),
    "a new token": (always(http(401, b"")), {"private_token": Renewal()}, get, 1, refused(1)),
    "an answer": (hang, {}, get, 3, sent(3)),
    "a body": (half, {}, get, 3, sent(3)),
    "a log": (half, {}, trace, 3, sent(3)),
}


@pytest.mark.parametrize("place", PLACES)
async def test_closing_ends_a_wait_for(place: str, connectors: Connectors) -> None:
    """Each read ends in the moment of closing with ClosedError; nothing is sent, held or left running."""
    script, options, call, count, ready = PLACES[place]
    async with (
        RawServer(script) as server,
        open_client(server.url, connector_factory=connectors, **options) as client,
    ):
        tasks = [asyncio.ensure_future(call(client)) for _ in range(count)]
        await until(lambda: ready(client, server))
        for _ in range(20):
            await asyncio.sleep(0)
        pending = [task for task in tasks if not task.done()]
        requests, began = len(server.requests), now()
        budget = client._api.exchange.budget
        assert pending
        await client.aclose()
        await client.aclose()
        results = await asyncio.gather(*pending, return_exceptions=True)
        assert [type(each) for each in results] == [ClosedError] * len(pending)
        assert now() - began < 0.1
        assert all(not task.cancelled() for task in tasks)
        assert (len(server.requests), client_tasks()) == (requests, [])
        assert all(connector.closed for connector in connectors.made)
        assert connectors.acquired == 0
        assert all((each.in_flight, each.waiting) == (0, 0) for each in budget.slots.values())
        assert all(each.waiting == 0 for each in budget._turnstiles.values())
        assert all((gate.in_flight, gate.on_the_wire) == (0, 0) for gate in budget._gates.values())
        with pytest.raises(ClosedError):
            await call(client)
        await until(lambda: server.open_connections == 0)


async def test_those_who_wait_for_a_probe() -> None:
    """The probe's own call and all behind it end together."""

    async def script(request: Received, wire: Wire) -> None:
        await (wire.write(REFUSAL) if request.number == 1 else wire.hang())

    async with RawServer(script) as server, open_client(server.url) as client:
        tasks = [asyncio.create_task(get(client)) for _ in range(3)]
        await asyncio.sleep(280.0)
        assert len(server.requests) >= 2
        began = now()
        await client.aclose()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(each) for each in results] == [ClosedError] * 3
        assert now() == began


class Blackhole(Connectors):
    """Connections that are never made."""

    def __init__(self) -> None:
        super().__init__()
        self.connecting = 0

    def __call__(self, *, resolver: GuardedResolver, force_close: bool) -> aiohttp.BaseConnector:
        """Make one whose connections hang."""
        connector = super().__call__(resolver=resolver, force_close=force_close)
        connector._create_connection = self._connect  # type: ignore[method-assign, assignment]  # aiohttp's own hook
        return connector

    async def _connect(self, *_: object) -> Any:
        self.connecting += 1
        await asyncio.Event().wait()


async def test_a_connection_under_way() -> None:
    """A read that is connecting ends at once, not when connecting was given up."""
    connectors = Blackhole()
    async with open_client("http://127.0.0.1:9", connector_factory=connectors) as client:
        task = asyncio.create_task(get(client))
        await until(lambda: connectors.connecting == 1)
        began = now()
        await client.aclose()
        with pytest.raises(ClosedError):
            await task
        assert now() == began


# -- calls that change something --------------------------------------------------------------------


@pytest.mark.parametrize("script", [hang, half])
async def test_a_write_under_way_is_left_open(script: Script) -> None:
    """What was sent may have happened: closing says so, and not that nothing did."""
    async with RawServer(script) as server, open_client(server.url) as client:
        task = asyncio.create_task(retry(client))
        await until(lambda: len(server.requests) == 1)
        for _ in range(20):
            await asyncio.sleep(0)
        began = now()
        await client.aclose()
        with pytest.raises(OutcomeUnknownError, match="retry"):
            await task
        assert now() - began < 0.1
        assert len(server.requests) == 1


async def test_a_write_that_waits_was_not_sent() -> None:
    """In the queue, or between two refused attempts, a write ends as ClosedError: it did not happen."""
    async with (
        RawServer(always(REFUSAL)) as server,
        open_client(server.url, limits=Limits(in_flight=1)) as client,
    ):
        tasks = [asyncio.create_task(retry(client)) for _ in range(3)]
        await until(lambda: refused(1)(client, server))
        await client.aclose()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(each) for each in results] == [ClosedError] * 3
        assert len(server.requests) == 1


# -- several clients, one budget ----------------------------------------------------------------------


@asynccontextmanager
async def two(server: RawServer, limits: Limits, **options: Any) -> AsyncIterator[tuple[Client, Client]]:
    """Two clients of one budget."""
    async with (
        open_client(server.url, limits=limits, **options) as one,
        open_client(server.url, limits=limits, **options) as other,
    ):
        assert one._api.exchange.budget is other._api.exchange.budget
        yield one, other


async def test_only_the_closed_clients_calls_end_in_the_queue() -> None:
    """Of two clients that share their slots one is closed: the other's calls go on, in their order."""

    async def script(request: Received, wire: Wire) -> None:
        await asyncio.sleep(1.0)
        await wire.write(http(200, JOB))

    async with RawServer(script) as server, two(server, Limits(in_flight=1)) as (one, other):
        tasks = {
            number: asyncio.create_task((one if number % 2 else other).get_job(3, number))
            for number in range(1, 9)
        }
        await until(lambda: len(server.requests) == 1)
        began = now()
        await one.aclose()
        closed = await asyncio.gather(*(tasks[number] for number in (1, 3, 5, 7)), return_exceptions=True)
        assert [type(each) for each in closed] == [ClosedError] * 4
        assert now() == began
        assert [(await tasks[number]).id for number in (2, 4, 6, 8)] == [8] * 4
        asked = [int(request.target.rpartition("/")[2]) for request in server.requests]
        assert asked == [1, 2, 4, 6, 8]
        assert lanes_are_free(other)


async def test_only_the_closed_clients_calls_end_at_the_gate() -> None:
    """A gate closed by the one that is closed holds for the other, which passes when it is time."""

    async def script(request: Received, wire: Wire) -> None:
        await wire.write(REFUSAL if request.number == 1 else http(200, JOB))

    async with RawServer(script) as server, two(server, Limits()) as (one, other):
        first = asyncio.create_task(one.get_job(3, 1))
        await until(lambda: refused(1)(one, server))
        began = now()
        tasks = [asyncio.create_task(client.get_job(3, 2)) for client in (one, other, one, other)]
        await asyncio.sleep(1.0)
        await one.aclose()
        results = await asyncio.gather(first, tasks[0], tasks[2], return_exceptions=True)
        assert [type(each) for each in results] == [ClosedError] * 3
        assert now() - began < 2.0
        assert [(await task).id for task in (tasks[1], tasks[3])] == [8, 8]
        assert now() - began >= 250.0
        assert len(server.requests) == 3


async def test_a_probe_of_the_closed_client_is_followed_by_another() -> None:
    """When the client whose request is the probe is closed, the other client's turn comes."""

    async def script(request: Received, wire: Wire) -> None:
        if request.number == 1:
            await wire.write(REFUSAL)
        elif request.number == 2:
            await wire.hang()
        else:
            await wire.write(http(200, JOB))

    async with RawServer(script) as server, two(server, Limits()) as (one, other):
        probe = asyncio.create_task(one.get_job(3, 1))
        await until(lambda: refused(1)(one, server))
        task = asyncio.create_task(other.get_job(3, 2))
        await asyncio.sleep(280.0)
        assert len(server.requests) == 2
        began = now()
        await one.aclose()
        with pytest.raises(ClosedError):
            await probe
        assert (await task).id == 8
        assert now() - began < 3.0


# -- features -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("many", [False, True])
async def test_tails_do_not_sleep_on(gitlab: FakeGitLab, many: bool) -> None:
    """A tail that waits for its next poll ends when its client is closed, not half a minute later."""
    job = gitlab.projects[10].pipelines[0].add_job("a", status="running")
    job.append_trace(b"one\n")
    options = TailOptions(min_interval=50.0, max_interval=60.0)

    async def follow() -> None:
        ref = JobRef("group/app", job.id)
        if many:
            async with client.tail([ref], options=options) as events:
                async for _ in events:
                    pass
        else:
            async with client.follow_trace(ref, options=options) as trace:
                async for _ in trace:
                    pass

    async with open_client(gitlab.url, private_token=gitlab.token, clock=gitlab.clock) as client:
        task = asyncio.create_task(follow())
        await asyncio.sleep(130.0)
        await until(lambda: lanes_are_free(client))
        began, sent_before = now(), len(gitlab.requests)
        await client.aclose()
        with pytest.raises(ClosedError):
            await task
        assert now() - began < 0.1
        assert len(gitlab.requests) == sent_before
    assert client_tasks() == []


async def test_a_download_under_way(tmp_path: Path) -> None:
    """A download whose body is on its way ends with ClosedError, and its place is free again."""
    job = {**JOB, "artifacts_file": {"filename": "artifacts.zip", "size": 1_000_000}}

    async def script(request: Received, wire: Wire) -> None:
        if request.target.endswith("/artifacts"):
            await wire.write(http(200, b"PK\3\4" + bytes(999_996))[:300_000])
            await wire.hang()
        await wire.write(http(200, job))

    async with RawServer(script) as server, open_client(server.url) as client:
        task = asyncio.create_task(client.download_artifacts(3, 8, tmp_path / "a.zip"))
        await until(lambda: client.statistics().received_bytes > 250_000)
        await client.aclose()
        with pytest.raises(ClosedError):
            await asyncio.wait_for(task, 5.0)
        assert not (tmp_path / "a.zip").exists()
        assert client_tasks() == []


# -- closing itself -----------------------------------------------------------------------------------


async def test_a_cancelled_close_closes_everything(connectors: Connectors) -> None:
    """Cancelling aclose ends the waiting for it; no connection of any lane stays open."""
    async with RawServer(half) as server:
        client = await Client(server.url, connector_factory=connectors).__aenter__()
        tasks = [asyncio.create_task(get(client)), asyncio.create_task(archive(client))]
        await until(lambda: len(server.requests) == 2)
        closing = asyncio.create_task(client.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([closing])
        assert len(connectors.made) == 2
        assert all(connector.closed for connector in connectors.made)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(each, ClosedError | RequestError) for each in results)
        await until(lambda: server.open_connections == 0)


async def test_a_call_that_is_cancelled_while_its_client_is_closed() -> None:
    """Both in one turn of the loop: the cancellation is what its task hears."""
    async with RawServer(always(REFUSAL)) as server, open_client(server.url) as client:
        task = asyncio.create_task(get(client))
        await until(lambda: refused(1)(client, server))
        client._api.exchange._lifetime.end()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
