"""Downloads side by side: this package, curl, aria2, python-gitlab in threads, a plain aiohttp loop.

Each contestant runs in a process of its own, one after the other and round after round, against one server
in another process; what it wrote is compared with the source after the clock has stopped. Caveats: loopback
has no latency and no loss, so this measures what the client costs and not what a network allows; server and
client share the machine's cores; curl and aria2 neither verify nor hash nor force to the disk, this package
does the first two always and the third in its own row; a row of curl hashes afterwards, with OpenSSL like us.
"""

from __future__ import annotations

import argparse
import asyncio
import filecmp
import json
import os
import resource
import shlex
import shutil
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiofiles
import aiohttp
import attrs
import gitlab

import asyncjobs
from benchmarks.artifacts_server import Server

MIB = 1024 * 1024


@attrs.frozen(kw_only=True)
class Task:
    """One run of one contestant."""

    url: str
    ca: str
    files: int
    parallel: int
    dest: Path
    project: int = 1

    def link(self, number: int) -> str:
        """Where one archive is."""
        return f"{self.url}/api/v4/projects/{self.project}/jobs/{number}/artifacts"

    def path(self, number: int) -> Path:
        """Where the others put it."""
        return self.dest / f"{number}.zip"


@attrs.frozen
class Result:
    """What one run took."""

    seconds: float
    cpu_seconds: float
    peak_mib: float
    """Highest resident memory above the idle program, or in all for other people's programs."""
    longest_block: float = 0.0
    """Longest time the event loop did not turn, in seconds."""


# -- contestants that run inside of a Python process ------------------------------------------------------


