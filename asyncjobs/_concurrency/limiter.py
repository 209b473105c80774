"""Slots: at most so many holders at once, first come first served."""

from __future__ import annotations

import asyncio
from types import TracebackType


class CapacityLimiter:
    """A bound on things under way at once; None is no bound.

    Use it as `async with limiter:`. Waiting is fair and leaves nothing behind when cancelled.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.in_flight = 0
        self._waiters: dict[asyncio.Future[None], None] = {}

    @property
    def is_full(self) -> bool:
        """Whether who comes now has to wait."""
        return bool(self._waiters) or (self.limit is not None and self.in_flight >= self.limit)

    @property
    def waiting(self) -> int:
        """How many wait for a slot."""
        return len(self._waiters)

    async def acquire(self) -> None:
        """Wait for a slot and take it."""
        if not self.is_full:
            self.in_flight += 1
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = None
        try:
            await waiter
        except asyncio.CancelledError:
            # The slot may have been handed over in the same turn of the loop: pass it on.
            if waiter.done() and not waiter.cancelled():
                self.release()
            self._waiters.pop(waiter, None)
            raise

    def release(self) -> None:
        """Give a slot back; the longest waiter gets it."""
        while self._waiters and (self.limit is None or self.in_flight <= self.limit):
            waiter = next(iter(self._waiters))
            del self._waiters[waiter]
            if not waiter.done():
                waiter.set_result(None)  # the slot changes hands, so the count stays
                return
        self.in_flight -= 1

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
