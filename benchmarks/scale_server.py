"""The server of the scale benchmark: a FakeGitLab in a process of its own, with small archives or many logs.

The first line on standard output is a JSON object that says where it is; each line on standard input is
answered with how many requests came since the last one, by the last word of their path.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from collections import Counter

from asyncjobs.testing import FakeGitLab, FakeJob

GROUP = "shop"
PROJECTS = 4
JOBS_PER_PIPELINE = 10
LEAST_BYTES, MOST_BYTES = 5_000, 20_000
LINES_PER_SECOND = 5
PUSH_SECONDS = 3.0
LEAD_SECONDS = 3.0
"""Before the first push, for the reader to start."""


def add_archives(gitlab: FakeGitLab, files: int) -> None:
    """Finished jobs with archives of random bytes, in several projects with many pipelines each."""
    chance = random.Random(1)
    for number in range(PROJECTS):
        project = gitlab.add_project(f"{GROUP}/app{number}")
        for first in range(0, files // PROJECTS, JOBS_PER_PIPELINE):
            pipeline = project.add_pipeline("main")
            for job in range(first, min(first + JOBS_PER_PIPELINE, files // PROJECTS)):
                raw = chance.randbytes(chance.randint(LEAST_BYTES, MOST_BYTES))
                pipeline.add_job(f"build {job}", status="success", artifacts={"out.bin": raw})


def add_logs(gitlab: FakeGitLab, jobs: int, seconds: int) -> None:
    """Running jobs that write a few lines a second and are pushed by their runner every three."""
    chance = random.Random(1)
    projects = [gitlab.add_project(f"{GROUP}/app{number}") for number in range(PROJECTS)]
    pipelines = [project.add_pipeline("main") for project in projects for _ in range(8)]
    for number in range(jobs):
        job = pipelines[number % len(pipelines)].add_job(f"job {number}", status="pending")
        job.start()
        _write(job, chance, seconds)


def _write(job: FakeJob, chance: random.Random, seconds: int) -> None:
    steps: list[tuple[float, bytes | str]] = []
    line = 0
    for push in range(round(seconds / PUSH_SECONDS)):
        data = bytearray()
        for _ in range(round(LINES_PER_SECOND * PUSH_SECONDS)):
            line += 1
            data += b"2026-01-05T08:00:00.%06dZ 00O line %d of a build that says a few words more\n" % (
                chance.randrange(1_000_000),
                line,
            )
        wait = PUSH_SECONDS if push else LEAD_SECONDS + chance.uniform(0, PUSH_SECONDS)
        steps.append((wait, bytes(data)))
    job.script([*steps, (1.0, "success")])


async def serve(options: argparse.Namespace) -> None:
    """Build the world, say where it is, count until the input ends."""
    came: Counter[str] = Counter()
    async with FakeGitLab(jobs_index_limit=None) as gitlab:
        gitlab.on_request = lambda request: came.update([request.path.rpartition("/")[2]])
        gitlab.add_group(GROUP)
        if options.files:
            add_archives(gitlab, options.files)
        else:
            add_logs(gitlab, options.jobs, options.seconds)
        print(json.dumps({"url": gitlab.url, "token": gitlab.token}), flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(came), flush=True)
            came.clear()


def run() -> None:
    """Read the options the benchmark passes on."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=0)
    parser.add_argument("--seconds", type=int, default=0)
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    run()
