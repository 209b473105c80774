"""Says when a server stops answering while a log is followed, and when it answers again.

A tail goes on trying for minutes, which is right, and looks like a job that has nothing to say, which
is not. Reads the client's own counts; sends nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import attrs

import asyncjobs

LOOK_SECONDS = 15.0
"""How often is looked; a job's status is asked for more often than this, so an answer would have come."""


@attrs.define
class Silence:
    """Compares one look with the next: attempts that were repeated, and bytes that came."""

    _retries: int = 0
    _received: int = 0
    _gone: bool = False

    def look(self, statistics: asyncjobs.Statistics) -> str | None:
        """What there is to say after `LOOK_SECONDS` more, if anything."""
        tried, came = statistics.retries > self._retries, statistics.received_bytes > self._received
        self._retries, self._received = statistics.retries, statistics.received_bytes
        if came and self._gone:
            self._gone = False
            return "the server answers again"
        if tried and not came and not self._gone:
            self._gone = True
            return "the server does not answer; still trying"
        return None


@contextlib.asynccontextmanager
async def telling_of_silence(
    snapshot: Callable[[], asyncjobs.Statistics], say: Callable[[str], object]
) -> AsyncIterator[None]:
    """Look from time to time while the block runs."""
    silence = Silence()

    async def watch() -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if (text := silence.look(snapshot())) is not None:
                say(text)

    task = asyncio.create_task(watch())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
