"""The clocks a FakeGitLab may run on: the event loop's, a faster one, and one moved by hand.

A clock tells `monotonic()`, `time()` and sleeps. It knows nothing of jobs; the world asks it for
the moment and works off what has fallen due.
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Protocol

START_EPOCH = 1_767_600_000.0
"""2026-01-05T08:00:00Z: where the default clock begins, a whole number of minutes since 1970."""


class FakeClock(Protocol):
    """What a FakeGitLab needs of time; client clocks of the same shape fit too."""

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...

    def time(self) -> float:
        """Seconds since the Unix epoch: dates, expiry and rate limit windows come from here."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait that long on this clock."""
        ...


class LoopClock:
    """The time of the event loop that serves, starting at a fixed date; stands still until served.

    On a loop with virtual time the server's time is virtual with it.
    """

    def __init__(self, start: float = START_EPOCH) -> None:
        self._start = start
        self._loop: asyncio.AbstractEventLoop | None = None
        self._zero = 0.0
        self._passed = 0.0

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to run with *loop*; called when the server starts."""
        self._zero = loop.time() - self._passed
        self._loop = loop

    def release(self) -> None:
        """Stand still again; called when the server stops."""
        self._passed = self.monotonic()
        self._loop = None

    def monotonic(self) -> float:
        """Seconds served so far."""
        return self._passed if self._loop is None else self._loop.time() - self._zero

    def time(self) -> float:
        """Seconds since the Unix epoch."""
        return self._start + self.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait on the loop."""
        await asyncio.sleep(max(0.0, seconds))


class ScaledClock:
    """Runs *speed* times faster than the machine's clock: for demos and servers to play with.

    Args:
        speed: Fake seconds per real second.
        start: First reading of `time()`; the machine's own time when None.
    """

    def __init__(self, speed: float = 1.0, *, start: float | None = None) -> None:
        if speed <= 0:
            raise ValueError(f"speed must be above 0, not {speed}")
        self.speed = speed
        self._start = time.time() if start is None else start
        self._zero = time.monotonic()

    def monotonic(self) -> float:
        """Fake seconds since the clock was made."""
        return (time.monotonic() - self._zero) * self.speed

    def time(self) -> float:
        """Fake seconds since the Unix epoch."""
        return self._start + self.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait *seconds* of this clock, which are fewer real ones."""
        await asyncio.sleep(max(0.0, seconds) / self.speed)


class ManualClock:
    """Moves only when `advance` is called, from any thread."""

    def __init__(self, start: float = START_EPOCH) -> None:
        self._start = start
        self._now = 0.0
        self._lock = threading.Lock()
        self._sleepers: list[tuple[float, asyncio.AbstractEventLoop, asyncio.Event]] = []

    def monotonic(self) -> float:
        """Seconds advanced so far."""
        return self._now

    def time(self) -> float:
        """Seconds since the Unix epoch."""
        return self._start + self._now

    def advance(self, seconds: float) -> None:
        """Move on and wake whoever slept until then."""
        if seconds < 0:
            raise ValueError(f"time does not go back: {seconds}")
        with self._lock:
            self._now += seconds
            due = [sleeper for sleeper in self._sleepers if sleeper[0] <= self._now]
            self._sleepers = [sleeper for sleeper in self._sleepers if sleeper[0] > self._now]
        for _, loop, event in due:
            loop.call_soon_threadsafe(event.set)

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock was advanced that far."""
        if seconds <= 0:
            return
        event = asyncio.Event()
        with self._lock:
            sleeper = (self._now + seconds, asyncio.get_running_loop(), event)
            self._sleepers.append(sleeper)
        try:
            await event.wait()
        finally:
            with self._lock:
                if sleeper in self._sleepers:
                    self._sleepers.remove(sleeper)
