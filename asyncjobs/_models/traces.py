"""What reading a job's trace gives: chunks of bytes, a cursor to go on from, and the events of a tail.

GitLab calls a job's log its trace; the API page is https://docs.gitlab.com/api/jobs/#retrieve-a-job-log-file
"""

from __future__ import annotations

import re
from datetime import datetime

import attrs

from asyncjobs._errors import AsyncJobsError
from asyncjobs._models.jobs import Job
from asyncjobs._models.refs import JobRef


@attrs.frozen
class TraceChunk:
    """Bytes of a trace and where they stand in it."""

    offset: int
    """Position of the first byte in the whole trace."""
    data: bytes

    @property
    def end(self) -> int:
        """Position just after the last byte."""
        return self.offset + len(self.data)


_CURSOR = re.compile(
    r"asyncjobs-trace:1:(?P<offset>[0-9]{1,18}):(?P<crc>[0-9a-f]{8}):(?P<tail>(?:[0-9a-f]{2})*)"
    r":(?P<project>.+)/-/jobs/(?P<job>[0-9]{1,18})"
)

CURSOR_TAIL_BYTES = 64
"""How many of the last delivered bytes a cursor carries, to recognise the place again."""


@attrs.frozen
class TraceCursor:
    """A place in a trace, and enough of what came before to prove that it is still the same trace.

    `str(cursor)` and `TraceCursor.parse(text)` round-trip, so a process may stop anywhere and
    another may go on without a gap. The text holds the last delivered bytes of the log in hex:
    treat it with the same care as the log.
    """

    ref: JobRef
    offset: int = attrs.field(default=0, validator=attrs.validators.ge(0))
    """Bytes delivered so far."""
    crc: int = 0
    """CRC-32 of all of them; 0 when reading began in the middle, as `tail_lines` does: then `tail` alone
    proves the place."""
    tail: bytes = attrs.field(default=b"", validator=attrs.validators.max_len(CURSOR_TAIL_BYTES))
    """The last of them, at most `CURSOR_TAIL_BYTES`."""

    def __str__(self) -> str:
        return f"asyncjobs-trace:1:{self.offset}:{self.crc:08x}:{self.tail.hex()}:{self.ref}"

    @classmethod
    def parse(cls, text: str) -> TraceCursor:
        """Read what `str` of a cursor wrote.

        Raises:
            ValueError: Not the text of a cursor, or one that contradicts itself.
        """
        # Never repeated in the message: it may hold the end of a log.
        refused = ValueError("not a trace cursor: expected what str() of a TraceCursor gave")
        if not isinstance(text, str):
            raise refused
        match = _CURSOR.fullmatch(text.strip())
        if match is None:
            raise refused
        tail, offset = bytes.fromhex(match["tail"]), int(match["offset"])
        if len(tail) != min(offset, CURSOR_TAIL_BYTES):
            raise refused
        try:
            ref = JobRef(match["project"], int(match["job"]))
        except ValueError:
            raise refused from None
        return cls(ref, offset, int(match["crc"], 16), tail)


def as_cursor(cursor: TraceCursor | str) -> TraceCursor:
    """A cursor, or the one that a text stands for.

    Raises:
        ValueError: Not the text of a cursor.
    """
    return cursor if isinstance(cursor, TraceCursor) else TraceCursor.parse(cursor)


@attrs.frozen
class JobStarted:
    """A job of the tail is being followed from here on."""

    ref: JobRef
    job: Job


@attrs.frozen
class LogLine:
    """One line of one job's trace."""

    ref: JobRef
    job_name: str
    raw: bytes
    """The bytes as sent, newline included; joined over a job they are the trace."""
    text: str
    """Decoded, without section markers, timestamp header and newline; progress by CR collapsed."""
    offset: int
    """Position of the first byte of `raw` in the trace."""
    number: int
    """Counts the lines of this job from 1."""
    timestamp: datetime | None
    """When the line began, on runners that stamp their lines."""
    stream: str | None
    """`stdout` or `stderr`, on runners that stamp their lines."""
    section: str | None
    """Name of the innermost open section, or None outside of any."""


@attrs.frozen
class JobRetried:
    """Somebody retried the job; the tail goes on with the new one."""

    ref: JobRef
    new_ref: JobRef


@attrs.frozen
class TraceReset:
    """The past of a trace changed or vanished: what was delivered before `offset` no longer stands there."""

    ref: JobRef
    offset: int
    """Where delivery goes on."""
    reason: str
    """One word: `erased`, `rewritten`, `shrunk`."""


@attrs.frozen
class JobFinished:
    """The job is over and every byte of its trace was delivered."""

    ref: JobRef
    job: Job
    cursor: TraceCursor


@attrs.frozen
class TailPaused:
    """Everything there is now was delivered; the job goes on. Only with `TailOptions.follow=False`."""

    ref: JobRef
    job: Job
    """Its record before the read: a status that is not final."""
    cursor: TraceCursor
    """Where to go on from."""


@attrs.frozen
class TailFailed:
    """This job can no longer be followed; the others go on."""

    ref: JobRef
    error: AsyncJobsError
    cursor: TraceCursor | None
    """Where to go on from, or None when nothing was read."""


TailEvent = JobStarted | LogLine | JobRetried | TraceReset | JobFinished | TailPaused | TailFailed
