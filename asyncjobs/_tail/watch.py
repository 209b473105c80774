"""What is known of one job's status, and waiting until it changes.

Somebody else asks GitLab; here the answer is kept and whoever waits is woken. State changes in plain
methods; only `wait` waits.
"""

from __future__ import annotations

import asyncio

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


class JobWatch:
    """The newest record of one job."""

    def __init__(self, ref: JobRef, job: Job | None = None) -> None:
        self.ref = ref
        self.job = job
        self.first_job = job
        """The record the tail saw first: tells whether it was over before anybody looked."""
        self.failure: AsyncJobsError | None = None
        self.is_done = False
        """Nobody follows it any more."""
        self._wake: asyncio.Future[None] | None = None

    def update(self, job: Job) -> None:
        """Keep a newer record; wake whoever waits when the status is another."""
        changed = self.job is None or self.job.status != job.status
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
