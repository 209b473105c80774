"""Listing jobs over many projects: asyncjobs beside a bare loop, python-gitlab and gidgetlab.

Each contender runs in a process of its own (so that peak memory is its own), all in turn in every
round, against one server process; every job is decoded and its id added up, and a wrong sum fails.
"""

# ruff: noqa: PLC0415 -- the process of a contender loads only what it needs, so that its memory is its own

from __future__ import annotations

import argparse
import asyncio
import json
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypedDict

from benchmarks import _pages_server as pages_server

IN_FLIGHT = 16
CAVEATS = """\
Caveats: client and server share one machine and its loopback, so there is no latency to hide and cores
are contended; a real server is far slower than any of these. The bare loop has no retries, no limits,
no redirect rules and no de-duplication; python-gitlab and gidgetlab give dicts or thin objects where
asyncjobs gives checked typed models. On a busy machine the CPU time of a contender is the steadier figure;
threads can use a second core for the network, a loop cannot. 16 requests are in flight for everyone
(threads for python-gitlab).
"""


class Result(TypedDict):
    """One run of one contender."""

    seconds: float
    cpu: float
    peak_mib: float
    jobs: int
    total: int


async def _asyncjobs(url: str, targets: int) -> tuple[int, int]:
    from asyncjobs import Client, Limits, ProjectRef

    limits = Limits(in_flight=IN_FLIGHT, jobs_index_per_minute=None)
    count = total = 0
    async with (
        Client(url, private_token="glpat-benchmark-token", limits=limits) as client,
        client.stream_jobs(ProjectRef(n) for n in range(1, targets + 1)) as jobs,
    ):
        async for _, job in jobs:
            count += 1
            total += job.id
    return count, total


async def _bare(url: str, targets: int) -> tuple[int, int]:
    import aiohttp
    import msgspec

    from asyncjobs import Job

    decoder = msgspec.json.Decoder(list[Job])
    following = re.compile(r'<([^>]*)>; rel="next"')
    numbers = iter(range(1, targets + 1))
    count = total = 0

    async def work(session: aiohttp.ClientSession) -> None:
        nonlocal count, total
        for number in numbers:
            where: str | None = f"{url}/api/v4/projects/{number}/jobs?per_page=100"
            while where is not None:
                async with session.get(where, headers={"PRIVATE-TOKEN": "x"}) as answer:
                    jobs = decoder.decode(await answer.read())
                    match = following.search(answer.headers.get("Link", ""))
                where = match[1] if match else None
                for job in jobs:
                    count += 1
                    total += job.id

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(work(session) for _ in range(IN_FLIGHT)))
    return count, total


async def _gidgetlab(url: str, targets: int) -> tuple[int, int]:
    import aiohttp
    from gidgetlab.aiohttp import GitLabAPI

    numbers = iter(range(1, targets + 1))
    count = total = 0

    async def work(api: GitLabAPI) -> None:
        nonlocal count, total
        for number in numbers:
            async for job in api.getiter(f"/projects/{number}/jobs?per_page=100"):
                count += 1
                total += job["id"]

    async with aiohttp.ClientSession() as session:
        api = GitLabAPI(session, "benchmark", access_token="x", url=url)
        await asyncio.gather(*(work(api) for _ in range(IN_FLIGHT)))
    return count, total


def _python_gitlab(url: str, targets: int) -> tuple[int, int]:
    import threading

    import gitlab

    local = threading.local()

    def work(number: int) -> tuple[int, int]:
        if not hasattr(local, "api"):  # a requests session is not meant to be shared by threads
            local.api = gitlab.Gitlab(url, private_token="x")
        jobs = local.api.projects.get(number, lazy=True).jobs.list(iterator=True, per_page=100)
        ids = [job.id for job in jobs]
        return len(ids), sum(ids)

    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        results = list(pool.map(work, range(1, targets + 1)))
    return sum(count for count, _ in results), sum(total for _, total in results)


