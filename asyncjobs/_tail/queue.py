"""Events from many tails to who takes them: bounded in bytes, fair, and closed with or without an error."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class EventQueue(Generic[T]):
    """Batches in, single events out; several may take them, and each event comes once.

    Args:
        limit: Weight (bytes of log) that may wait; whoever brings more waits until it was taken. One
            batch is always let in, however heavy.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._weight = 0
        self._batches: deque[tuple[deque[T], int]] = deque()
        self._current: deque[T] = deque()
        self._putters: deque[asyncio.Future[None]] = deque()
        self._arrived = asyncio.Event()
        self._closed = False
        self._error: BaseException | None = None

    async def put(self, batch: list[T], weight: int) -> None:
        """Add events; waits in line while the queue is full.

        Cancellation: the batch was not added.
        """
        if not batch:
            return
        if self._putters or self._weight >= self._limit:
            turn = asyncio.get_running_loop().create_future()
            self._putters.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn in self._putters:
                    self._putters.remove(turn)
                else:
                    self._next_putter()
                raise
        self._batches.append((deque(batch), weight))
        self._weight += weight
        self._arrived.set()
        self._next_putter()

    def close(self, error: BaseException | None = None) -> None:
        """Nothing more comes; what is there can still be taken, then *error* is raised if there is one."""
        self._closed = True
        self._error = error
        self._arrived.set()

    async def get(self) -> T:
        """The next event.

        Raises:
            StopAsyncIteration: Closed and empty.
            BaseException: Closed with this error, and empty.

        Cancellation: nothing is lost.
        """
        while not self._current:
            if self._batches:
                self._current, weight = self._batches.popleft()
                self._weight -= weight
                self._next_putter()
                break
            if self._closed:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        return self._current.popleft()

    def _next_putter(self) -> None:
        while self._putters and self._weight < self._limit:
            turn = self._putters.popleft()
            if not turn.done():
                turn.set_result(None)
                return
