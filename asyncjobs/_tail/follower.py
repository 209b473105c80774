"""The life of one tail: wait for the job to start, poll its trace at the runner's pace, end it rightly.

The decisions are in `asyncjobs._trace`; here they are carried out in order. A tail ends by returning the
job it read to the last byte there is (now, when it does not follow), or by raising; it never just stops.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import attrs

from asyncjobs._api import Api
from asyncjobs._errors import RequestError, ResponseError, TraceError
from asyncjobs._models import Job, TraceChunk
from asyncjobs._options import TailOptions
from asyncjobs._tail.reads import Polled, memory_of, poll, quietly
from asyncjobs._tail.watch import JobWatch
from asyncjobs._trace.asking import Reset, Result
from asyncjobs._trace.ending import Ending, Patience, Phase, long_over, phase_of
from asyncjobs._trace.pace import Pace
from asyncjobs._trace.place import Place
from asyncjobs._trace.reading import TraceReader

PERSIST_SECONDS = 10.0
"""How long a log has to contradict what was delivered before that is believed."""

CROWD_POLLS_PER_MINUTE = 6000
"""Polls of all tails of one stream together, at most on average, when the client sets no limit of its own."""

POLLS_PART = 0.8
"""Part of the client's own limit that polls may take; statuses and other calls need the rest."""

LONGEST_ASKED_WAIT = 3600.0
"""Seconds; a server that asks for more silence than this is asked again after it."""

DOUBT_DELAY = 4.0
"""Longest wait, in seconds, between polls while there is a contradiction."""


class Sink(Protocol):
    """Where a tail's bytes go."""

    async def chunk(self, chunk: TraceChunk) -> None:
        """Take the next bytes; waiting here holds the tail back."""
        ...

    async def reset(self, reset: Reset) -> None:
        """Bytes after `reset.offset` were given before and are no longer true; others follow."""
        ...


class Follower:
    """Follows the trace of one job whose status somebody else keeps up to date in *watch*.

    Args:
        api: The client's endpoints.
        watch: The job's newest record.
        options: Intervals and settling.
        place: Where to begin; None for the start.
        crowd: How many tails poll beside this one, itself included; they share the budget evenly.
    """

    def __init__(
        self,
        api: Api,
        watch: JobWatch,
        *,
        options: TailOptions,
        place: Place | None = None,
        crowd: Callable[[], int] = lambda: 1,
    ) -> None:
        self._api = api
        self._crowd = crowd
        self._watch = watch
        # Whoever stops at the present end does not wait for late bytes either.
        self._options = options if options.follow else attrs.evolve(options, settle=0.0)
        self._pace = Pace(api.random, min_interval=options.min_interval, max_interval=options.max_interval)
        self._patience = Patience()
        self._ending: Ending | None = None
        self.reader = TraceReader(place, memory_of(api))
        self.polls = 0
        self.wire_bytes = 0
        """Body bytes of the polls that went well, as they crossed the network."""

    async def run(self, sink: Sink) -> Job:
        """Follow to the end and give the job's last record.

        A job that waits for a person or a date is given as it is, unless the options say to wait; with
        `follow=False` every job is, once its log was read as far as it goes now.

        Raises:
            AsyncJobsError: The trace or the status can no longer be read, or never becomes stable.

        Cancellation: what was given to the sink is what the reader's place says.
        """
        await self._watch.known(self._api.clock)
        while True:
            if self._watch.failure is not None:
                raise self._watch.failure
            # The status is known before the read begins: only then does its end mean the end.
            job = self._watch.job
            assert job is not None
            phase = phase_of(job, wait_for_start=self._options.wait_for_start)
            if phase in {Phase.BLOCKED, Phase.EMPTY}:
                return job
            if phase is Phase.WAITING:
                if not self._options.follow:
                    return job
                await self._watch.wait(self._api.clock, None)
                continue
            # Without following, the present end is judged like a last one: by a read nothing contradicts.
            final = phase is Phase.FINAL or not self._options.follow
            delay = await self._read(job, sink, final=final)
            if delay is None:
                return job
            await self._wait(delay, final=final)

    async def _wait(self, delay: float, *, final: bool) -> None:
        if final:
            # Updates of an ended job bring the size of its archived log, and no hurry.
            await self._api.clock.sleep(delay)
        else:
            await self._watch.wait(self._api.clock, delay)

    async def _read(self, job: Job, sink: Sink, *, final: bool) -> float | None:
        """Poll once; give the seconds until the next poll, or None at the end."""
        if not final and self._api.exchange.budget.holds_back_poll():
            return self._pace.failed()
        asked = self._api.clock.monotonic()
        self.polls += 1
        persist = PERSIST_SECONDS if self._options.settle else 0.0
        outcome = await quietly(
            self._api, poll(self._api, self._watch.ref, self.reader, sink.chunk, job=job, persist=persist)
        )
        if not isinstance(outcome, Polled):
            return self._failed(outcome, final=final)
        self._patience.worked()
        self.wire_bytes += outcome.wire_bytes
        if outcome.reset is not None:
            await sink.reset(outcome.reset)
        now = self._api.clock.monotonic()
        if final:
            return self._settle(outcome, job, now)
        if outcome.result is Result.MORE or outcome.reset is not None:
            return 0.0
        delay = self._pace.polled(asked, now, grew=outcome.new_bytes > 0, floor=self._floor())
        return min(delay, DOUBT_DELAY) if self.reader.in_doubt else delay

    def _floor(self) -> float:
        """Seconds between two polls of this tail, so that all tails together leave room in the budget."""
        limit = self._api.exchange.budget.limits.requests_per_minute
        per_minute = CROWD_POLLS_PER_MINUTE if limit is None else POLLS_PART * limit
        return self._crowd() * 60.0 / per_minute

    def _failed(self, error: RequestError | ResponseError, *, final: bool) -> float:
        if self._patience.failed(error):
            raise error
        if final:
            step = self._end().trouble(str(error))
            if step.failed is not None:
                raise error
        asked = error.retry_after if isinstance(error, ResponseError) else None
        return max(self._pace.failed(), min(asked or 0.0, LONGEST_ASKED_WAIT))

    def _end(self) -> Ending:
        if self._ending is None:
            first, settle = self._watch.first_job, self._options.settle
            now = self._api.exchange.budget.server_time(self._api.clock.monotonic())
            seen_over = first is not None and long_over(first, now, settle)
            self._ending = Ending(settle=settle, over_at_first_sight=seen_over)
        return self._ending

    def _settle(self, outcome: Polled, job: Job, now: float) -> float | None:
        if outcome.reset is not None:
            return 0.0
        newest = self._watch.job or job
        step = self._end().read(
            outcome.result,
            now,
            offset=self.reader.place.offset,
            job=newest,
            in_doubt=self.reader.in_doubt,
            certain=outcome.certain,
        )
        if step.failed is not None:
            raise TraceError(f"the trace of {self._watch.ref} is not whole: {step.failed}")
        if step.done:
            return None
        return min(step.delay, DOUBT_DELAY) if self.reader.in_doubt else step.delay
