"""Single requests: what an outage costs the server, what queued downloads cost a control call, what we cost.

The server is another process; answers are checked while timing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable

import aiohttp
import msgspec

from asyncjobs import AsyncJobsError, Client, Job, JobRef, RetryPolicy
from benchmarks import _pages_server as pages_server

CAVEATS = """\
Caveats: one machine, loopback, contended cores; absolute times are those of this machine at this moment.
The bare loop does nothing but send, read and decode. The outage runs on a shortened backoff, because its
figure counts requests and does not depend on time; downloads are paced at 3 MB/s each, as a network does.
"""


async def _stats(url: str, path: str = "/stats") -> int:
    async with aiohttp.ClientSession() as session, session.get(url + path) as answer:
        return int(json.loads(await answer.read()).get("requests", 0))


async def outage(url: str, wanted: int) -> float:
    """Requests that reach a server which answers 502, per request that was wanted."""
    await _stats(url, "/fail?on=1")
    quick = RetryPolicy(base=0.005, cap=0.02)
    async with Client(url, retry=quick) as client:

        async def ask(number: int) -> None:
            try:
                await client.get_job(1, number)
            except AsyncJobsError:
                return
            raise RuntimeError("a dead server answered")

        for first in range(1, wanted, 50):
            await asyncio.gather(*(ask(number) for number in range(first, first + 50)))
    arrived = await _stats(url)
    await _stats(url, "/fail?on=0")
    return arrived / wanted


async def control_latency(url: str, downloads: int, calls: int) -> tuple[float, float]:
    """Median and 99th percentile of `get_job` in seconds, while that many archives are queued."""

    async def download(number: int) -> None:
        async with client._api.open_artifacts(JobRef(1, number)) as body:
            async for _ in body:
                pass

    async with Client(url) as client:
        tasks = [asyncio.create_task(download(number)) for number in range(1, downloads + 1)]
        await asyncio.sleep(0.2)
        taken = []
        for number in range(1, calls + 1):
            began = time.perf_counter()
            job = await client.get_job(1, number)
            taken.append(time.perf_counter() - began)
            if job.id != 8:
                raise RuntimeError("a wrong answer")
            await asyncio.sleep(0.002)
        if downloads and client.statistics().lanes["bulk"].in_flight < 8:
            raise RuntimeError("the downloads were over before the measurement was")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    cuts = statistics.quantiles(taken, n=100)
    return cuts[49], cuts[98]


async def _per_call(call: Callable[[], Awaitable[Job]], calls: int) -> tuple[float, float]:
    for _ in range(50):
        await call()
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(calls):
        if (await call()).id != 8:
            raise RuntimeError("a wrong answer")
    return (time.perf_counter() - wall) / calls, (time.process_time() - cpu) / calls


async def cost_per_request(url: str, calls: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Seconds and CPU seconds of one call, ours and bare, in turn; the median of the rounds."""
    decoder = msgspec.json.Decoder(Job)
    where = f"{url}/api/v4/projects/1/jobs/8"
    found: dict[str, list[tuple[float, float]]] = {"asyncjobs": [], "bare aiohttp + msgspec": []}
    async with (
        Client(url, private_token="glpat-benchmark-token") as client,
        aiohttp.ClientSession() as session,
    ):

        async def bare() -> Job:
            async with session.get(where, headers={"PRIVATE-TOKEN": "x"}) as answer:
                return decoder.decode(await answer.read())

        for _ in range(rounds):
            found["asyncjobs"].append(await _per_call(lambda: client.get_job(1, 8), calls))
            found["bare aiohttp + msgspec"].append(await _per_call(bare, calls))
    return {
        name: (statistics.median(wall for wall, _ in each), statistics.median(cpu for _, cpu in each))
        for name, each in found.items()
    }


async def many(url: str, jobs: int, in_flight: int) -> float:
    """Seconds for that many `get_job` calls, so many of them at once."""
    async with Client(url) as client:
        await asyncio.gather(*(client.get_job(1, number) for number in range(1, in_flight + 1)))
        numbers = iter(range(1, jobs + 1))

        async def work() -> None:
            for number in numbers:
                await client.get_job(1, number)

        began = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(in_flight)))
        return time.perf_counter() - began


def main(argv: list[str]) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks requests")
    parser.add_argument("--wanted", type=int, default=2_000, help="requests wanted during the outage")
    parser.add_argument("--calls", type=int, default=500, help="calls timed for latency and cost")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args(argv)
    print(CAVEATS)
    with pages_server.running() as url:
        ratio = asyncio.run(outage(url, given.wanted))
        print(f"outage: {ratio:.3f} requests on the server per wanted request ({given.wanted} wanted)")
        for downloads in (0, 1_000):
            median, worst = asyncio.run(control_latency(url, downloads, given.calls))
            print(
                f"get_job with {downloads:5} downloads queued:"
                f" p50 {median * 1000:.2f} ms, p99 {worst * 1000:.2f} ms"
            )
        costs = asyncio.run(cost_per_request(url, given.calls, given.rounds))
        for name, (wall, cpu) in costs.items():
            print(f"one get_job, {name:24} {wall * 1e6:6.0f} us, of which CPU {cpu * 1e6:6.0f} us")
    with pages_server.running(latency=0.05) as url:
        seconds = statistics.median(asyncio.run(many(url, 200, 20)) for _ in range(given.rounds))
        print(f"200 get_job at 50 ms, 20 in flight: {seconds:.3f} s, {seconds / 0.5:.2f} of the ideal 0.5 s")
    print(f"\nTo repeat: python -m benchmarks requests --wanted {given.wanted} --calls {given.calls}")
    return 0
