"""Rate limits: what a 429 makes everybody do, whatever its headers; windows; budgets shared by clients."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from email.utils import formatdate

import pytest

from asyncjobs import Client, JobRef, Limits, RateLimitedError, RetryPolicy
from asyncjobs._tail.last_lines import place_of_last_lines
from asyncjobs.testing import FakeGitLab
from tests.support.clients import START_EPOCH, lanes_are_free, open_client, read_archive, until
from tests.support.rawserver import RawServer, Received, Wire, http

JOB = {"id": 8, "name": "test", "status": "success"}
PROJECT = {"id": 3, "name": "app"}


def now() -> float:
    """Virtual seconds."""
    return asyncio.get_running_loop().time()


def epoch() -> float:
    """The server's wall clock."""
    return START_EPOCH + now() - 1_000.0


def date(seconds: float) -> str:
    """An HTTP date that many seconds from now."""
    return formatdate(epoch() + seconds, usegmt=True)


def answer(status: int, body: object, headers: dict[str, str] | None = None) -> bytes:
    """An answer with a Date."""
    return http(status, body, {"Date": date(0), **(headers or {})})


Headers = Callable[[], dict[str, str]]
COMBINATIONS: dict[str, tuple[Headers, float, float]] = {
    # name: headers, least and most seconds until the second request
    "none": (dict, 0.0, 2.0),
    "seconds": (lambda: {"Retry-After": "7"}, 7.0, 8.0),
    "date": (lambda: {"Retry-After": date(30)}, 29.0, 34.0),
    "past date": (lambda: {"Retry-After": date(-3600)}, 0.0, 2.0),
    "negative": (lambda: {"Retry-After": "-5"}, 0.0, 2.0),
    "garbage": (lambda: {"Retry-After": "in a while"}, 0.0, 2.0),
    "reset only": (lambda: {"RateLimit-Reset": str(int(epoch()) + 20)}, 19.0, 23.0),
    "reset time only": (lambda: {"RateLimit-ResetTime": date(20)}, 19.0, 23.0),
    "contradictory": (lambda: {"Retry-After": "5", "RateLimit-Reset": str(int(epoch()) + 60)}, 5.0, 6.0),
    "reset long past": (lambda: {"RateLimit-Reset": "1000"}, 1.0, 3.0),
}
BODIES: dict[str, object] = {
    "text": b"Retry later",
    "json": {"message": {"error": "This endpoint has been requested too many times. Try again later."}},
}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("name", COMBINATIONS)
async def test_how_long_a_429_is_heeded(name: str, body: str) -> None:
    """Every combination of headers gives a wait within its bounds, and then one more request."""
    headers, least, most = COMBINATIONS[name]
    times: list[float] = []

    async def script(request: Received, wire: Wire) -> None:
        times.append(now())
        first = request.number == 1
        await wire.write(answer(429, BODIES[body], headers()) if first else answer(200, JOB))

    async with RawServer(script) as server, open_client(server.url) as client:
        assert (await client.get_job(3, 8)).id == 8
        assert len(times) == 2
        assert least <= times[1] - times[0] <= most
        statistics = client.statistics()
        assert statistics.retries == 1
        assert statistics.endpoints["other"].gate_closings == 1


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("value", ["10000000", "301", "Fri, 31 Dec 9999 23:59:59 GMT"])
async def test_a_wait_that_is_too_long_is_not_begun(value: str, body: str) -> None:
    """More than max_rate_limit_wait raises at once, with the seconds the server asked for and its words."""

    async def script(_: Received, wire: Wire) -> None:
        await wire.write(answer(429, BODIES[body], {"Retry-After": value}))

    async with RawServer(script) as server, open_client(server.url) as client:
        began = now()
        with pytest.raises(RateLimitedError, match=r"Retry later|requested too many times") as caught:
            await client.get_job(3, 8)
        assert caught.value.retry_after is not None
        assert caught.value.retry_after > 300
        assert caught.value.status == 429
        with pytest.raises(RateLimitedError, match="max_rate_limit_wait"):
            await client.get_job(3, 9)
        assert now() - began < 1.0
        assert len(server.requests) == 1


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("seconds", ["290", "300"])
async def test_the_longest_wait_is_still_begun(seconds: str, seed: int) -> None:
    """Up to max_rate_limit_wait is waited, whatever our own spread adds, by who met it and by the next."""
    times: list[float] = []

    async def script(request: Received, wire: Wire) -> None:
        times.append(now())
        refusal = answer(429, b"Retry later", {"Retry-After": seconds})
        await wire.write(refusal if request.number == 1 else answer(200, JOB))

    async with RawServer(script) as server, open_client(server.url, chance=random.Random(seed)) as client:
        first = asyncio.create_task(client.get_job(3, 8))
        await until(lambda: not client.statistics().endpoints["other"].gate_open)
        second = asyncio.create_task(client.get_job(3, 9))
        assert [(await task).id for task in (first, second)] == [8, 8]
    assert float(seconds) <= times[1] - times[0] <= 301.0


