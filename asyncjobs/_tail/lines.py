"""From a tail's bytes to events: lines with their job's name, resets, and a cursor that fits them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

from asyncjobs._models import JobRef, LogLine, TailEvent, TraceChunk, TraceCursor, TraceReset
from asyncjobs._tail.queue import EventQueue
from asyncjobs._trace.asking import Reset
from asyncjobs._trace.given import Entered, LeftOut
from asyncjobs._trace.lines import LineParser, TraceLine

SLICE_BYTES: Final = 16 << 10
"""So much is cut into lines at a time: lines take several times the memory of their bytes."""

EVENT_BYTES: Final = 200
"""What an event weighs beside its bytes, roughly."""

Item = TailEvent | Entered | LeftOut
"""What passes through the queue of a tail; events are all that comes out of the tail."""


class LineSink:
    """Puts the lines of one job into the queue of a tail.

    Args:
        queue: Where all jobs of the tail meet; full, it holds this job back.
        ref: The job.
        job_name: Goes into each line.
        place: How far the log was read; asked where it is entered, and again after each reset.
        since: Leave out lines stamped before this.
    """

    def __init__(
        self,
        queue: EventQueue[Item],
        ref: JobRef,
        job_name: str,
        *,
        place: Callable[[], TraceCursor],
        since: datetime | None = None,
    ) -> None:
        self._queue = queue
        self._ref = ref
        self._name = job_name
        self._place = place
        self._since = since
        self._parser = LineParser(offset=place().offset)

    async def enter(self) -> None:
        """Say where the log is entered, before anything of it."""
        await self._queue.put([Entered(self._place())], EVENT_BYTES)

    async def chunk(self, chunk: TraceChunk) -> None:
        """Deliver the lines that are complete with these bytes."""
        data = chunk.data
        for at in range(0, len(data), SLICE_BYTES):
            piece = data[at : at + SLICE_BYTES]
            await self._put(self._parser.feed(piece), len(piece))

    async def reset(self, reset: Reset) -> None:
        """Deliver what is left of the old text, say that it is no longer true, begin anew."""
        await self.finish()
        event = TraceReset(self._ref, reset.offset, reset.reason)
        await self._queue.put([Entered(self._place()), event], EVENT_BYTES)
        self._parser = LineParser(offset=reset.offset, number=self._parser.number)

    async def finish(self) -> None:
        """Deliver the last line, which may have no newline."""
        await self._put(self._parser.finish(), 0)

    async def _put(self, lines: list[TraceLine], weight: int) -> None:
        if not lines:
            return
        ref, name, since = self._ref, self._name, self._since
        events: list[Item] = []
        for line in lines:
            if since is not None and line.timestamp is not None and line.timestamp < since:
                events.append(LeftOut(ref, line.raw))
                continue
            events.append(
                LogLine(
                    ref,
                    name,
                    line.raw,
                    line.text,
                    line.offset,
                    line.number,
                    line.timestamp,
                    line.stream,
                    line.section,
                )
            )
        await self._queue.put(events, weight + EVENT_BYTES * len(events))
