"""The end of whoever owns some waits: each of them ends with it, and no wait of anybody else does.

Several clients may wait in one queue; closing one of them wakes only its own callers.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final

from asyncjobs._clock import Clock
from asyncjobs._errors import ClosedError

_CLOSED: Final = "this client was closed"


class Lifetime:
    """Lasts until `end`. What is waited for inside `async with lifetime.wait()` ends with it."""

    def __init__(self) -> None:
        self.is_over = False
        self.waits: dict[asyncio.Timeout, None] = {}
        """What is under way, each as its own timeout, oldest first: a set would end them in any order."""

    def check(self) -> None:
        """Go on only while it lasts.

        Raises:
            ClosedError: It is over.
        """
        if self.is_over:
            raise ClosedError(_CLOSED)

    def wait(self) -> Wait:
        """A context in which anything may be waited for.

        Raises:
            ClosedError: On entering when it is over, or as soon as it ends; what was waited for is
                cancelled, as by a timeout.
        """
        return Wait(self)

    def end(self) -> None:
        """End it, and every wait; twice is fine."""
        self.is_over = True
        now = asyncio.get_running_loop().time()
        waits, self.waits = self.waits, {}
        for wait in waits:
            wait.reschedule(now)


class Wait:
    """One wait within a lifetime."""

    __slots__ = ("_lifetime", "_limit")

    def __init__(self, lifetime: Lifetime) -> None:
        self._lifetime = lifetime
        # A timeout without a date is asyncio's own way to end one wait of a task and spare the task.
        self._limit = asyncio.timeout(None)

    async def __aenter__(self) -> None:
        self._lifetime.check()
        await self._limit.__aenter__()
        self._lifetime.waits[self._limit] = None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lifetime.waits.pop(self._limit, None)
        over = False
        try:
            await self._limit.__aexit__(kind, error, trace)
        except TimeoutError:
            over = True
        if over:
            raise ClosedError(_CLOSED) from None


class ClosingClock:
    """A clock on which nobody sleeps longer than a lifetime: a sleep is cut short by its end."""

    def __init__(self, clock: Clock, lifetime: Lifetime) -> None:
        self._clock = clock
        self._lifetime = lifetime
        self.monotonic = clock.monotonic
        self.time = clock.time

    async def sleep(self, seconds: float) -> None:
        """Wait that long, or until the end; whoever then asks for anything hears `ClosedError`."""
        if self._lifetime.is_over:
            await asyncio.sleep(0)
            return
        try:
            async with self._lifetime.wait():
                await self._clock.sleep(seconds)
        except ClosedError:
            return
