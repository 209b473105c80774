"""A tail of many jobs that is stopped anywhere goes on from its cursors: no line is lost or comes twice."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from datetime import UTC, datetime

import pytest

from asyncjobs._api import Api
from asyncjobs._models import JobFinished, JobRef, LogLine, TraceReset
from asyncjobs._options import TailOptions
from asyncjobs._tail import tail
from asyncjobs.testing import FakeGitLab, FakeJob
from tests.functional.tail.conftest import Connect

kinds = pytest.mark.parametrize("kind", ["window", "range", "whole"])


class Collector:
    """Keeps lines and places as a service would, and is restarted now and then."""

    def __init__(self) -> None:
        self.logs: dict[int, bytes] = defaultdict(bytes)
        self.places: dict[JobRef, str] = {}
        self.done: set[int] = set()

    async def live(self, api: Api, target: str, events: int, **options: object) -> None:
        """Take so many events, then stop; the places are stored after each."""
        chosen = TailOptions(**options)  # type: ignore[arg-type]
        async with tail(api, target, options=chosen, cursors=self.places.values()) as stream:
            async for event in stream:
                events -= 1
                match event:
                    case LogLine(ref=ref):
                        assert event.offset == len(self.logs[ref.job_id]), "a gap, or something twice"
                        self.logs[ref.job_id] += event.raw
                    case JobFinished(ref=ref, cursor=cursor):
                        self.done.add(ref.job_id)
                        self.places[ref] = str(cursor)
                    case _:
                        pass
                self.places |= {ref: str(cursor) for ref, cursor in stream.cursors.items()}
                if events <= 0:
                    return


def many(gitlab: FakeGitLab, count: int) -> list[FakeJob]:
    """Jobs that run for some minutes."""
    pipeline = gitlab.add_project("group/app").add_pipeline("main")
    jobs = [pipeline.add_job(f"job {n}", status="running") for n in range(count)]
    for job in jobs:
        log = b"".join(b"%s line %d\n" % (job.name.encode(), n) for n in range(120)) + b"no newline"
        job.script_trace(log, every=30, pushes=7)
    return jobs


@kinds
async def test_a_tail_that_is_stopped_again_and_again(connect: Connect, kind: str) -> None:
    """Stopped after any number of events, in another process each time: the logs join to the byte."""
    chance, collector = random.Random(kind), Collector()
    async with FakeGitLab(trace=kind) as gitlab:  # type: ignore[arg-type]
        jobs = many(gitlab, 5)
        target = f"group/app/-/pipelines/{jobs[0].pipeline.id}"
        for _ in range(60):
            async with connect(gitlab) as api:
                await collector.live(api, target, chance.randrange(1, 60))
        async with connect(gitlab) as api:
            await collector.live(api, target, 10_000)
        assert collector.done == {job.id for job in jobs}
        assert collector.logs == {job.id: job.trace for job in jobs}


async def test_only_what_was_taken_counts(connect: Connect) -> None:
    """What waits in the queue when a tail is left was not given, and comes again."""
    async with FakeGitLab() as gitlab, connect(gitlab) as api:
        job = gitlab.add_project("group/app").add_pipeline("main").add_job("job")
        job.start()
        job.append_trace(b"one\ntwo\nthree\nfour")
        async with tail(api, f"group/app/-/jobs/{job.id}") as stream:
            assert stream.cursors == {}
            async for event in stream:
                if isinstance(event, LogLine) and event.text == "two":
                    break
            (cursor,) = stream.cursors.values()
        assert (cursor.offset, cursor.tail) == (8, b"one\ntwo\n")
        assert list(stream.cursors.values()) == [cursor]
        job.finish("success")
        async with tail(api, f"group/app/-/jobs/{job.id}", cursors=[cursor]) as stream:
            lines = [event async for event in stream if isinstance(event, LogLine)]
        assert [(line.text, line.offset, line.number) for line in lines] == [("three", 8, 1), ("four", 14, 2)]
        assert stream.cursors == {}


async def test_lines_left_out_by_their_time_count(connect: Connect) -> None:
    """`since` leaves lines out, and the place is after them all the same."""
    collector = Collector()
    async with FakeGitLab() as gitlab, connect(gitlab) as api:
        job = gitlab.add_project("group/app").add_pipeline("main").add_job("job")
        job.start()
        old, new = b"2026-01-05T07:00:00.000000Z 00O old\n", b"2026-01-05T09:00:00.000000Z 00O new\n"
        job.append_trace(old + new)
        target = f"group/app/-/jobs/{job.id}"
        options = TailOptions(since=datetime(2026, 1, 5, 8, tzinfo=UTC))
        async with tail(api, target, options=options) as stream:
            async for event in stream:
                if isinstance(event, LogLine):
                    break
            (cursor,) = stream.cursors.values()
        assert cursor.offset == len(old + new)
        job.append_trace(b"more\n")
        job.finish("success")
        collector.logs[job.id] = old + new
        collector.places[cursor.ref] = str(cursor)
        await collector.live(api, target, 100)
        assert collector.logs[job.id] == job.trace


async def test_a_log_that_was_rewritten_meanwhile_is_a_reset(connect: Connect) -> None:
    """A cursor proves the past: a log that changed while nobody looked is not spliced."""
    async with FakeGitLab() as gitlab, connect(gitlab) as api:
        job = gitlab.add_project("group/app").add_pipeline("main").add_job("job")
        job.start()
        job.append_trace(b"a line\n" * 100)
        async with tail(api, f"group/app/-/jobs/{job.id}") as stream:
            async for event in stream:
                if isinstance(event, LogLine) and event.number == 50:
                    break
        job.replace_trace(b"another one\n" * 100)
        job.finish("success")
        options = TailOptions(settle=60.0)
        cursors = list(stream.cursors.values())
        async with tail(api, f"group/app/-/jobs/{job.id}", cursors=cursors, options=options) as stream:
            events = [event async for event in stream]
        (reset,) = [event for event in events if isinstance(event, TraceReset)]
        after = events[events.index(reset) :]
        assert reset.offset == 0
        assert b"".join(event.raw for event in after if isinstance(event, LogLine)) == job.trace


@pytest.mark.parametrize("resumed", [True, False])
async def test_late_bytes_of_a_job_that_has_just_ended(connect: Connect, resumed: bool) -> None:
    """A job that was over at first sight, but for a second only, may still get its last bytes."""
    async with FakeGitLab() as gitlab, connect(gitlab) as api:
        job = gitlab.add_project("group/app").add_pipeline("main").add_job("job")
        job.start()
        job.append_trace(b"first\n")
        target, cursors = f"group/app/-/jobs/{job.id}", []
        if resumed:
            async with tail(api, target) as stream:
                async for event in stream:
                    if isinstance(event, LogLine):
                        break
            cursors = list(stream.cursors.values())
        await api.clock.sleep(60.0)
        job.finish("success")
        asyncio.get_running_loop().call_later(2.0, job.append_trace, b"late\n")
        async with tail(api, target, cursors=cursors) as stream:
            lines = [event.text async for event in stream if isinstance(event, LogLine)]
        assert lines == (["late"] if resumed else ["first", "late"])


async def test_texts_that_are_no_cursors_are_refused(connect: Connect) -> None:
    """At once, not when the job is met."""
    async with FakeGitLab() as gitlab, connect(gitlab) as api:
        with pytest.raises(ValueError, match="not a trace cursor"):
            tail(api, "group/app", cursors=["nonsense"])
