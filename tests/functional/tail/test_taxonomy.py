"""Everything a trace can do, on each kind of server: bytes emitted are bytes written, or a reset says so.

One row per way a log behaves: grows, stays, shrinks, is rewritten, gets a marker, is erased or forbidden;
its job is retried or ends between two polls; bytes come late; and text that is hard to cut.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

import attrs
import pytest

from asyncjobs._api import Api
from asyncjobs._models import JobFinished, JobRef, JobRetried, LogLine, TailFailed, TraceReset
from asyncjobs._options import TailOptions
from asyncjobs._tail import tail
from asyncjobs.testing import FakeGitLab, FakeJob
from tests.functional.tail.conftest import Connect


@attrs.define
class Outcome:
    """What a tail gave."""

    raw: bytearray = attrs.field(factory=bytearray)
    text: list[str] = attrs.field(factory=list)
    resets: list[str] = attrs.field(factory=list)
    retried: int = 0
    end: str = ""
    parts: int = 0


async def watch(api: Api, job: FakeJob) -> Outcome:
    """Tail one job, putting its lines together as the resets say."""
    out = Outcome()
    base = 0
    async with tail(api, JobRef(job.project_id, job.id), options=TailOptions()) as events:
        async for event in events:
            match event:
                case LogLine():
                    assert event.offset == base + len(out.raw)
                    out.raw += event.raw
                    out.text.append(event.text)
                    out.parts += len(event.raw) > 500_000
                case TraceReset():
                    out.resets.append(event.reason)
                    del out.raw[event.offset :]
                case JobRetried():
                    out.retried += 1
                    base, out.raw = 0, bytearray()
                case JobFinished():
                    assert event.cursor.offset == len(out.raw)
                    out.end = str(event.job.status)
                case TailFailed():
                    out.end = type(event.error).__name__
    return out


TRACE: dict[str, Literal["window", "range", "whole"]] = {
    "window": "window",
    "range": "range",
    "whole": "whole",
}


def later(seconds: float, deed: Callable[..., object], *args: object) -> None:
    """Something happens to the job after a while."""
    asyncio.get_running_loop().call_later(seconds, lambda: deed(*args))


LOG = b"".join(b"line %d of the log\n" % n for n in range(2000))
STAMPED = b"".join(
    b"2026-01-01T00:00:%02d.000000Z 0%d%s%s\n" % (n % 60, n % 2, b"O" if n % 3 else b"E", rest)
    for n in range(600)
    for rest in [b" full line", b" 10%\r", b"+20%\r", b"+done", b" next"]
)


def grow(job: FakeJob) -> None:
    """Steps of a runner."""
    job.script_trace(LOG, every=30, pushes=7)


def equal(job: FakeJob) -> None:
    """Nothing comes for almost an hour."""
    job.append_trace(LOG)
    later(3000, job.finish)


def shrink(job: FakeJob) -> None:
    """The end is lost for good."""
    job.append_trace(LOG)
    later(40, job.replace_trace, LOG[:20_000])
    later(300, job.finish)


def shrink_once(job: FakeJob) -> None:
    """The end is missing for a moment."""
    job.append_trace(LOG)
    later(40, job.replace_trace, LOG[:20_000])
    later(46, job.replace_trace, LOG)
    later(300, job.finish)


def rewritten(job: FakeJob) -> None:
    """The beginning becomes another."""
    job.append_trace(LOG)
    later(40, job.replace_trace, b"another beginning\n" + LOG)
    later(300, job.finish)


def marker(job: FakeJob) -> None:
    """A line stands where a chunk was lost."""
    job.append_trace(LOG)
    later(40, job.replace_trace, LOG[:30_000] + b"\n[lost a chunk]\n" + LOG[31_000:])
    later(300, job.finish)


def erased(job: FakeJob) -> None:
    """Somebody erases the job."""
    job.append_trace(LOG)
    later(40, job.finish)
    later(42, job.erase)


def vanished(job: FakeJob) -> None:
    """The log is empty from some moment on."""
    job.append_trace(LOG)
    later(40, job.replace_trace, b"")
    later(300, job.finish)


def retried(job: FakeJob) -> None:
    """A failed job is tried again."""

    def again() -> None:
        job.retry().script_trace(LOG, every=10, pushes=3)

    job.script_trace(b"first attempt\n", every=10, pushes=1, finish="failed")
    later(15, again)


def ended_between_polls(job: FakeJob) -> None:
    """The last words and the end come together."""
    job.append_trace(LOG)
    later(300, job.append_trace, b"the last words\n")
    later(300.001, job.finish, "failed")


def late_bytes(job: FakeJob) -> None:
    """A runner is late."""
    job.append_trace(LOG)
    later(40, job.finish)
    later(44, job.append_trace, b"late\n")


def split_text(job: FakeJob) -> None:
    """Every push cuts characters, escapes or CR LF."""
    job.script_trace("é€😀\x1b[32mgrün\x1b[0m\r\n".encode() * 500, every=5, pushes=97)


def nuls(job: FakeJob) -> None:
    """Bytes that are no text."""
    job.script_trace(b"\0\0\n\0x\0\n\xff\xfe\n" * 300, every=5, pushes=13)


def stamped(job: FakeJob) -> None:
    """Timestamps, streams and continuations."""
    job.script_trace(STAMPED, every=5, pushes=31)


def long_line(job: FakeJob) -> None:
    """A line of 5 MB."""
    job.script_trace(b"x" * 5_000_000 + b"\nend", every=10, pushes=5)


def no_newline(job: FakeJob) -> None:
    """A log without a newline."""
    job.script_trace(b"all on one line", every=5, pushes=5)


def canceled(job: FakeJob) -> None:
    """The runner writes its last line after a cancel."""
    job.script_trace(LOG, every=10, pushes=50)
    later(100, job.cancel)


ROWS: list[tuple[Callable[[FakeJob], None], list[str], str]] = [
    (grow, [], "success"),
    (equal, [], "success"),
    (shrink, ["shrunk"], "success"),
    (shrink_once, [], "success"),
    (rewritten, ["rewritten"], "success"),
    (marker, ["rewritten"], "success"),
    (erased, ["erased"], "success"),
    (vanished, ["erased"], "success"),
    (retried, [], "success"),
    (ended_between_polls, [], "failed"),
    (late_bytes, [], "success"),
    (split_text, [], "success"),
    (nuls, [], "success"),
    (stamped, [], "success"),
    (long_line, [], "success"),
    (no_newline, [], "success"),
    (canceled, [], "canceled"),
]


@pytest.mark.parametrize("kind", ["window", "range", "whole"])
@pytest.mark.parametrize(("row", "resets", "end"), ROWS, ids=lambda value: getattr(value, "__name__", ""))
async def test_row(
    connect: Connect, kind: str, row: Callable[[FakeJob], None], resets: list[str], end: str
) -> None:
    """What was emitted is what was written; a change of the past is announced once; the end is the job's."""
    async with FakeGitLab(trace=TRACE[kind]) as gitlab, connect(gitlab) as api:
        pipe = gitlab.add_project("group/app").add_pipeline("main")
        job = pipe.add_job("test", status="running")
        row(job)
        out = await watch(api, job)
        assert out.end == end
        assert out.resets == resets
        assert bytes(out.raw) == pipe.jobs[-1].trace
        assert out.retried == (row is retried)
        if row is long_line:
            assert out.parts >= 4


@pytest.mark.parametrize("kind", ["window", "range", "whole"])
async def test_forbidden(connect: Connect, kind: str) -> None:
    """A log that may not be read is a failure, although its job may be."""
    async with FakeGitLab(trace=TRACE[kind]) as gitlab:
        project = gitlab.add_project("group/app", visibility="public", members={})
        job = project.add_pipeline("main").add_job("test", status="running", trace=b"secret\n", debug=True)
        async with connect(gitlab) as api:
            out = await watch(api, job)
        assert (out.end, bytes(out.raw)) == ("ForbiddenError", b"")
