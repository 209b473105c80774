"""The server of the tail benchmark: a FakeGitLab in a process of its own, on a faster clock.

Its jobs push at a fixed rhythm, each at another moment, and every push says when it was due, so the reader
can tell the delay. The first line on standard output is a JSON object: where it listens and when it began.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
import zlib

from asyncjobs.testing import FakeGitLab, FakeJob, ScaledClock

LEAD_SECONDS = 20.0
"""Seconds (of the fast clock) before the first push, for the reader to start."""


def words(chance: random.Random, size: int) -> bytes:
    """Text that compresses about as well as a build log does."""
    letters = b"abcdefghijklmnopqrstuvwxyz/._-"
    vocabulary = [bytes(chance.choices(letters, k=chance.randint(3, 12))) for _ in range(2000)]
    out = bytearray()
    while len(out) < size:
        out += b" ".join(chance.choices(vocabulary, k=9)) + b"\n"
    return bytes(out[:size].rpartition(b"\n")[0] + b"\n")


def plan(job: FakeJob, text: bytes, chance: random.Random, *, every: float, pushes: int) -> int:
    """Let a job push and end; gives the CRC of its whole log."""
    job.start()
    phase = LEAD_SECONDS + chance.uniform(0, every)
    steps: list[tuple[float, bytes | str]] = []
    crc = zlib.crc32(job.trace)
    for number in range(pushes):
        due = phase + number * every
        data = b"pushed at %.3f\n" % due + text
        crc = zlib.crc32(data, crc)
        steps.append((phase if number == 0 else every, data))
    steps.append((1.0, "success"))
    job.script(steps)
    return crc


async def serve(options: argparse.Namespace) -> None:
    """Build the world, say where it is, serve until the reader closes our input."""
    chance = random.Random(options.seed)
    clock = ScaledClock(options.speed)
    async with FakeGitLab(
        "19.5" if options.kind != "whole" else "18", trace=options.kind, clock=clock, jobs_index_limit=None
    ) as gitlab:
        project = gitlab.add_project("group/app")
        text = words(chance, options.push_bytes)
        pipes = [project.add_pipeline("main") for _ in range(options.pipelines)]
        jobs = [pipes[n % len(pipes)].add_job(f"job {n}", status="pending") for n in range(options.jobs)]
        if options.big:
            block = words(chance, 1 << 20)
            jobs[0].append_trace(block * options.big)
        began = time.time()
        crcs = {job.id: plan(job, text, chance, every=options.every, pushes=options.pushes) for job in jobs}
        facts = {
            "url": gitlab.url,
            "token": gitlab.token,
            "project": project.id,
            "pipelines": [pipe.id for pipe in pipes],
            "began": began,
            "crcs": crcs,
        }
        sys.stdout.write(json.dumps(facts) + "\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        counts = {
            "requests": len(gitlab.requests),
            "trace_requests": gitlab.requests.count("*/trace"),
            "trace_bytes": gitlab.requests.sent("*/trace"),
            "log_bytes": sum(job.trace_size for job in jobs),
            "per_minute": per_minute(gitlab),
        }
        sys.stdout.write(json.dumps(counts) + "\n")
        sys.stdout.flush()


def per_minute(gitlab: FakeGitLab) -> int:
    """The most requests in one minute of the fast clock."""
    minutes: dict[int, int] = {}
    for request in gitlab.requests:
        minute = int(request.time // 60)
        minutes[minute] = minutes.get(minute, 0) + 1
    return max(minutes.values(), default=0)


def main() -> None:
    """Read the options the benchmark passes on."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--pipelines", type=int, required=True)
    parser.add_argument("--every", type=float, required=True)
    parser.add_argument("--pushes", type=int, required=True)
    parser.add_argument("--push-bytes", type=int, required=True)
    parser.add_argument("--big", type=int, required=True)
    parser.add_argument("--speed", type=float, required=True)
    parser.add_argument("--kind", required=True)
    parser.add_argument("--seed", type=int, required=True)
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
