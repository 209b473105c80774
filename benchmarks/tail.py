"""A thousand live tails at once: delay after each push, memory per tail, requests and bytes.

The server is a FakeGitLab in another process. Both run on a clock that is *speed* times faster than the
wall's, so that ten minutes of pushes fit into one or two; a delay caused by this machine being busy counts
*speed* times. Every log is checked by CRC while it is timed.

What it does not measure: a real network, a real GitLab's time to answer, and (with the default of one push
per 30 s and job) jobs whose page somebody watches.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import attrs

import asyncjobs
from asyncjobs.testing import ScaledClock

SETTLED_PUSHES = 3
"""Pushes of each job that count as learning; their delay is shown apart."""


@attrs.define
class Seen:
    """What the reader saw."""

    crcs: dict[int, int] = attrs.field(factory=dict)
    learning: list[float] = attrs.field(factory=list)
    lags: list[float] = attrs.field(factory=list)
    pushes: dict[int, int] = attrs.field(factory=dict)
    first: int = 0
    finished: int = 0
    failed: int = 0
    lines: int = 0
    peak_open: int = 0


def resident_bytes() -> int:
    """Memory of this process that is in RAM."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


async def watch_memory(peak: list[int]) -> None:
    """Note the most memory until cancelled."""
    while True:
        peak[0] = max(peak[0], resident_bytes())
        await asyncio.sleep(0.1)


async def read(facts: dict[str, Any], options: argparse.Namespace) -> tuple[Seen, int, int, float]:
    """Tail every job to its end; gives what was seen, memory before and at most, and seconds."""
    seen = Seen()
    clock = ScaledClock(options.speed)
    limits = asyncjobs.Limits(requests_per_minute=options.requests_per_minute)
    async with asyncjobs.Client(
        facts["url"], private_token=facts["token"], limits=limits, clock=clock
    ) as client:
        await client.get_project(facts["project"])
        before = resident_bytes()
        peak = [before]
        memory = asyncio.create_task(watch_memory(peak))
        began = time.perf_counter()
        targets = [asyncjobs.PipelineRef(facts["project"], number) for number in facts["pipelines"]]
        async with client.tail(targets, options=asyncjobs.TailOptions(max_open=options.jobs)) as events:
            async for event in events:
                take(seen, event, facts["began"], options.speed)
                if isinstance(event, asyncjobs.JobStarted):
                    seen.peak_open = max(seen.peak_open, events.open_tails)
        seconds = time.perf_counter() - began
        memory.cancel()
    return seen, before, peak[0], seconds


def take(seen: Seen, event: asyncjobs.TailEvent, began: float, speed: float) -> None:
    """Count one event; a line that says when it was pushed gives a delay."""
    job = event.ref.job_id
    if isinstance(event, asyncjobs.JobStarted):
        seen.first = min(seen.first or job, job)
    elif isinstance(event, asyncjobs.LogLine):
        seen.lines += 1
        seen.crcs[job] = zlib.crc32(event.raw, seen.crcs.get(job, 0))
        # The first job has a long log to catch up with before its pushes; it is not in the delays.
        if event.raw.startswith(b"pushed at ") and job != seen.first:
            lag = (time.time() - began) * speed - float(event.raw[10:])
            number = seen.pushes[job] = seen.pushes.get(job, 0) + 1
            (seen.learning if number <= SETTLED_PUSHES else seen.lags).append(lag)
    elif isinstance(event, asyncjobs.JobFinished):
        seen.finished += 1
    elif isinstance(event, asyncjobs.TailFailed):
        seen.failed += 1


def naive_bytes(options: argparse.Namespace, log_bytes: int) -> float:
    """Body bytes of reading every whole log every three seconds, in the same time."""
    polls = options.every / 3.0
    begun = options.big << 20
    per_push = (log_bytes - begun) / options.pushes
    total: float = sum((begun + per_push * number) * polls for number in range(1, options.pushes + 1))
    return total


def percentile(values: list[float], part: float) -> float:
    """One value of the sorted list."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))] if values else 0.0


def report(
    options: argparse.Namespace,
    seen: Seen,
    before: int,
    peak: int,
    seconds: float,
    counts: dict[str, int],
) -> None:
    """Print the figures."""
    wire = counts["trace_bytes"]
    log, rule = counts["log_bytes"], naive_bytes(options, counts["log_bytes"])
    lag = f"p50 {percentile(seen.lags, 0.5):.1f} s, p99 {percentile(seen.lags, 0.99):.1f} s"
    first = f"p50 {percentile(seen.learning, 0.5):.1f} s, p99 {percentile(seen.learning, 0.99):.1f} s"
    per_push = counts["trace_requests"] / (options.jobs * options.pushes)
    rows = [
        ("tails", f"{options.jobs} jobs in {options.pipelines} pipelines, {options.kind} server"),
        ("", f"{options.pushes} pushes, one per {options.every:g} s; {log / 1e6:.1f} MB of logs"),
        ("time", f"{seconds:.1f} s on the wall, clock {options.speed:g} times faster"),
        ("open at once", f"{seen.peak_open}"),
        ("finished, failed", f"{seen.finished}, {seen.failed}; {seen.lines} lines, every log checked by CRC"),
        ("delay after a push", f"{lag}, most {max(seen.lags, default=0.0):.1f} s"),
        (f"  first {SETTLED_PUSHES} of each job", first),
        ("memory per tail", f"{(peak - before) / options.jobs / 1024:.0f} KiB at the peak"),
        ("", f"({(peak - before) / 1e6:.0f} MB above idle)"),
        ("requests", f"{counts['requests']}, at most {counts['per_minute']} a minute"),
        ("", f"{counts['trace_requests']} for traces, {per_push:.2f} per push"),
        ("trace bytes", f"{wire / 1e6:.1f} MB on the wire, {wire / log:.3f} per log byte"),
        ("", f"the whole log every 3 s would be {rule / 1e6:.0f} MB, before compression"),
    ]
    for label, text in rows:
        print(f"{label:24}{text}")


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the flags."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks tail", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--pipelines", type=int, default=10)
    parser.add_argument("--every", type=float, default=30.0, help="seconds between two pushes of a job")
    parser.add_argument("--pushes", type=int, default=10)
    parser.add_argument("--push-bytes", type=int, default=4000)
    parser.add_argument("--big", type=int, default=100, help="MiB of the first job's log at the start")
    parser.add_argument("--speed", type=float, default=4.0, help="how much faster the clock runs")
    parser.add_argument("--kind", choices=["window", "range", "whole"], default="window")
    parser.add_argument("--requests-per-minute", type=int, default=None)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """Run the benchmark; 1 when a log was not delivered exactly."""
    options = parse(argv)
    flags = [
        f"--{name}={getattr(options, name.replace('-', '_'))}"
        for name in ("jobs", "pipelines", "every", "pushes", "push-bytes", "big", "speed", "kind", "seed")
    ]
    server = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.tail_server", *flags],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        facts = json.loads(server.stdout.readline())
        seen, before, peak, seconds = asyncio.run(read(facts, options))
        server.stdin.write("\n")
        server.stdin.flush()
        counts = json.loads(server.stdout.readline())
    finally:
        server.stdin.close()
        server.wait(timeout=30)
        server.stdout.close()
    report(options, seen, before, peak, seconds, counts)
    wrong = [job for job, crc in facts["crcs"].items() if seen.crcs.get(int(job)) != crc]
    if wrong:
        print(f"NOT EXACT: {len(wrong)} of {len(facts['crcs'])} logs")
    return 1 if wrong or seen.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