async def test_a_window_that_ends_much_later() -> None:
    """Nothing left of a window of an hour: asked again after five minutes, not refused without asking."""
    times: list[float] = []

    async def script(request: Received, wire: Wire) -> None:
        times.append(now())
        left = "0" if request.number == 1 else "100"
        headers = {"RateLimit-Remaining": left, "RateLimit-Reset": str(int(epoch()) + 3_000)}
        await wire.write(answer(200, JOB, headers))

    async with RawServer(script) as server, open_client(server.url) as client:
        await client.get_job(3, 8)
        await client.get_job(3, 8)
    assert 299.0 <= times[1] - times[0] <= 303.0


async def test_one_absurd_header_does_not_shut_the_client_for_ever() -> None:
    """After an hour somebody looks again, although a server once asked for months of silence."""

    async def script(request: Received, wire: Wire) -> None:
        absurd = answer(429, b"Retry later", {"Retry-After": "10000000"})
        await wire.write(absurd if request.number == 1 else answer(200, JOB))

    async with RawServer(script) as server, open_client(server.url) as client:
        with pytest.raises(RateLimitedError):
            await client.get_job(3, 8)
        await asyncio.sleep(3_000.0)
        with pytest.raises(RateLimitedError):
            await client.get_job(3, 8)
        assert len(server.requests) == 1
        await asyncio.sleep(700.0)
        assert (await client.get_job(3, 8)).id == 8


async def test_a_server_that_never_relents() -> None:
    """After five attempts the 429 is the caller's, with the number of attempts in it."""

    async def script(_: Received, wire: Wire) -> None:
        await wire.write(answer(429, b"Retry later", {"Retry-After": "10"}))

    async with RawServer(script) as server, open_client(server.url) as client:
        with pytest.raises(RateLimitedError) as caught:
            await client.get_job(3, 8)
        assert caught.value.attempts == len(server.requests) == 5
        assert lanes_are_free(client)


class Limiter:
    """Answers 429 until a moment, and keeps the time of each request."""

    def __init__(self, *, quiet_until: float, latency: float = 0.5) -> None:
        self.quiet_until = quiet_until
        self.latency = latency
        self.log: list[tuple[float, str, int]] = []
        self.in_flight = 0
        self.most = 0

    async def __call__(self, request: Received, wire: Wire) -> None:
        """Answer one request after a while."""
        arrived = now()
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        try:
            await asyncio.sleep(self.latency)
        finally:
            self.in_flight -= 1
        limited = "/jobs/" in request.target and arrived < self.quiet_until
        self.log.append((arrived, request.target, 429 if limited else 200))
        if limited:
            seconds = str(int(self.quiet_until - arrived))
            await wire.write(answer(429, b"Retry later", {"Retry-After": seconds}))
        else:
            await wire.write(answer(200, JOB if "/jobs/" in request.target else PROJECT))

    def arrivals(self, since: float, until_: float) -> int:
        """How many arrived in between."""
        return sum(since <= arrived < until_ for arrived, target, _ in self.log if "/jobs/" in target)


async def test_one_429_stops_everybody_of_its_class() -> None:
    """While the gate is closed nobody of the class sends; other classes go on; one probe goes first."""
    start = now()
    limiter = Limiter(quiet_until=start + 20.0)
    async with (
        RawServer(limiter) as server,
        open_client(server.url, limits=Limits(in_flight=8)) as client,
    ):
        calls = [asyncio.create_task(client.get_job(3, number)) for number in range(1, 41)]
        await until(lambda: client.statistics().endpoints["other"].gate_closings == 1)
        closed = now()
        sent = len(server.requests)
        assert sent <= 8
        assert (await client.get_project(3)).id == 3
        assert now() - closed < 5.0
        assert not client.statistics().endpoints["other"].gate_open
        jobs = await asyncio.gather(*calls)
        assert len(jobs) == 40
        # Nobody came while silence was asked for.
        assert limiter.arrivals(closed + 0.5, start + 20.0) == 0
        # One probe alone until its answer was here.
        probed = min(arrived for arrived, target, _ in limiter.log if arrived >= start + 20.0)
        assert limiter.arrivals(probed, probed + limiter.latency) == 1
        # Then half of what was under way, one more each second.
        after = probed + limiter.latency
        assert limiter.arrivals(after, after + limiter.latency) <= 4
        assert limiter.arrivals(after, after + 2 * limiter.latency) <= 9
        assert lanes_are_free(client)
        assert client.statistics().endpoints["other"].gate_closings == 1


