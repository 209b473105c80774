"""Asking for the status of one job: soon at first, rarer while nothing changes, undeterred by hiccups."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from asyncjobs._api import Api
from asyncjobs._concurrency import Lane, first_error
from asyncjobs._errors import RequestError, ResponseError
from asyncjobs._options import TailOptions
from asyncjobs._tail.watch import JobWatch
from asyncjobs._trace.ending import Patience

T = TypeVar("T")

SLOWEST: Final = 10.0
"""Seconds between two questions about a job or pipeline whose status does not change."""

STRETCH: Final = 1.3


class StatusPace:
    """Waits between two questions for statuses.

    Args:
        chance: Random source of the client.
        options: Their `min_interval` and `max_interval` are kept.
    """

    def __init__(self, chance: random.Random, options: TailOptions) -> None:
        self._chance = chance
        self._min = options.min_interval
        self._max = options.max_interval
        self._delay = self._min

    def asked(self, *, changed: bool, over: bool = False, least: float = 0.0) -> float:
        """Give the wait after an answer.

        Args:
            changed: Something is not as it was.
            over: All that is asked for has ended; who does not take its lines may let it wait for hours.
            least: Seconds, kept within the intervals: the more is asked for.
        """
        shortest = min(self._max, max(self._min, least))
        self._delay = shortest if changed else max(shortest, self._delay * STRETCH)
        self._delay = min(self._delay, self._max if over else max(shortest, min(self._max, SLOWEST)))
        return self._delay * self._chance.uniform(0.9, 1.1)

    def failed(self) -> float:
        """Give the wait after an error: doubled, up to the longest interval."""
        self._delay = min(self._max, self._delay * 2)
        return self._delay * self._chance.uniform(0.5, 1.0)


async def watch_one(api: Api, watch: JobWatch, options: TailOptions) -> None:
    """Keep the status of one job up to date until it is final and its archived log is known, or hopeless.

    Once the job is known, transient errors never end it; 401, 403 and 404 three times in a row do.
    """
    pace, patience = StatusPace(api.random, options), Patience()
    while True:
        before = None if watch.job is None else watch.job.status
        try:
            job = await api.get_job(watch.ref.project, watch.ref.job_id, lane=Lane.TAIL)
        except (RequestError, ResponseError) as error:
            # A job that was never seen is not waited for: the call has its own retries behind it.
            if watch.job is None or patience.failed(error):
                watch.fail(error)
                return
            delay = pace.failed()
        else:
            patience.worked()
            watch.update(job)
            if job.status.is_final and job.trace_size_bytes is not None:
                return
            delay = pace.asked(changed=before != job.status, over=job.status.is_final)
        await api.clock.sleep(delay)


async def while_watched(api: Api, watch: JobWatch, options: TailOptions, work: Coroutine[Any, Any, T]) -> T:
    """Do *work*, which follows a job, and keep the job's status up to date meanwhile.

    What ends the one ends the other: work that waits for a status which nobody asks for would wait for ever.

    Raises:
        Exception: Whatever ended either of them, first.
    """
    error: BaseException
    try:
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(watch_one(api, watch, options), name=f"asyncjobs status {watch.ref}")
            result = await work
            asking.cancel()
        return result
    except BaseExceptionGroup as errors:
        error = first_error(errors)
    raise error
