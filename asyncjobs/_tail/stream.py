"""One job's trace as a stream of chunks: `follow_trace`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Final, Self

from asyncjobs._api import Api
from asyncjobs._errors import ClosedError
from asyncjobs._models import Job, JobRef, TraceChunk, TraceCursor, TraceReset, as_cursor
from asyncjobs._options import TailOptions
from asyncjobs._tail.follower import Follower
from asyncjobs._tail.queue import EventQueue
from asyncjobs._tail.statuses import while_watched
from asyncjobs._tail.watch import JobWatch
from asyncjobs._trace.asking import Reset
from asyncjobs._trace.place import Place

BUFFER_BYTES: Final = 64 << 10
"""Bytes that may wait for a slow consumer before reading pauses; one piece more may be in the queue, and one
in hand."""

_OUTSIDE: Final = "a trace stream is read inside its `async with`"


class TraceStream:
    """The bytes of one trace, from a cursor to the end. Use it as `async with`, then iterate it once.

    Joined, the chunks are the trace; a chunk whose `offset` is not where the last one ended begins after a
    reset, which is then in `resets` already. Iteration ends when the job is over and every byte was given,
    and raises when the trace can no longer be read. With `follow=False` it ends at the present end of the
    trace; `job` then says whether the job is over.
    """

    def __init__(
        self, api: Api, ref: JobRef, *, cursor: TraceCursor | None = None, options: TailOptions | None = None
    ) -> None:
        if cursor is not None and cursor.ref.job_id != ref.job_id:
            raise ValueError(f"this cursor is of job {cursor.ref.job_id}, not of {ref.job_id}")
        self.ref = ref
        self.resets: list[TraceReset] = []
        """Every time the past of the trace changed, in order."""
        self._api = api
        self._options = options or TailOptions()
        self._watch = JobWatch(ref)
        self._follower = Follower(api, self._watch, options=self._options, place=Place.from_cursor(cursor))
        self._given = cursor or TraceCursor(ref)
        self._queue: EventQueue[tuple[TraceChunk | TraceReset, TraceCursor]] = EventQueue(BUFFER_BYTES)
        self._runner: asyncio.Task[None] | None = None
        self._job: Job | None = None
        self._ended = False

    @property
    def cursor(self) -> TraceCursor:
        """The place after the last chunk that iteration gave: start there again, and the bytes join."""
        return self._given

    @property
    def job(self) -> Job | None:
        """The job's newest record: the final one once iteration has ended, None before the first is known."""
        return self._job or self._watch.job

    async def __aenter__(self) -> Self:
        if self._runner is not None:
            raise ClosedError("a trace stream is entered once; ask for a new one")
        self._runner = asyncio.create_task(self._run(), name=f"asyncjobs follow {self.ref}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = True
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.wait([self._runner])

    def __aiter__(self) -> AsyncIterator[TraceChunk]:
        return self

    async def __anext__(self) -> TraceChunk:
        """The next chunk.

        Raises:
            RequestError, ResponseError, TraceError: The trace can no longer be read; `cursor` says how far
                it was.
            ClosedError: The context was left, or never entered.

        Cancellation: no chunk is lost; the next call gives it.
        """
        if self._ended or self._runner is None:
            raise ClosedError(_OUTSIDE)
        while True:
            try:
                item, cursor = await self._queue.get()
            except StopAsyncIteration:
                if self._ended:  # while another task waited here: for it this is no end
                    raise ClosedError(_OUTSIDE) from None
                raise
            self._given = cursor
            if isinstance(item, TraceChunk):
                return item
            self.resets.append(item)

    async def _run(self) -> None:
        error: BaseException | None = None
        try:
            self._job = await while_watched(self._api, self._watch, self._options, self._follower.run(self))
        except Exception as failure:  # noqa: BLE001 -- whatever it is, it is raised where the chunks are taken
            error = failure
        finally:
            self._queue.close(error)

    async def chunk(self, chunk: TraceChunk) -> None:
        """Hand bytes to the consumer (called by the follower)."""
        await self._queue.put([(chunk, self._follower.reader.place.cursor(self.ref))], len(chunk.data))

    async def reset(self, reset: Reset) -> None:
        """Hand a reset to the consumer (called by the follower)."""
        event = TraceReset(self.ref, reset.offset, reset.reason)
        await self._queue.put([(event, self._follower.reader.place.cursor(self.ref))], 0)


def follow_trace(
    api: Api, ref: JobRef, *, cursor: TraceCursor | str | None = None, options: TailOptions | None = None
) -> TraceStream:
    """Follow the trace of one job to its end.

    Args:
        api: The client's endpoints.
        ref: The job.
        cursor: Where an earlier stream stopped, itself or as text; None begins at the start.
        options: Intervals, settling, and whether to wait for manual and scheduled jobs.

    Raises:
        ValueError: A cursor of another job, or text that is no cursor.

    Cancellation: leaving the context stops everything; `cursor` stays valid.
    GitLab: https://docs.gitlab.com/api/jobs/#retrieve-a-job-log-file
    """
    return TraceStream(api, ref, cursor=None if cursor is None else as_cursor(cursor), options=options)