async def test_a_probe_that_is_refused_closes_the_gate_again() -> None:
    """A second 429, to the probe, costs one request and not one for each who waits."""
    start = now()
    limiter = Limiter(quiet_until=start + 40.0)

    async def script(request: Received, wire: Wire) -> None:
        if now() < start + 40.0:
            limiter.log.append((now(), request.target, 429))
            await wire.write(answer(429, b"Retry later", {"Retry-After": "10"}))
        else:
            await limiter(request, wire)

    async with RawServer(script) as server, open_client(server.url, limits=Limits(in_flight=4)) as client:
        await asyncio.gather(*(client.get_job(3, number) for number in range(1, 21)))
        refused = sum(status == 429 for _, _, status in limiter.log)
        assert refused <= 4 + 4
        assert len(server.requests) == 20 + refused


async def test_waiting_in_the_gate_spends_no_attempt() -> None:
    """Whoever waits at a closed gate still has all attempts afterwards."""
    start = now()
    limiter = Limiter(quiet_until=start + 20.0, latency=0.0)
    async with RawServer(limiter) as server, open_client(server.url, limits=Limits(in_flight=1)) as client:
        await asyncio.gather(*(client.get_job(3, number) for number in range(1, 6)))
        assert client.statistics().retries == 1
        assert len(server.requests) == 6


async def test_patience_at_the_gate() -> None:
    """Those in the queue whose patience is shorter than the closing are told at once."""
    calls = 0

    async def script(_: Received, wire: Wire) -> None:
        nonlocal calls
        calls += 1
        await asyncio.sleep(1.0)
        await wire.write(answer(429, b"Retry later", {"Retry-After": "100"}))

    policy = RetryPolicy(max_rate_limit_wait=50.0)
    async with (
        RawServer(script) as server,
        open_client(server.url, limits=Limits(in_flight=1), retry=policy) as client,
    ):
        began = now()
        results = await asyncio.gather(
            *(client.get_job(3, number) for number in range(1, 21)), return_exceptions=True
        )
        assert all(isinstance(result, RateLimitedError) for result in results)
        assert now() - began < 2.0
        assert calls == len(server.requests) == 1
        assert lanes_are_free(client)


async def test_remaining_zero_on_a_good_answer_waits_for_the_reset() -> None:
    """A 200 that says nothing is left makes the next request wait, although nothing was refused."""
    times: list[float] = []

    async def script(_: Received, wire: Wire) -> None:
        times.append(now())
        last = {"RateLimit-Remaining": "0", "RateLimit-Reset": str(int(epoch()) + 25)}
        await wire.write(answer(200, JOB, last if len(times) == 1 else {}))

    async with RawServer(script) as server, open_client(server.url) as client:
        await client.get_job(3, 8)
        await client.get_job(3, 8)
        assert 24.0 <= times[1] - times[0] <= 29.0
        assert client.statistics().retries == 0


