"""Many small things: thousands of archives of some kB, synced again and again, and hundreds of logs at once.

The server is a FakeGitLab in another process, each run of the client is a process of its own, and what it did
is counted on both sides. Caveats: the fake costs about as much for a request as the client does, so files a
second are those of the pair, and CPU is the steadier figure; loopback has no latency; a real disk forces
things down at its own pace (`--dest DIR`), memory does not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncjobs
from benchmarks.scale_server import GROUP, PROJECTS

ALL = f"groups/{GROUP}"
QUARTER = f"{GROUP}/app0"
RUNS: list[tuple[str, str, dict[str, Any]]] = [
    ("first", ALL, {}),
    ("nothing new", ALL, {}),
    ("a quarter, nothing new", QUARTER, {}),
    ("verify", ALL, {"verify": True}),
    ("prune", ALL, {"prune": True}),
    ("dry run", ALL, {"dry_run": True}),
    ("no fsync, first", ALL, {"fsync": False}),
]
"""Name, target and options of each sync; those whose name ends in `first` begin with an empty folder."""


def _memory(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    return 0.0


# -- what runs in a process of its own --------------------------------------------------------------------


async def sync(task: Mapping[str, Any]) -> dict[str, float]:
    """One sync; what it cost."""
    options = asyncjobs.SyncOptions(**task["options"])
    limits = asyncjobs.Limits(jobs_index_per_minute=None)
    async with asyncjobs.Client(task["url"], private_token=task["token"], limits=limits) as client:
        await client.get_project(f"{GROUP}/app0")
        idle, cpu, start = _memory("VmRSS"), time.process_time(), time.perf_counter()
        report = await client.sync_artifacts([task["target"]], task["dest"], options=options)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    if not report.ok:
        raise RuntimeError(f"{report.failed[:1]} {report.failures[:1]}")
    files = len(report.downloaded) + len(report.unchanged) + len(report.skipped)
    return {
        "files": files,
        "new": len(report.downloaded),
        "seconds": seconds,
        "cpu": cpu,
        "peak": _memory("VmHWM") - idle,
    }


async def tail(task: Mapping[str, Any]) -> dict[str, float]:
    """All logs through `Client.tail`, to their ends."""
    async with asyncjobs.Client(task["url"], private_token=task["token"]) as client:
        await client.get_project(f"{GROUP}/app0")
        idle, cpu, lines = _memory("VmRSS"), time.process_time(), 0
        options = asyncjobs.TailOptions(max_open=task["jobs"], settle=1.0)
        async with client.tail([ALL], options=options) as events:
            async for event in events:
                lines += isinstance(event, asyncjobs.LogLine)
        return {"lines": lines, "cpu": time.process_time() - cpu, "peak": _memory("VmHWM") - idle}


# -- around it --------------------------------------------------------------------------------------------


class Server:
    """The running server."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        assert process.stdin is not None
        self._in, self._out = process.stdin, process.stdout
        self.facts: dict[str, str] = json.loads(self._out.readline())

    def requests(self) -> dict[str, int]:
        """What came since this was asked last, by the last word of the path."""
        self._in.write("\n")
        self._in.flush()
        came: dict[str, int] = json.loads(self._out.readline())
        return came


