"""What is known of one job's status, and waiting until it changes.

Somebody else asks GitLab; here the answer is kept and whoever waits is woken. State changes in plain
methods; only `wait` waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from asyncjobs._clock import Clock
from asyncjobs._errors import AsyncJobsError
from asyncjobs._models import Job, JobRef


async def sleep_unless(clock: Clock, seconds: float | None, wake: asyncio.Future[None]) -> None:
    """Sleep for *seconds* (None: for ever) or until *wake* is done, whichever comes first."""
    if wake.done() or (seconds is not None and seconds <= 0):
        # Give others their turn even when nothing is waited for.
        await asyncio.sleep(0)
        return
    if seconds is None:
        await wake
        return
    sleeper = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait([sleeper, wake], return_when=asyncio.FIRST_COMPLETED)
    finally:
        sleeper.cancel()


class Waker:
    """Sleeping that somebody else can cut short, also before it begins."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._wake: asyncio.Future[None] | None = None
        self._rung = False

    def ring(self) -> None:
        """Wake whoever sleeps, or else whoever is going to."""
        self._rung = True
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def sleep(self, seconds: float) -> None:
        """Sleep, or less when rung. One sleeper at a time."""
        self._wake = asyncio.get_running_loop().create_future()
        try:
            await sleep_unless(self._clock, 0.0 if self._rung else seconds, self._wake)
        finally:
            self._wake.cancel()
            self._wake, self._rung = None, False


def _statuses(job: Job) -> tuple[str, str | None]:
    return job.status, None if job.pipeline is None else job.pipeline.status


class JobWatch:
    """The newest record of one job."""

    def __init__(
        self, ref: JobRef, job: Job | None = None, *, on_done: Callable[[], None] | None = None
    ) -> None:
        self._on_done = on_done
        self.ref = ref
        self.job = job
        self.first_job = job
        """The record the tail saw first: tells whether it was over before anybody looked."""
        self.failure: AsyncJobsError | None = None
        self._done = asyncio.Event()
        self._wake: asyncio.Future[None] | None = None

    @property
    def is_done(self) -> bool:
        """Nobody follows it any more."""
        return self._done.is_set()

    def done(self) -> None:
        """Say that nobody follows it any more."""
        self._done.set()
        if self._on_done is not None:
            self._on_done()

    async def finished(self) -> None:
        """Wait until nobody follows it any more."""
        await self._done.wait()

    def update(self, job: Job) -> None:
        """Keep a newer record; wake whoever waits when the status of job or pipeline is another."""
        changed = self.job is None or _statuses(self.job) != _statuses(job)
        self.first_job = self.first_job or job
        self.job = job
        if changed:
            self._ring()

    def fail(self, error: AsyncJobsError) -> None:
        """The job's status cannot be had any more."""
        self.failure = error
        self._ring()

    def _ring(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def wait(self, clock: Clock, seconds: float | None) -> None:
        """Wait for *seconds* (None: for ever), or less when the status changes. One waiter at a time."""
        if self.failure is not None:
            return
        self._wake = asyncio.get_running_loop().create_future()
        try:
            await sleep_unless(clock, seconds, self._wake)
        finally:
            self._wake.cancel()
            self._wake = None

    async def known(self, clock: Clock) -> Job:
        """Wait for the first record.

        Raises:
            AsyncJobsError: It cannot be had.
        """
        while self.job is None:
            if self.failure is not None:
                raise self.failure
            await self.wait(clock, None)
        return self.job