async def test_the_servers_window_is_kept_without_a_single_429() -> None:
    """Remaining and Reset are heeded: 250 requests against 100 a minute are spread over three minutes."""
    async with FakeGitLab(throttle_limit=100) as gitlab:
        job = gitlab.add_project("group/app").add_pipeline().add_job("a")
        async with open_client(gitlab.url, private_token=gitlab.token, clock=gitlab.clock) as client:
            await client.get_job("group/app", job.id)
            await asyncio.gather(*(client.get_job("group/app", job.id) for _ in range(249)))
        assert gitlab.requests.count(status=429) == 0
        assert len(gitlab.requests) == 250
        minutes = {int(request.time // 60) for request in gitlab.requests}
        assert len(minutes) == 3


async def test_a_body_on_its_way_is_in_the_servers_count() -> None:
    """Downloads that were answered are not taken off what is left: a few left are a few more requests."""
    stop = asyncio.Event()

    async def script(request: Received, wire: Wire) -> None:
        left = {"RateLimit-Remaining": "6", "RateLimit-Reset": str(int(epoch()) + 50)}
        if request.target.endswith("/artifacts"):
            await wire.write(answer(200, bytes(1000), left)[:-500])
            await stop.wait()
        await wire.write(answer(200, JOB, left))

    async with RawServer(script) as server, open_client(server.url) as client:
        downloads = [asyncio.create_task(read_archive(client, JobRef(3, n))) for n in range(1, 9)]
        await until(lambda: client.statistics().received_bytes == 8 * 500)
        began = now()
        assert (await client.get_job(3, 8)).id == 8
        assert client.statistics().rate_limit_remaining == 6
        assert (await client.get_job(3, 9)).id == 8
        assert now() == began
        for download in downloads:
            download.cancel()
        await asyncio.gather(*downloads, return_exceptions=True)
        assert lanes_are_free(client)


@pytest.mark.parametrize(("limit", "most"), [(60, 32 + 40 - 60), (100, 0)])
async def test_what_is_forgotten_with_a_window_costs_little(limit: int, most: int) -> None:
    """A burst after a pause is met unprepared: at most what the slots hold goes in vain; nothing fails."""
    async with FakeGitLab(throttle_limit=limit) as gitlab:
        gitlab.settings.latency = 0.2
        job = gitlab.add_project("group/app").add_pipeline().add_job("a")
        async with open_client(gitlab.url, private_token=gitlab.token, clock=gitlab.clock) as client:
            await client.get_job("group/app", job.id)
            await asyncio.sleep(70.0)
            calls = [
                call
                for _ in range(40)
                for call in (
                    client.get_job("group/app", job.id),
                    client.get_project("group/app"),
                    client.get_trace("group/app", job.id),
                )
            ]
            await asyncio.gather(*calls)
        assert gitlab.requests.count(status=429) <= most


async def test_a_throttle_that_is_met_unprepared() -> None:
    """A burst into a throttle loses nothing and costs few refusals."""
    async with FakeGitLab("18", throttle_limit=50) as gitlab:
        gitlab.settings.throttle.always_headers = False
        job = gitlab.add_project("group/app").add_pipeline().add_job("a")
        async with open_client(gitlab.url, private_token=gitlab.token, clock=gitlab.clock) as client:
            jobs = await asyncio.gather(*(client.get_job("group/app", job.id) for _ in range(120)))
        assert len(jobs) == 120
        assert gitlab.requests.count(status=429) <= 2 * 32


async def test_jobs_index_is_counted_by_us(gitlab: FakeGitLab) -> None:
    """More than 540 project listings a minute are spread over the minutes, without a 429."""
    for number in range(40):
        gitlab.add_project(f"group/p{number}").add_pipeline().add_job("a")

    async def walk(number: int) -> None:
        async for _ in client.iter_project_jobs(f"group/p{number % 40}"):
            pass

    async with open_client(gitlab.url, private_token=gitlab.token, clock=gitlab.clock) as client:
        await asyncio.gather(*(walk(number) for number in range(1_200)))
        assert client.statistics().endpoints["jobs_index"].waits > 0
    per_minute: dict[int, int] = {}
    for request in gitlab.requests:
        per_minute[int(request.time // 60)] = per_minute.get(int(request.time // 60), 0) + 1
    assert gitlab.requests.count(status=429) == 0
    assert max(per_minute.values()) == 540
    assert sum(per_minute.values()) == 1_200
    assert len(per_minute) == 3


async def test_waiting_for_one_window_does_not_hold_others(gitlab: FakeGitLab) -> None:
    """While project listings wait for their minute, single jobs are had at once."""
    job = gitlab.projects[10].pipelines[0].add_job("a")
    limits = Limits(jobs_index_per_minute=1, in_flight=2)

    async def walk() -> None:
        async for _ in client.iter_project_jobs("group/app"):
            pass

    async with open_client(gitlab.url, private_token=gitlab.token, limits=limits) as client:
        walks = [asyncio.create_task(walk()) for _ in range(5)]
        await until(lambda: len(gitlab.requests) == 1)
        began = now()
        for _ in range(10):
            await client.get_job("group/app", job.id)
        assert now() == began
        for each in walks:
            each.cancel()
        await asyncio.gather(*walks, return_exceptions=True)
        assert lanes_are_free(client)


async def count_minutes(gitlab: FakeGitLab, calls: Sequence[Awaitable[object]]) -> int:
    """Run calls and count the minutes over which their requests were spread."""
    await asyncio.gather(*calls)
    return len({int(request.time // 60) for request in gitlab.requests})


async def test_clients_that_share_limits_share_the_budget(gitlab: FakeGitLab) -> None:
    """Two clients with one Limits object and token send as one; with another token or object they do not."""
    job = gitlab.projects[10].pipelines[0].add_job("a").id
    limits, other = Limits(requests_per_minute=10), Limits(requests_per_minute=10)
    second = gitlab.add_token("private").value
    shared = {"private_token": gitlab.token, "limits": limits, "clock": gitlab.clock}
    async with open_client(gitlab.url, **shared) as one, open_client(gitlab.url, **shared) as two:
        calls = [client.get_job("group/app", job) for client in (one, two) for _ in range(10)]
        assert await count_minutes(gitlab, calls) == 2
    gitlab.requests.clear()
    await asyncio.sleep(120.0)
    async with (
        open_client(gitlab.url, **{**shared, "limits": other}) as one,
        open_client(gitlab.url, **{**shared, "private_token": second}) as two,
    ):
        calls = [client.get_job("group/app", job) for client in (one, two) for _ in range(10)]
        assert await count_minutes(gitlab, calls) == 1


async def test_a_429_met_by_one_client_stops_the_other(gitlab: FakeGitLab) -> None:
    """The gate belongs to the budget, not to the client."""
    job = gitlab.projects[10].pipelines[0].add_job("a").id
    shared = {"private_token": gitlab.token, "limits": Limits(), "clock": gitlab.clock}
    async with open_client(gitlab.url, **shared) as one, open_client(gitlab.url, **shared) as two:
        gitlab.fail_next("429_seconds", retry_after="30")
        began = now()
        first = asyncio.create_task(one.get_job("group/app", job))
        await until(lambda: gitlab.requests.count(status=429) == 1)
        await until(lambda: not two.statistics().endpoints["other"].gate_open)
        await two.get_job("group/app", job)
        assert now() - began >= 30.0
        await first


async def test_a_wall_clock_that_jumps_changes_nothing(gitlab: FakeGitLab) -> None:
    """Windows are the server's minutes: a step of our own wall clock neither opens nor holds them."""
    job = gitlab.projects[10].pipelines[0].add_job("a").id

    class Jumping:
        """A wall clock that is set back and forth by a day."""

        step = 0.0

        def monotonic(self) -> float:
            return now()

        def time(self) -> float:
            return epoch() + self.step

        async def sleep(self, seconds: float) -> None:
            await asyncio.sleep(seconds)

    clock = Jumping()
    limits = Limits(requests_per_minute=10)
    async with open_client(gitlab.url, private_token=gitlab.token, clock=clock, limits=limits) as client:
        for number in range(30):
            clock.step = (number % 3 - 1) * 86_400.0
            await client.get_job("group/app", job)
    per_minute = [int(request.time // 60) for request in gitlab.requests]
    assert max(per_minute.count(minute) for minute in per_minute) <= 10
    assert len(set(per_minute)) <= 4


@pytest.mark.parametrize(
    "read",
    [
        lambda client: client.get_trace(3, 8),
        lambda client: client.read_trace(3, 8),
        lambda client: place_of_last_lines(client._api, JobRef(3, 8), 1, size=None),
        lambda client: anext(client.iter_artifact_members(3, 8), None),
    ],
    ids=["get_trace", "read_trace", "last lines", "members"],
)
async def test_reads_that_are_streamed_heed_a_429(read: Callable[[Client], Awaitable[object]]) -> None:
    """A refused read of a log or of an archive's end waits at its own gate, and closes no other."""
    times: list[float] = []

    async def script(request: Received, wire: Wire) -> None:
        if "/tree" in request.target:
            await wire.write(answer(404, {"error": "404 Not Found"}))
        elif "/trace" not in request.target and not request.target.endswith("/artifacts"):
            artifacts = [{"file_type": "archive", "size": 22, "filename": "a.zip"}]
            await wire.write(answer(200, {**JOB, "artifacts": artifacts}))
        elif not times:
            times.append(now())
            await wire.write(answer(429, b"Retry later", {"Retry-After": "7"}))
        else:
            times.append(now())
            headers = {"Content-Type": "text/plain"}
            if request.header("range") is not None:
                headers["Content-Range"] = "bytes 0-21/22"
                await wire.write(answer(206, b"PK\x05\x06" + bytes(18), headers))
            else:
                await wire.write(answer(200, b"a line\n", headers))

    async with RawServer(script) as server, open_client(server.url) as client:
        await read(client)
        endpoints = client.statistics().endpoints
    assert 7.0 <= times[1] - times[0] <= 8.0
    assert [name for name, each in endpoints.items() if each.gate_closings] in (["trace"], ["artifact"])
