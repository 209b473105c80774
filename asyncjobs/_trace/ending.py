"""When a trace has ended: status first, then trace, then once more.

A runner sends every remaining byte before it reports the final status, so a read that *began* after a
final status was seen is complete on the normal path. Jobs ended by the server, lagging replicas and
late archiving make exceptions, so the trace is read again until nothing changes for a while. Pure: statuses
and times come in, the next step goes out.

GitLab: app/services/ci/update_build_state_service.rb, app/models/concerns/ci/has_status.rb, issue 538809.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

import attrs

from asyncjobs._errors import AsyncJobsError, CertificateError, ForbiddenAddressError, ResponseError
from asyncjobs._models import Job, JobStatus
from asyncjobs._trace.asking import Result

DEFINITE_ERRORS: Final = 3
"""How often in a row 401, 403, 404 and their like have to come before they are believed."""

PASSING_STATUSES: Final = frozenset({408, 409, 425, 429})
"""4xx answers that say "not now" rather than "no"."""

FINAL_ERRORS: Final = 12
"""Failed or doubtful reads in a row after the end of a job before it is given up."""

FIRST_SETTLE: Final = 0.3
"""Part of the settle time after which the second read comes."""

PATIENCE: Final = 3.0
"""How many settle times a log shorter than its archived size is waited for."""


class Phase(Enum):
    """What a job's status means for its trace."""

    WAITING = "waiting"
    """Not started: only the status is worth asking for."""
    RUNNING = "running"
    """The trace may grow."""
    BLOCKED = "blocked"
    """Waits for a person or a date, and nobody asked us to wait too."""
    EMPTY = "empty"
    """Over without ever having run."""
    FINAL = "final"
    """Over; the rest of the trace is still to be read."""


def phase_of(job: Job, *, wait_for_start: bool = False) -> Phase:
    """Read a job's phase from its record.

    A status we have never met counts as running: its trace is read and nothing is declared over.
    """
    status = job.status
    if status.is_final:
        never_ran = status is JobStatus.SKIPPED and job.started_at is None
        return Phase.EMPTY if never_ran else Phase.FINAL
    if status.is_executing or not status.is_known:
        return Phase.RUNNING
    if wait_for_start:
        return Phase.WAITING
    if status.is_blocked:
        return Phase.BLOCKED
    if status is JobStatus.CREATED and job.pipeline is not None and job.pipeline.status.is_blocked:
        # It stands behind a manual or scheduled job, and nothing in its pipeline moves by itself.
        return Phase.BLOCKED
    return Phase.WAITING


def long_over(job: Job, server_now: float, settle: float) -> bool:
    """Whether a job ended so long ago that nothing late can follow in its trace.

    Args:
        job: As it was first seen.
        server_now: Seconds since the epoch on the server's clock.
        settle: Seconds in which late bytes are looked for.
    """
    if not job.status.is_final:
        return False
    return job.finished_at is None or server_now - job.finished_at.timestamp() >= settle


@attrs.frozen
class Step:
    """What to do after a read that began when the job was over."""

    done: bool = False
    delay: float = 0.0
    """Seconds until the next read, when not done."""
    failed: str | None = None
    """Why the trace cannot be called complete, when it cannot."""


class Ending:
    """Decides after each read of an ended job's trace whether it was the last.

    Args:
        settle: Seconds in which the trace is read again until it is stable; 0 believes the first read
            that proves its end.
        over_at_first_sight: The job was long over when it was first seen, so late bytes are unlikely.
    """

    def __init__(self, *, settle: float, over_at_first_sight: bool = False) -> None:
        self._settle = settle
        self._wanted = 1 if over_at_first_sight else 2
        self._began: float | None = None
        self._stable = 0
        self._troubles = 0

    def read(
        self, result: Result, now: float, *, offset: int, job: Job, in_doubt: bool, certain: bool = True
    ) -> Step:
        """Take the outcome of a read that began after the end.

        Args:
            result: What it brought.
            now: Seconds, monotonic.
            offset: Bytes delivered in all.
            job: The job's newest record.
            in_doubt: The answers contradict what was delivered.
            certain: The answer proves that there was nothing after it.
        """
        if self._began is None:
            self._began = now
        if result is Result.MORE:
            return Step()
        if in_doubt or result not in {Result.SAME, Result.GROWN}:
            contradict = "its answers contradict each other"
            return self.trouble(contradict if in_doubt else "none of its answers is proven to be whole")
        self._troubles = 0
        self._stable = self._stable + 1 if result is Result.SAME else 0
        size = job.trace_size_bytes
        if size == offset:
            return Step(done=True)
        elapsed = now - self._began
        if size is not None and offset < size:
            return Step() if result is Result.GROWN else self._too_short(size, offset, elapsed)
        if self._settle == 0:
            # New bytes of which nobody says that they are the last: at once for what follows them.
            return Step(done=certain or self._stable > 0)
        if self._stable >= self._wanted or (self._stable and elapsed >= self._settle):
            return Step(done=True)
        return Step(delay=self._next(elapsed))

    def trouble(self, what: str) -> Step:
        """Take a read that failed or proved nothing."""
        self._troubles += 1
        self._stable = 0
        if self._troubles >= FINAL_ERRORS:
            return Step(failed=what)
        return Step(delay=max(1.0, FIRST_SETTLE * self._settle))

    def _too_short(self, size: int, offset: int, elapsed: float) -> Step:
        if elapsed >= PATIENCE * self._settle:
            return Step(failed=f"{offset} bytes could be read, and GitLab's record says {size}")
        return Step(delay=max(1.0, self._next(elapsed)))

    def _next(self, elapsed: float) -> float:
        first = max(0.5, FIRST_SETTLE * self._settle)
        return first if elapsed < first else max(first, self._settle - elapsed)


def is_definite(error: AsyncJobsError) -> bool:
    """Whether an error is GitLab's answer to the question, not trouble on the way."""
    if isinstance(error, CertificateError | ForbiddenAddressError):
        return True
    return (
        isinstance(error, ResponseError)
        and 400 <= error.status < 500
        and error.status not in PASSING_STATUSES
    )


class Patience:
    """Counts failed polls: definite answers are believed after a few, the rest never end a running job."""

    def __init__(self) -> None:
        self._definite = 0

    def failed(self, error: AsyncJobsError) -> bool:
        """Take an error; True means that going on is pointless."""
        self._definite = self._definite + 1 if is_definite(error) else 0
        return self._definite >= DEFINITE_ERRORS

    def worked(self) -> None:
        """Take a success."""
        self._definite = 0