@contextmanager
def server(**flags: int) -> Iterator[Server]:
    """A server in its own process."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.scale_server",
        *(f"--{key}={value}" for key, value in flags.items()),
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        try:
            yield Server(process)
        finally:
            process.stdin.close()


def apart(kind: str, **task: Any) -> dict[str, float]:
    """Run one of the above in a process of its own.

    Raises:
        RuntimeError: It failed.
    """
    command = [sys.executable, "-m", "benchmarks", "scale", "--run", kind, "--task", json.dumps(task)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{kind} failed:\n{done.stderr[-2000:]}")
    result: dict[str, float] = json.loads(done.stdout)
    return result


def syncs(files: int, dest: Path) -> None:
    """Every sync of `RUNS`, into one folder."""
    print(
        f"\n{files} archives of 5 to 20 kB, 10 to a pipeline, in {PROJECTS} projects, below {dest.parent}:\n"
    )
    print(f"{'':26}{'files':>7}{'seconds':>9}{'files/s':>9}{'CPU us/file':>13}{'peak MiB':>10}  requests")
    with server(files=files) as running:
        for name, target, options in RUNS:
            if name.endswith("first"):
                shutil.rmtree(dest, ignore_errors=True)
            running.requests()
            found = apart("sync", **running.facts, dest=str(dest), target=target, options=options)
            came = running.requests()
            lists = sum(came.values()) - came.get("artifacts", 0) - 1  # one of them warms the client up
            number = found["files"]
            print(
                f"{name:26}{number:7}{found['seconds']:9.1f}{number / found['seconds']:9.0f}"
                f"{found['cpu'] / number * 1e6:13.0f}{found['peak']:10.1f}"
                f"  {lists} lists + {came.get('artifacts', 0)} archives",
                flush=True,
            )
            if came.get("artifacts", 0) != found["new"]:
                raise RuntimeError("archives were asked for that were not needed, or twice")


def tails(jobs: int, seconds: int) -> None:
    """All logs through the library, then through the command."""
    print(f"\n{jobs} running jobs, 5 lines a second each for {seconds} s, pushed every 3 s:\n")
    print(f"{'':26}{'lines':>9}{'CPU s':>9}{'CPU us/line':>13}{'peak MiB':>10}  requests")
    for name, flags in (
        ("Client.tail()", None),
        ("asyncjobs tail --json", ["--json"]),
        ("asyncjobs tail", []),
    ):
        with server(jobs=jobs, seconds=seconds) as running:
            if flags is None:
                found = apart("tail", **running.facts, jobs=jobs)
            else:
                found = _command(
                    running.facts, ["tail", ALL, "--max-open", str(jobs), "--settle", "1s", *flags]
                )
            came = running.requests()
        expected = jobs * round(seconds / 3) * 15
        lines = found["lines"]
        print(
            f"{name:26}{lines:9}{found['cpu']:9.1f}{found['cpu'] / lines * 1e6:13.1f}{found['peak']:10.1f}"
            f"  {sum(came.values())}, {came.get('trace', 0)} of them for traces",
            flush=True,
        )
        if lines != expected:
            raise RuntimeError(f"{expected} lines were written")


def _command(facts: Mapping[str, str], arguments: list[str]) -> dict[str, float]:
    """The command with its lines counted; its memory is all that it holds."""
    environment = {**os.environ, "GITLAB_URL": facts["url"], "GITLAB_TOKEN": facts["token"]}
    command = [sys.executable, "-m", "asyncjobs", *arguments]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    with process.stdout:
        lines = sum(b'"event"' not in line or b'"event":"line"' in line for line in process.stdout)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return {"lines": lines, "cpu": usage.ru_utime + usage.ru_stime, "peak": usage.ru_maxrss / 1024}


def starts(rounds: int = 5) -> None:
    """What the command costs before it does anything; the best of some rounds."""
    print("\nCPU of a start, best of five:\n")
    for words in (
        ["-c", "pass"],
        ["-c", "import asyncjobs"],
        ["-m", "asyncjobs", "--help"],
        ["-m", "asyncjobs", "sync", "--help"],
    ):
        taken = []
        for _ in range(rounds):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        print(f"{'python ' + ' '.join(words):40}{min(taken):6.2f} s")


def main(argv: list[str]) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks scale", description=__doc__)
    parser.add_argument("--files", type=int, default=4_000)
    parser.add_argument("--jobs", type=int, default=300, help="logs at once")
    parser.add_argument("--seconds", type=int, default=15, help="how long they are written")
    parser.add_argument("--dest", type=Path, action="append", help="sync below this (default /dev/shm)")
    parser.add_argument("--only", choices=["sync", "tail", "start"], action="append")
    parser.add_argument("--run", choices=["sync", "tail"], help=argparse.SUPPRESS)
    parser.add_argument("--task", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.run:
        print(json.dumps(asyncio.run((sync if given.run == "sync" else tail)(given.task))))
        return 0
    print(__doc__)
    wanted = given.only or ["sync", "tail", "start"]
    memory = Path("/dev/shm")
    for base in given.dest or [memory if memory.is_dir() else Path(tempfile.gettempdir())]:
        if "sync" in wanted:
            with tempfile.TemporaryDirectory(dir=base) as folder:
                syncs(given.files, Path(folder) / "archives")
    if "tail" in wanted:
        tails(given.jobs, given.seconds)
    if "start" in wanted:
        starts()
    return 0