def _asyncio_run(
    run: Callable[[str, int], Coroutine[None, None, tuple[int, int]]],
) -> Callable[[str, int], tuple[int, int]]:
    return lambda url, targets: asyncio.run(run(url, targets))


CONTENDERS: dict[str, Callable[[str, int], tuple[int, int]]] = {
    "asyncjobs": _asyncio_run(_asyncjobs),
    "bare aiohttp + msgspec": _asyncio_run(_bare),
    "gidgetlab": _asyncio_run(_gidgetlab),
    "python-gitlab, 16 threads": _python_gitlab,
}


def measure(name: str, url: str, targets: int) -> Result:
    """Run one contender in this process."""
    CONTENDERS[name](url, min(targets, IN_FLIGHT))  # warm up: imports, connections, caches
    before, cpu = time.perf_counter(), time.process_time()
    count, total = CONTENDERS[name](url, targets)
    seconds, spent = time.perf_counter() - before, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Result(seconds=seconds, cpu=spent, peak_mib=peak, jobs=count, total=total)


def _in_own_process(name: str, url: str, targets: int) -> Result:
    command = [
        sys.executable,
        "-m",
        "benchmarks",
        "fanout",
        "--run",
        name,
        "--url",
        url,
        "--targets",
        str(targets),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{name} failed:\n{done.stderr[-2000:]}")
    result: Result = json.loads(done.stdout)
    return result


def compare(targets: int, pages: int, rounds: int, names: Iterable[str]) -> dict[str, list[Result]]:
    """All contenders, in turn, in every round."""
    found: dict[str, list[Result]] = {name: [] for name in names}
    with pages_server.running(pages=pages) as url:
        for _ in range(rounds):
            for name, results in found.items():
                result = _in_own_process(name, url, targets)
                expected = targets * pages * pages_server.PER_PAGE, targets * pages_server.page_sum(pages)
                if (result["jobs"], result["total"]) != expected:
                    raise RuntimeError(f"{name} lost or doubled jobs: {result['jobs']} of {expected[0]}")
                results.append(result)
    return found


def report(targets: int, pages: int, found: dict[str, list[Result]]) -> None:
    """A table of the best round of each: on a shared machine noise only ever adds."""
    requests = targets * pages
    rounds = len(next(iter(found.values())))
    print(f"\n{targets} targets x {pages} pages x 100 jobs, best of {rounds} rounds:\n")
    print(
        f"{'':28}{'pages/s':>9}{'jobs/s':>10}{'CPU ms/page':>13}{'peak MiB':>10}"
        f"{'asyncjobs: time':>17}{'by CPU':>8}"
    )
    best = {
        name: (min(each["seconds"] for each in results), min(each["cpu"] for each in results))
        for name, results in found.items()
    }
    for name, (seconds, cpu) in best.items():
        peak = statistics.median(each["peak_mib"] for each in found[name])
        ratios = ""
        if "asyncjobs" in best and name != "asyncjobs":
            own_seconds, own_cpu = best["asyncjobs"]
            ratios = f"{seconds / own_seconds:16.2f}x{cpu / own_cpu:7.2f}x"
        jobs = requests * pages_server.PER_PAGE / seconds
        line = f"{name:28}{requests / seconds:9.0f}{jobs:10.0f}{cpu * 1000 / requests:13.2f}{peak:10.0f}"
        print(line + ratios)


def main(argv: list[str]) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks fanout")
    parser.add_argument("--targets", type=int, nargs="+", default=[10, 100, 1_000], metavar="N")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.run:
        print(json.dumps(measure(given.run, given.url, given.targets[0])))
        return 0
    print(CAVEATS)
    for targets in given.targets:
        pages = max(1, 400 // targets)
        report(targets, pages, compare(targets, pages, given.rounds, given.only))
    print("\nTo repeat: python -m benchmarks fanout --targets", *given.targets, "--rounds", given.rounds)
    return 0