def _memory(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    return 0.0


async def _watch(longest: list[float]) -> None:
    """Notice how long the loop does not turn."""
    while True:
        before = time.perf_counter()
        await asyncio.sleep(0.005)
        longest[0] = max(longest[0], time.perf_counter() - before - 0.005)


async def _asyncjobs(task: Task, *, fsync: bool) -> Result:
    options = asyncjobs.SyncOptions(concurrency=task.parallel, path_template="{job_id}.zip", fsync=fsync)
    ca_file = task.ca if task.url.startswith("https") else None
    limits = asyncjobs.Limits(downloads=task.parallel)
    async with asyncjobs.Client(task.url, ca_file=ca_file, limits=limits) as client:
        await client.get_job(task.project, 1)
        idle, longest = _memory("VmRSS"), [0.0]
        watch = asyncio.ensure_future(_watch(longest))
        cpu, start = time.process_time(), time.perf_counter()
        report = await client.sync_artifacts(["1/-/pipelines/1"], task.dest, options=options)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        watch.cancel()
        peak = _memory("VmHWM") - idle
    if len(report.downloaded) != task.files:
        raise RuntimeError(f"{report.failed[:1]}")
    return Result(seconds, cpu, peak, longest[0])


async def _plain_loop(task: Task) -> Result:
    """What people write first: 64 KiB pieces, one thread hop each, no checks."""
    slots = asyncio.Semaphore(task.parallel)
    context = ssl.create_default_context(cafile=task.ca)

    async def one(session: aiohttp.ClientSession, number: int) -> None:
        async with (
            slots,
            session.get(task.link(number), ssl=context) as response,
            aiofiles.open(task.path(number), "wb") as file,
        ):
            async for chunk in response.content.iter_chunked(64 * 1024):
                await file.write(chunk)

    async with aiohttp.ClientSession() as session:
        idle = _memory("VmRSS")
        cpu, start = time.process_time(), time.perf_counter()
        await asyncio.gather(*(one(session, number) for number in range(1, task.files + 1)))
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return Result(seconds, cpu, _memory("VmHWM") - idle)


def _python_gitlab(task: Task) -> Result:
    """Streamed to files by four threads, a client for each, its default pieces of 1 KiB."""

    def one(number: int) -> None:
        verify = task.ca if task.url.startswith("https") else True
        client = gitlab.Gitlab(task.url, ssl_verify=verify)
        job = client.projects.get(task.project, lazy=True).jobs.get(number, lazy=True)
        with task.path(number).open("wb") as file:
            job.artifacts(streamed=True, action=file.write)

    idle = _memory("VmRSS")
    cpu, start = time.process_time(), time.perf_counter()
    with ThreadPoolExecutor(task.parallel) as pool:
        list(pool.map(one, range(1, task.files + 1)))
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return Result(seconds, cpu, _memory("VmHWM") - idle)


INSIDE: dict[str, Callable[[Task], Result]] = {
    "asyncjobs": lambda task: asyncio.run(_asyncjobs(task, fsync=False)),
    "asyncjobs, fsync": lambda task: asyncio.run(_asyncjobs(task, fsync=True)),
    "aiohttp + aiofiles, 64 KiB": lambda task: asyncio.run(_plain_loop(task)),
    "python-gitlab, 4 threads": _python_gitlab,
}


# -- contestants that are programs ------------------------------------------------------------------------


def _curl(task: Task) -> list[str]:
    command = ["curl", "--silent", "--fail", "--parallel", "--parallel-max", str(task.parallel)]
    command += ["--cacert", task.ca]
    for number in range(1, task.files + 1):
        command += ["-o", str(task.path(number)), task.link(number)]
    return command


def _aria2(task: Task) -> list[str]:
    listing = task.dest / "links"
    lines = [f"{task.link(number)}\n  out={number}.zip" for number in range(1, task.files + 1)]
    listing.write_text("\n".join(lines))
    command = ["aria2c", "--quiet", "-i", str(listing), "-d", str(task.dest), "-j", str(task.parallel)]
    return [*command, "-x1", "-s1", "--file-allocation=none", f"--ca-certificate={task.ca}"]


def _curl_hashed(task: Task) -> list[str]:
    """What curl needs to know as much of the files: a hash afterwards, of as many at once, with OpenSSL."""
    files = shlex.join(str(task.path(number)) for number in range(1, task.files + 1))
    hashing = f"printf '%s\\n' {files} | xargs -n 1 -P {task.parallel} openssl dgst -sha256"
    return ["sh", "-e", "-c", f"{shlex.join(_curl(task))}; {hashing}"]


PROGRAMS: dict[str, Callable[[Task], list[str]]] = {
    "curl --parallel": _curl,
    "curl --parallel, then SHA-256": _curl_hashed,
    "aria2c": _aria2,
}


def _run_program(command: list[str]) -> Result:
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}")
    seconds = time.perf_counter() - start
    return Result(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def _run_inside(name: str, task: Task) -> Result:
    """In a fresh Python, so that memory and imports of one say nothing about another."""
    facts = json.dumps(attrs.asdict(task) | {"dest": str(task.dest)})
    command = [sys.executable, "-m", "benchmarks.artifacts", "--run", name, "--task", facts]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    return Result(**json.loads(output))


def contestants() -> list[str]:
    """Everyone who can take part on this machine."""
    programs = [name for name in PROGRAMS if shutil.which(name.split()[0])]
    return ["asyncjobs", *programs, *[name for name in INSIDE if name != "asyncjobs"]]


# -- the race ---------------------------------------------------------------------------------------------


def _one(name: str, server: Server, scheme: str, parallel: int, base: Path) -> Result:
    dest = Path(tempfile.mkdtemp(dir=base))
    task = Task(url=server.url(scheme), ca=str(server.ca), files=server.files, parallel=parallel, dest=dest)
    try:
        result = _run_program(PROGRAMS[name](task)) if name in PROGRAMS else _run_inside(name, task)
        for number in range(1, server.files + 1):
            if not filecmp.cmp(server.archive(number), task.path(number), shallow=False):
                raise RuntimeError(f"{name} wrote something else than archive {number}")
        return result
    finally:
        shutil.rmtree(dest)


def _race(server: Server, scheme: str, options: argparse.Namespace, base: Path) -> None:
    names = [name for name in contestants() if not options.only or name in options.only]
    results: dict[str, list[Result]] = {name: [] for name in names}
    for _ in range(options.rounds):
        for name in names:
            results[name].append(_one(name, server, scheme, options.parallel, base))
    total = sum(server.archive(number).stat().st_size for number in range(1, server.files + 1))
    best = {name: statistics.median(each.seconds for each in found) for name, found in results.items()}
    print(f"\n{scheme} to {base}: {options.files} x {options.size} MiB, {options.parallel} at once, ", end="")
    print(f"median of {options.rounds}")
    print(f"{'':28} {'MB/s':>7} {'x curl':>7} {'CPU s/GB':>9} {'peak MiB':>9} {'loop ms':>8}")
    for name in names:
        found = results[name]
        speed = total / best[name] / 1e6
        ratio = f"{best['curl --parallel'] / best[name]:.2f}" if "curl --parallel" in best else "-"
        cpu = statistics.median(each.cpu_seconds for each in found) / (total / 1e9)
        peak = max(each.peak_mib for each in found)
        block = max(each.longest_block for each in found) * 1000
        shown = f"{block:8.1f}" if block else f"{'-':>8}"
        print(f"{name:28} {speed:7.0f} {ratio:>7} {cpu:9.2f} {peak:9.1f} {shown}")


def main(argv: list[str]) -> int:
    """Run the benchmark; see `--help`.

    Args:
        argv: The arguments after the name.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(prog="benchmarks artifacts", description=__doc__)
    parser.add_argument("--files", type=int, default=4, help="archives (default 4; the full race has 8)")
    parser.add_argument(
        "--size", type=int, default=64, help="MiB of each (default 64; the full race has 256)"
    )
    parser.add_argument("--parallel", type=int, default=4, help="at once (default 4)")
    parser.add_argument("--rounds", type=int, default=3, help="times each (default 3)")
    parser.add_argument("--scheme", choices=["http", "https"], help="only this one")
    parser.add_argument("--dest", type=Path, action="append", help="write here (default /dev/shm)")
    parser.add_argument("--only", nargs="+", choices=contestants(), help="these contestants alone")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--task", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.run:
        facts = json.loads(options.task)
        result = INSIDE[options.run](Task(**facts | {"dest": Path(facts["dest"])}))
        print(json.dumps(attrs.asdict(result)))
        return 0
    memory = Path("/dev/shm")
    bases = options.dest or [memory if memory.is_dir() else Path(tempfile.gettempdir())]
    # The archives lie in memory too, so that the server never waits for a disk.
    with (
        tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder,
        Server(Path(folder) / "server", options.files, options.size * MIB) as server,
    ):
        print(f"server: {server.kind}; {os.cpu_count()} cores; Python {sys.version.split()[0]}")
        for scheme in [options.scheme] if options.scheme else ["http", "https"]:
            for base in bases:
                _race(server, scheme, options, base)
    return 0


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.exit(main(sys.argv[1:]))
