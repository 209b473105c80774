"""Time, and nothing else: monotonic now, wall now, sleep. Whoever waits gets a clock passed in."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """What asyncjobs needs of time. Pass your own to run a client on a virtual one."""

    def monotonic(self) -> float:
        """Seconds that never go back, from an unknown start."""
        ...

    def time(self) -> float:
        """Seconds since the Unix epoch; compared with dates of servers only."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait; cancelling ends the wait at once."""
        ...


class SystemClock:
    """The clock of the running event loop and of the machine."""

    def monotonic(self) -> float:
        """Seconds of the event loop's clock (so a loop on virtual time takes the client with it)."""
        return asyncio.get_running_loop().time()

    def time(self) -> float:
        """Seconds since the Unix epoch."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Wait for that long."""
        await asyncio.sleep(max(0.0, seconds))
