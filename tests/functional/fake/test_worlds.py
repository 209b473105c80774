"""Logs in the runner's grammar, and the demo world: what lives in it and how it ends."""

from __future__ import annotations

import asyncio
import io
import re
import zipfile
from typing import Any

import pytest

from asyncjobs.testing import FakeGitLab, ManualClock, RunnerLog, demo_files, demo_log, demo_world

ENTRY = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z [0-9a-f]{2}[OE][ +]")
MARKER = re.compile(r"section_(start|end):(\d+):([A-Za-z0-9_.-]+)(\[[^\]]*\])?\r\x1b\[0K")
PARTS = ("tests", "build", "database", "deploy", "assemble")


def test_writes_become_entries_as_the_runner_makes_them() -> None:
    """A line is one entry, a CR without LF is one that the next continues, a part waits for its line."""
    log = RunnerLog(start=0, step=1)
    log.write("one\ntwo")
    log.write(" and more\n")
    log.write("10%\r", kind="E")
    log.out("between")
    log.write("done\n", kind="E")
    assert log.data.decode() == (
        "1970-01-01T00:00:01.000000Z 01O one\n"
        "1970-01-01T00:00:01.000000Z 01O two and more\n"
        "1970-01-01T00:00:03.000000Z 01E 10%\r\n"
        "1970-01-01T00:00:04.000000Z 01O between\n"
        "1970-01-01T00:00:05.000000Z 01E+done\n"
    )


@pytest.mark.parametrize("part", PARTS)
def test_stamped_logs_hold_the_grammar(part: str) -> None:
    """Every entry has its 32-byte header; joined, sections open and close; colours and CR are there."""
    data = demo_log(part, seed=3)
    entries = data.splitlines(keepends=True) if b"\r" not in data else re.split(rb"(?<=\n)", data)[:-1]
    assert all(ENTRY.fullmatch(entry[:32]) and entry.endswith(b"\n") for entry in entries)
    assert {entry[31:32] for entry in entries} == {b" ", b"+"}
    text = "".join(entry[32:].decode() for entry in entries)
    opened: list[str] = []
    for match in MARKER.finditer(text.replace("\r\x1b[0K\n", "\r\x1b[0K")):
        if match[1] == "start":
            opened.append(match[3])
        else:
            assert opened.pop() == match[3]
    assert opened == []


@pytest.mark.parametrize("result", ["success", "failed"])
def test_plain_logs_have_no_stamps_and_say_how_it_ended(result: str) -> None:
    """Without stamps markers run together on a line; the last line tells the result."""
    data = demo_log("tests", stamped=False, result=result)
    assert not ENTRY.match(data)
    assert (b"Job succeeded" in data) is (result == "success")
    assert (b"ERROR: Job failed: exit code 1" in data) is (result == "failed")
    assert "☕".encode() in data


def test_archives_are_real_and_of_the_size_asked() -> None:
    """A few MiB of a package that does not shrink, and reports that do."""
    gitlab = FakeGitLab()
    job = gitlab.add_project("group/app").add_pipeline().add_job("build")
    job.set_artifacts(demo_files(5, 1024 * 1024))
    assert 1024 * 1024 < len(job.archive_bytes) < 1.1 * 1024 * 1024
    with zipfile.ZipFile(io.BytesIO(job.archive_bytes)) as archive:
        assert archive.testzip() is None
        assert "docs/Überblick.txt" in archive.namelist()


async def test_the_demo_world_lives_and_ends(generation: Any) -> None:
    """Failures to list, five logs that grow for 9 to 14 seconds, each ending, a retry that succeeds."""
    async with FakeGitLab(generation) as gitlab:
        demo_world(gitlab)
        jobs = list(gitlab.jobs.values())
        running = [job for job in jobs if job.status == "running"]
        failed = [job for job in jobs if job.status == "failed"]
        assert (len(gitlab.projects), len(running), len(failed) >= 5) == (4, 5, True)
        assert len({job.failure_reason for job in failed}) >= 4
        assert sum(job.archive is not None for job in jobs) >= 5
        await asyncio.sleep(8.5)
        assert sum(job.status == "running" for job in running) >= 3
        await asyncio.sleep(6.5)
        endings = sorted(job.status for job in running)
        assert endings == ["canceled", "failed", "success", "success", "success"]
        retried = next(job for job in running if job.retried)
        again = max(gitlab.jobs.values(), key=lambda job: job.id)
        assert (again.name, again.status, again.pipeline is retried.pipeline) == (
            retried.name,
            "success",
            True,
        )


class _FastByHand(ManualClock):
    """Says that it runs 1000 times faster, and is moved by hand."""

    speed = 1000.0


def test_the_demo_world_follows_a_faster_clock() -> None:
    """On a clock 1000 times faster its jobs run 1000 times longer by that clock: as long for a person."""
    clock = _FastByHand()
    gitlab = FakeGitLab(clock=clock)
    demo_world(gitlab)
    running = [job for job in gitlab.jobs.values() if job.status == "running"]
    clock.advance(15_000)
    assert {job.status for job in running} == {"canceled", "failed", "success"}
    lasted = [(job.finished_at or 0) - (job.started_at or 0) for job in running]
    assert 7_000 < min(lasted) <= max(lasted) < 15_000
